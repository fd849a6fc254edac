"""Checks of token counts, usage, events and copies of an LLM."""

from __future__ import annotations

import copy

from llama_index.core.instrumentation.events.llm import LLMChatEndEvent
from llama_index.core.llms import LLM

from benchmarks.frameworks.llamaindex_matrix.checks import Checks
from benchmarks.frameworks.llamaindex_matrix.common import (
    QUESTION,
    asked,
    counting,
    watching,
)

CHECKS = Checks()


@CHECKS.add("watching")
async def _tokens_are_counted_once_a_call(llm: LLM, content: bool) -> None:
    with counting(llm) as counter:
        llm.chat(asked(QUESTION))
        await llm.achat(asked(QUESTION))
        list(llm.stream_chat(asked(QUESTION)))
        llm.complete("Hello")
    assert len(counter.llm_token_counts) == 4, f"{len(counter.llm_token_counts)} for 4 calls"
    for counted in counter.llm_token_counts:
        assert counted.prompt_token_count > 0
        assert counted.completion_token_count > 0


@CHECKS.add("watching")
def _usage_is_reported(llm: LLM, content: bool) -> None:
    usage = dict(llm.chat(asked(QUESTION)).raw or {})["usage"]
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] > 0


@CHECKS.add("watching")
def _a_call_is_one_event(llm: LLM, content: bool) -> None:
    with watching() as events:
        llm.chat(asked(QUESTION))
        list(llm.stream_chat(asked(QUESTION)))
    starts = [type(event).__name__ for event in events if "StartEvent" in type(event).__name__]
    assert starts == ["LLMChatStartEvent"] * 2, starts
    blocking, streamed = (event.response for event in events if isinstance(event, LLMChatEndEvent))
    assert blocking is not None
    assert streamed is not None
    assert blocking.message.content == streamed.message.content


@CHECKS.add("watching")
def _copies_answer(llm: LLM, content: bool) -> None:
    said = llm.chat(asked(QUESTION)).message.content
    assert copy.deepcopy(llm).chat(asked(QUESTION)).message.content == said
