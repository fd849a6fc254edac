"""Counts of prompts agree with what is accepted: what was measured to fit, fits every model."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, trim_messages
from llama_index.core.llms import ChatMessage

from langchain_specfuse import ChatSpecFuse
from langchain_specfuse.errors import PromptOverflowError
from llamaindex_specfuse import SpecFuseLLM
from specfuse_core import FusionEngine, Message, Request, Tool
from specfuse_core.bundled import bundled_models
from specfuse_core.config import ModelConfig
from specfuse_core.errors import PromptTooLongError
from specfuse_core.testing import ScriptedBackend

JAPANESE = "廊下にはランプが十二個あります。屋根裏部屋には七個あります。"
TOOL = {"name": "add", "description": "Add numbers.", "parameters": {"type": "object"}}


class Wordy(ScriptedBackend):
    """A model that needs ``factor`` tokens for a word, and ``template`` tokens for its template."""

    def __init__(self, name: str, factor: int, template: int, window: int) -> None:
        super().__init__(name, "Yes.", context_window=window)
        self.factor, self.template = factor, template

    def count_prompt_tokens(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> int:
        return super().count_prompt_tokens(messages, tools) * self.factor + self.template

    def token_ids(self, text: str) -> list[int]:
        return super().token_ids(text) * self.factor


ensembles = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 9), st.integers(20, 120)), min_size=1, max_size=4
)


@settings(max_examples=200, deadline=None)
@given(
    models=ensembles,
    words=st.integers(1, 90),
    cap=st.none() | st.integers(15, 130),
    tools=st.booleans(),
    idle=st.booleans(),
)
def test_a_prompt_is_accepted_if_and_only_if_its_count_is_within_the_profile(
    models: list[tuple[int, int, int]], words: int, cap: int | None, tools: bool, idle: bool
) -> None:
    backends = [Wordy(f"m{place}", *model) for place, model in enumerate(models)]
    used = [backend.name for backend in backends]
    if idle:
        # It takes no part, so its window does not matter.
        backends.append(Wordy("idle", 9, 9, 10))
    engine = FusionEngine(backends, drafters=used, verifiers=used)
    turns, given_tools = [Message("user", "word " * words)], [TOOL] if tools else []
    count = engine.count_prompt_tokens(turns, given_tools, context_window=cap)
    windows = [min(window, cap or window) for _, _, window in models]
    request = Request.of(turns, tools=given_tools, context_window=cap, max_new_tokens=1)
    try:
        answer = engine.generate(request)
    except PromptTooLongError:
        assert count >= min(windows)
    else:
        assert count < min(windows)
        assert answer.usage.prompt_tokens == count
    if len(set(windows)) == 1:
        counts = [each.count_prompt_tokens(request.messages, request.tools) for each in backends]
        assert count == max(counts[: len(models)])
    if not idle:
        model = ChatSpecFuse(engine=engine, context_window=cap)
        assert model.profile is not None
        assert model.profile["max_input_tokens"] == min(windows) - 1
        messages: list[BaseMessage] = [HumanMessage("word " * words)]
        assert model.get_num_tokens_from_messages(messages, given_tools) == count


@settings(max_examples=50, deadline=None)
@given(models=ensembles, words=st.integers(0, 30))
def test_a_text_is_counted_by_the_model_that_needs_the_most_tokens(
    models: list[tuple[int, int, int]], words: int
) -> None:
    engine = FusionEngine([Wordy(f"m{place}", *model) for place, model in enumerate(models)])
    text, most = " ".join(["word"] * words), max(factor for factor, _, _ in models)
    assert ChatSpecFuse(engine=engine).get_num_tokens(text) == words * most
    assert len(SpecFuseLLM(engine=engine).tokenizer(text)) == words * most


def accepted(model: ChatSpecFuse, messages: list[BaseMessage]) -> bool:
    with_one_token = model.model_copy(update={"max_tokens": 1})
    try:
        next(with_one_token.stream(messages))
    except PromptOverflowError:
        return False
    return True


@pytest.mark.parametrize("text", [JAPANESE, "lamp "], ids=["Japanese", "English"])
@pytest.mark.parametrize("windows", [(90, 90, 90), (100, 95, 110)], ids=["equal", "different"])
def test_the_bundled_models_accept_what_the_profile_allows_and_nothing_more(
    text: str, windows: tuple[int, ...]
) -> None:
    models = [
        ModelConfig(path=str(path), context_window=window)
        for path, window in zip(bundled_models(), windows, strict=True)
    ]
    model = ChatSpecFuse(models=models)
    assert model.profile is not None
    limit = model.profile["max_input_tokens"]

    def messages(length: int) -> list[BaseMessage]:
        return [HumanMessage((text * 90)[:length])]

    def size(length: int) -> int:
        return model.get_num_tokens_from_messages(messages(length))

    longest = bisect.bisect_right(range(1, 500), limit, key=size)
    assert size(longest) <= limit < size(longest + 1)
    assert accepted(model, messages(longest))
    assert not accepted(model, messages(longest + 1))


def test_a_history_that_was_trimmed_fits() -> None:
    model = ChatSpecFuse(context_window=300, max_tokens=1)
    history: list[BaseMessage] = [
        kind(JAPANESE) for _ in range(20) for kind in (HumanMessage, AIMessage)
    ]
    history.append(HumanMessage(JAPANESE))
    assert model.profile is not None
    kept = trim_messages(
        history,
        max_tokens=model.profile["max_input_tokens"],
        token_counter=model,
        strategy="last",
        start_on="human",
    )
    assert 1 < len(kept) < len(history)
    answer: Any = model.invoke(kept)
    assert answer.usage_metadata["input_tokens"] == model.get_num_tokens_from_messages(kept)
    counts = [used.cost.prompt_tokens for used in model._base().generate(JAPANESE).usage.models]
    # The first model does not need the most tokens, so its count would not do.
    assert counts[0] < max(counts)


def test_the_usage_of_both_frameworks_is_the_count_of_the_engine() -> None:
    llm, chat = SpecFuseLLM(max_tokens=1), ChatSpecFuse(max_tokens=1)
    count = chat.get_num_tokens_from_messages([HumanMessage(JAPANESE)])
    response = llm.chat([ChatMessage(role="user", content=JAPANESE)])
    assert response.raw is not None
    assert response.raw["usage"]["prompt_tokens"] == count
    answer: Any = chat.invoke(JAPANESE)
    assert answer.usage_metadata["input_tokens"] == count
