"""A raw prompt is continued as it is: no chat template touches it."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from ensembles import engine as tiny_engine

from specfuse_core import Choice, FusionConfig, FusionEngine, Message, Request, Tool
from specfuse_core.errors import (
    EmptyConversationError,
    FusionError,
    InvalidMessageError,
    InvalidOptionError,
)
from specfuse_core.prompts.template import ChatTemplate
from specfuse_core.testing import ScriptedBackend


def test_a_text_is_continued() -> None:
    seen: list[Request] = []

    def script(request: Request, response: str) -> str:
        seen.append(request)
        return " sat on the mat."[len(response) :]

    fused = FusionEngine([ScriptedBackend("a", script)])
    answer = fused.complete("The cat", max_new_tokens=3, seed=1)
    assert (answer.text, answer.finish_reason) == (" sat on the", "length")
    assert (seen[0].prompt, seen[0].messages, seen[0].special_tokens) == ("The cat", (), False)
    streamed = fused.stream(Request(prompt="The cat"), max_new_tokens=3, seed=1)
    assert "".join(segment.text for segment in streamed) == answer.text


def test_marks_are_text_and_constraints_hold() -> None:
    text = "<think>So.</think>"
    assert FusionEngine([ScriptedBackend("a", text)]).complete("It says ").text == text
    chosen = FusionEngine([ScriptedBackend("a", "maybe")]).complete(
        "Is it? ", constraint=Choice(["yes", "no"])
    )
    assert chosen.text in ("yes", "no")


BAD: list[tuple[dict[str, Any], type[FusionError]]] = [
    ({"prompt": ""}, InvalidOptionError),
    ({"prompt": 5}, InvalidOptionError),
    ({"prompt": "\ud800"}, InvalidMessageError),
    ({"prompt": "a", "messages": (Message("user", "b"),)}, InvalidOptionError),
    ({"prompt": "a", "tools": (Tool("add"),)}, InvalidOptionError),
    ({"prompt": "a", "reasoning": True}, InvalidOptionError),
    ({"prompt": "a", "chat_template_kwargs": {"b": 1}}, InvalidOptionError),
    ({}, EmptyConversationError),
]


@pytest.mark.parametrize(("fields", "error"), BAD)
def test_what_has_no_meaning_is_refused(fields: dict[str, Any], error: type[FusionError]) -> None:
    with pytest.raises(error):
        Request(**fields)


@pytest.mark.parametrize("kind", ["bytelevel", "metaspace"])
def test_control_tokens_are_text_unless_asked_for(kind: str) -> None:
    owner = ChatTemplate(tiny.tokenizer(kind, tiny.CHATML), None, {}, [])
    text = "One <|im_start|>two"
    plain, marked = owner.raw(text), owner.raw(text, special_tokens=True)
    start = owner.codec.control_id("<|im_start|>")
    begins = [] if owner.codec.opening is None else [owner.codec.opening]
    assert start in marked.ids and start not in plain.ids[len(begins) :]
    for prompt in (plain, marked):
        assert list(prompt.ids[: len(begins)]) == begins
    assert owner.codec.decode_marked(list(marked.ids[len(begins) :])).strip() == text


def test_one_model_completes_as_its_own_generate_does() -> None:
    fused = tiny_engine([("llama", "bytelevel")], FusionConfig())
    (backend,) = fused.backends
    prompt = backend.template.raw("The lamps of the house")
    runner = backend.model.runner
    ids = runner.model.generate(
        torch.tensor([prompt.ids]), max_new_tokens=12, do_sample=False, use_cache=True
    )[0, len(prompt.ids) :]
    answer = fused.complete("The lamps of the house", max_new_tokens=12)
    expected = backend.template.codec.decode(ids.tolist(), list(prompt.ids[-5:]))
    # Random weights may write ids that are not the encoding of their text, but not at once.
    assert answer.text[:3] and expected.startswith(answer.text[:3])
