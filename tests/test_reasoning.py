"""Thinking is switched on and off, limited and counted, per request and in both frameworks."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
from langchain_core.messages import AIMessage
from llama_index.core.llms import ChatMessage

from langchain_specfuse import ChatSpecFuse
from llamaindex_specfuse import SpecFuseLLM
from specfuse_core import Choice, FusionEngine, Message, Request
from specfuse_core.errors import InvalidLimitError, InvalidOptionError
from specfuse_core.prompts.template import ChatTemplate
from specfuse_core.testing import ScriptedBackend

THOUGHT = "one two three four five six seven eight nine ten"
ASK = Message("user", "Hi")


def engine(script: str, **options: Any) -> FusionEngine:
    return FusionEngine([ScriptedBackend("a", script, **options)])


@pytest.mark.parametrize("limit", [1, 3, 5])
@pytest.mark.parametrize("options", [{}, {"constraint": Choice(["yes", "no"])}], ids=["free", "in"])
def test_a_number_limits_the_tokens_of_thinking(limit: int, options: dict[str, Any]) -> None:
    answer = engine(f"<think>{THOUGHT}</think> yes").generate("Hi", reasoning=limit, **options)
    assert answer.finish_reason == "stop"
    assert len(answer.reasoning.split()) <= limit
    assert THOUGHT.startswith(answer.reasoning)
    assert answer.usage.reasoning_tokens <= limit + 1
    if options:
        assert answer.text in ("yes", "no")


def test_enough_tokens_of_thinking_change_nothing() -> None:
    answer = engine(f"<think>{THOUGHT}</think> yes").generate("Hi", reasoning=100)
    assert (answer.reasoning, answer.text) == (THOUGHT, "yes")
    assert answer.usage.reasoning_tokens == 10
    assert engine("yes").generate("Hi").usage.reasoning_tokens == 0


@pytest.mark.parametrize("bad", ["yes", [], 1.5])
def test_another_value_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidOptionError, match="reasoning must be True, False or a number"):
        engine("yes").generate("Hi", reasoning=bad)
    with pytest.raises(InvalidLimitError, match="at least 0"):
        engine("yes").generate("Hi", reasoning=-1)
    with pytest.raises(InvalidOptionError, match="chat_template_kwargs must be a mapping"):
        engine("yes").generate("Hi", chat_template_kwargs=bad)


SWITCHED = tiny.CHATML.replace(
    "{% if add_generation_prompt %}<|im_start|>assistant\n",
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{{ '<think>\n\n</think>\n\n' if enable_thinking is defined and not enable_thinking }}"
    "{{ 'Effort: ' + reasoning_effort if reasoning_effort is defined }}",
)


def test_the_switches_of_a_template_are_set() -> None:
    owner = ChatTemplate(tiny.tokenizer("bytelevel", SWITCHED), None, {}, [])
    decode = owner.codec.decode_marked
    assert owner.switches(None) == {}
    assert owner.switches(True) == owner.switches(64) == {"enable_thinking": True}
    assert owner.switches(False) == {"enable_thinking": False, "reasoning_effort": "low"}
    off = owner.varied(owner.switches(False))
    assert off is owner.varied(owner.switches(False)) is not owner
    assert decode(list(off.prompt([ASK]).ids)).endswith("</think>\n\nEffort: low")
    assert decode(list(owner.prompt([ASK]).ids)).endswith("<|im_start|>assistant\n")
    assert owner.varied({}) is owner


def test_variables_of_one_request_replace_those_of_the_model() -> None:
    owner = ChatTemplate(
        tiny.tokenizer("bytelevel", SWITCHED), None, {"reasoning_effort": "high"}, []
    )
    told = owner.varied({"reasoning_effort": "medium"}).prompt([ASK]).ids
    assert owner.codec.decode_marked(list(told)).endswith("Effort: medium")


@pytest.mark.parametrize("given", ["reasoning", "think", "enable_thinking"])
def test_both_frameworks_pass_it_on_and_count(given: str) -> None:
    seen: list[Request] = []

    def script(request: Request, response: str) -> str:
        seen.append(request)
        return f"<think>{THOUGHT}</think>\nyes"[len(response) :]

    fused = FusionEngine([ScriptedBackend("a", script)])
    chat = ChatSpecFuse(engine=fused, **{given: True}).invoke("Hi")
    assert isinstance(chat, AIMessage) and chat.usage_metadata is not None
    assert chat.usage_metadata["output_token_details"] == {"reasoning": 10}
    ChatSpecFuse(engine=fused).invoke("Hi", **{given: False})
    llm = SpecFuseLLM(engine=fused, chat_template_kwargs={"a": 1})
    answer = llm.chat([ChatMessage("Hi")], **{given: 50})
    assert answer.raw["usage"]["completion_tokens_details"] == {"reasoning_tokens": 10}
    assert {request.reasoning for request in seen} == {True, False, 50}
    assert seen[-1].chat_template_kwargs == {"a": 1}
