"""What specfuse makes of a conversation beside what the tokenizer's own rendering is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from transformers import PreTrainedTokenizerFast

from benchmarks.prompts.conversations import Kind
from specfuse_core import Message
from specfuse_core.errors import FusionError
from specfuse_core.prompts.template import ChatTemplate
from specfuse_core.prompts.turns import as_mapping

__all__ = ["Comparison", "Outcome", "compare"]

Outcome = Literal["identical", "by design", "repaired", "refused", "different"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One conversation under one template.

    Args:
        outcome: how the two renderings compare.
        reason: why they are not identical; empty if they are, or if no reason is known.
    """

    outcome: Outcome
    reason: str = ""


def compare(tokenizer: PreTrainedTokenizerFast, owner: ChatTemplate, kind: Kind) -> Comparison:
    """The prompt of ``owner`` for a conversation, beside ``apply_chat_template``'s."""
    theirs = _theirs(tokenizer, kind)
    try:
        speech = owner.speech(kind.tools)
        ours = list(owner.prompt(kind.turns, kind.tools, speech=speech).ids)
    except FusionError as error:
        return Comparison("refused", f"{error}" if theirs is None else f"only here: {error}")
    if theirs is None:
        return Comparison("repaired", "the template refuses the conversation")
    if ours == theirs:
        return Comparison("identical")
    if lost := sorted(set(_lost(tokenizer, kind))):
        return Comparison("repaired", f"the template drops turns {lost}")
    if kind.tools and not owner.manner.describes_tools:
        return Comparison("repaired", "the template does not describe tools")
    if reason := _reason(owner, kind, ours, theirs):
        return Comparison("by design", reason)
    return Comparison("different")


def _theirs(tokenizer: PreTrainedTokenizerFast, kind: Kind) -> list[int] | None:
    try:
        return list(_rendered(tokenizer, kind.turns, kind))
    # Templates raise whatever Jinja or Python raises in them.
    except Exception:
        return None


def _rendered(tokenizer: PreTrainedTokenizerFast, turns: tuple[Message, ...], kind: Kind) -> Any:
    return tokenizer.apply_chat_template(
        [as_mapping(turn) for turn in turns],
        tools=[tool.as_dict() for tool in kind.tools] or None,
        add_generation_prompt=True,
        return_dict=False,
    )


def _lost(tokenizer: PreTrainedTokenizerFast, kind: Kind) -> Iterator[int]:
    """The turns whose text does not change the tokenizer's own rendering."""
    whole = _theirs(tokenizer, kind)
    for index, turn in enumerate(kind.turns):
        for other in _others(turn):
            turns = (*kind.turns[:index], other, *kind.turns[index + 1 :])
            if _theirs(tokenizer, Kind(kind.name, turns, kind.tools)) == whole:
                yield index


def _others(turn: Message) -> Iterator[Message]:
    """``turn`` with another text, and with other arguments in each of its calls."""
    if turn.content:
        yield replace(turn, content=f"{turn.content} xyzzy")
    for place, call in enumerate(turn.tool_calls):
        other = replace(call, arguments={**call.arguments, "city": "Xyzzy"})
        calls = (*turn.tool_calls[:place], other, *turn.tool_calls[place + 1 :])
        yield replace(turn, tool_calls=calls)


def _reason(owner: ChatTemplate, kind: Kind, ours: list[int], theirs: list[int]) -> str:
    text, own = (owner.codec.decode_marked(ids) for ids in (theirs, ours))
    cut = text.rstrip()
    if any(cut.endswith(mark) and own == cut.removesuffix(mark) for mark in owner.header.thoughts):
        return "the answer opens its thought itself"
    if owner.header.answer and own == text + owner.header.answer:
        return "the prompt goes on to where the answer begins"
    if kind.tools and not owner.manner.instructs:
        return "the engine's instruction is added, since no form of calls is understood"
    spelled = any(name in turn.content for turn in kind.turns for name in owner.codec.control_names)
    return "control tokens in a message are text" if spelled and own == text else ""
