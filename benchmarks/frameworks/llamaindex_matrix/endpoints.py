"""Checks of every endpoint of an LLM, and of the event loop while the LLM answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from llama_index.core import PromptTemplate
from llama_index.core.llms import LLM
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step

from benchmarks.frameworks.llamaindex_matrix.checks import Checks
from benchmarks.frameworks.llamaindex_matrix.common import (
    ANSWER,
    FACTS,
    QUESTION,
    TOTAL,
    asked,
    joined,
    says,
)

CHECKS = Checks()


@CHECKS.add("endpoints")
def _chat(llm: LLM, content: bool) -> None:
    response = llm.chat(asked(QUESTION))
    assert response.message.role == "assistant"
    says(response.message.content, ANSWER, content)


@CHECKS.add("endpoints")
def _complete(llm: LLM, content: bool) -> None:
    says(llm.complete(asked(QUESTION)[0].content or "").text, ANSWER, content)


@CHECKS.add("endpoints")
def _stream_chat(llm: LLM, content: bool) -> None:
    responses = list(llm.stream_chat(asked(QUESTION)))
    joined = "".join(response.delta or "" for response in responses)
    assert joined == responses[-1].message.content
    says(joined, ANSWER, content)


@CHECKS.add("endpoints")
def _stream_complete(llm: LLM, content: bool) -> None:
    responses = list(llm.stream_complete(asked(QUESTION)[0].content or ""))
    joined = "".join(response.delta or "" for response in responses)
    assert joined == responses[-1].text
    says(joined, ANSWER, content)


@CHECKS.add("endpoints")
async def _achat(llm: LLM, content: bool) -> None:
    response = await llm.achat(asked(QUESTION))
    assert response.message.content == llm.chat(asked(QUESTION)).message.content
    says(response.message.content, ANSWER, content)


@CHECKS.add("endpoints")
async def _acomplete(llm: LLM, content: bool) -> None:
    says((await llm.acomplete(asked(QUESTION)[0].content or "")).text, ANSWER, content)


@CHECKS.add("endpoints")
async def _astream_chat(llm: LLM, content: bool) -> None:
    responses = [each async for each in await llm.astream_chat(asked(QUESTION))]
    joined = "".join(response.delta or "" for response in responses)
    assert joined == responses[-1].message.content
    says(joined, ANSWER, content)


@CHECKS.add("endpoints")
async def _astream_complete(llm: LLM, content: bool) -> None:
    stream = await llm.astream_complete(asked(QUESTION)[0].content or "")
    joined = "".join([each.delta or "" async for each in stream])
    says(joined, ANSWER, content)


@CHECKS.add("endpoints", name="predict and apredict")
async def _predict(llm: LLM, content: bool) -> None:
    prompt = PromptTemplate("{facts}\n{question}")
    values = {"facts": "\n".join(FACTS), "question": QUESTION}
    says(llm.predict(prompt, **values), ANSWER, content)
    says(await llm.apredict(prompt, **values), ANSWER, content)
    says("".join(llm.stream(prompt, **values)), ANSWER, content)
    says(await joined(await llm.astream(prompt, **values)), ANSWER, content)


@CHECKS.add("endpoints", name="two facts, one sum")
def _total(llm: LLM, content: bool) -> None:
    says(llm.chat(asked(TOTAL)).message.content, "19", content)


async def _beats(during: Awaitable[Any]) -> tuple[Any, int]:
    """Return the awaited result, and the number of turns of the event loop meanwhile."""
    turns = 0

    async def beat() -> None:
        nonlocal turns
        while True:
            # Turn fast at first, for models that are fast. Then leave the processor to the model.
            await asyncio.sleep(0 if turns < 1000 else 0.001)
            turns += 1

    beating = asyncio.create_task(beat())
    try:
        return await during, turns
    finally:
        beating.cancel()


@CHECKS.add("async")
async def _achat_lets_the_event_loop_run(llm: LLM, content: bool) -> None:
    _, turns = await _beats(llm.achat(asked(QUESTION)))
    assert turns > 2, f"the event loop had {turns} turns"


@CHECKS.add("async")
async def _astream_chat_lets_the_event_loop_run(llm: LLM, content: bool) -> None:
    async def drained() -> int:
        return len([each async for each in await llm.astream_chat(asked(QUESTION))])

    pieces, turns = await _beats(drained())
    assert turns > 2 * pieces, f"the event loop had {turns} turns for {pieces} pieces"


@CHECKS.add("async", name="answers beside each other")
async def _beside(llm: LLM, content: bool) -> None:
    questions = [asked(QUESTION), asked("Where does Anna live?")]
    alone = [(await llm.achat(question)).message.content for question in questions]
    beside = await asyncio.gather(*(llm.achat(question) for question in questions))
    assert [each.message.content for each in beside] == alone
    says(alone[1], "Oslo", content)


@CHECKS.add("async", name="workflow")
async def _workflow(llm: LLM, content: bool) -> None:
    class Asking(Workflow):
        @step
        async def ask(self, event: StartEvent) -> StopEvent:
            return StopEvent(result=str(await llm.acomplete(event.question)))

    question = asked(QUESTION)[0].content
    says(await Asking(timeout=300).run(question=question), ANSWER, content)


@CHECKS.add("endpoints", name="an over-long prompt is an error")
def _overlong(llm: LLM, content: bool) -> None:
    # Each "lamps " is at least one token in every tokenizer.
    long = "lamps " * (llm.metadata.context_window + 1)
    try:
        llm.complete(long)
    except (ValueError, TypeError) as error:
        raise AssertionError(f"synthesizers ignore a {type(error).__name__}") from error
    except Exception:
        return
    raise AssertionError("the LLM answered a prompt that does not fit its context window")
