"""Checks of answers as pydantic objects, with and without streaming."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from llama_index.core import PromptTemplate
from llama_index.core.instrumentation.events.llm import LLMChatStartEvent
from llama_index.core.llms import LLM, ChatMessage

from benchmarks.frameworks.llamaindex_matrix.checks import Checks
from benchmarks.frameworks.llamaindex_matrix.common import (
    EXTRACT,
    PERSON,
    Person,
    Pet,
    watching,
    with_set,
)

CHECKS = Checks()


_ANNA = Person(name="Anna", age=31, city="Oslo")


@CHECKS.add("structured answers")
async def _structured_predict(llm: LLM, content: bool) -> None:
    prompt = PromptTemplate(EXTRACT)
    for found in (
        llm.structured_predict(Person, prompt, text=PERSON),
        await llm.astructured_predict(Person, prompt, text=PERSON),
    ):
        assert isinstance(found, Person)
        if content:
            assert found == _ANNA


@CHECKS.add("structured answers")
async def _structured_predict_streaming(llm: LLM, content: bool) -> None:
    prompt = PromptTemplate(EXTRACT)
    found: list[Any] = list(llm.stream_structured_predict(Person, prompt, text=PERSON))
    _check_partials(found, content)
    stream = await llm.astream_structured_predict(Person, prompt, text=PERSON)
    _check_partials([each async for each in stream], content)


def _check_partials(found: Sequence[Any], content: bool) -> None:
    assert isinstance(found[-1], Person), f"the last object is {found[-1]!r}"
    filled = [len([v for v in each.model_dump().values() if v is not None]) for each in found]
    assert filled == sorted(filled), "a later object has fewer fields"
    if content:
        assert found[-1] == _ANNA


@CHECKS.add("structured answers", bundled=False)
def _structured_predict_of_nested_classes(llm: LLM, content: bool) -> None:
    found = llm.structured_predict(Pet, PromptTemplate("{text}"), text=f"A 'cat' of Anna. {PERSON}")
    assert isinstance(found, Pet)
    assert isinstance(found.owner, Person)
    if content:
        assert found == Pet(kind="cat", owner=_ANNA)


@CHECKS.add("structured answers")
async def _structured_llm(llm: LLM, content: bool) -> None:
    made = llm.as_structured_llm(Person)
    question = [ChatMessage(role="user", content=EXTRACT.format(text=PERSON))]
    for response in (made.chat(question), await made.achat(question)):
        assert isinstance(response.raw, Person)
        assert Person.model_validate_json(response.message.content or "") == response.raw
        if content:
            assert response.raw == _ANNA


@CHECKS.add("structured answers")
def _templates_stay_as_they_are(llm: LLM, content: bool) -> None:
    prompt = PromptTemplate(EXTRACT)
    before = copy.deepcopy(prompt)
    llm.structured_predict(Person, prompt, text=PERSON)
    assert prompt.output_parser is None
    assert prompt.model_dump() == before.model_dump()


@CHECKS.add("structured answers")
def _a_system_prompt_is_told(llm: LLM, content: bool) -> None:
    with watching() as events, with_set(llm, "system_prompt", "Be brief."):
        llm.structured_predict(Person, PromptTemplate(EXTRACT), text=PERSON)
    starts = [event for event in events if isinstance(event, LLMChatStartEvent)]
    told = [[message.role.value for message in start.messages] for start in starts]
    assert told == [["system", "user"]], told
