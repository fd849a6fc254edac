"""Finds the turns that a chat template renders without losing one of them.

What a template keeps depends on the roles of the turns and not on their contents. So each shape of
a conversation is tried once, with a mark in place of every content, and remembered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from specfuse_core.errors import TemplateError
from specfuse_core.prompts.dialects.spelling import WriteCalls
from specfuse_core.prompts.repairs import Repair, repairs
from specfuse_core.request import Message

__all__ = ["Fit", "Fitting"]

#: Stands for every thought.
_THOUGHT = "thought"

Render = Callable[[Sequence[Message], Sequence[Mapping[str, Any]]], str]


@dataclass(frozen=True, slots=True)
class Fit:
    """How the conversations of one shape are rendered.

    Args:
        repairs: what is done to the turns.
        lost: the turns that the template drops nevertheless, by their index.
    """

    repairs: tuple[Repair, ...]
    lost: tuple[int, ...] = ()


class Fitting:
    """Chooses repairs for one chat template.

    Args:
        render: renders turns and tools, and opens the assistant's next turn.
        write: writes calls in the model's form, for repairs that write them as text; by default
            they are in the common form.
    """

    def __init__(self, render: Render, write: WriteCalls = lambda calls: None) -> None:
        self._render = render
        self._repairs = repairs(write)
        self._found: dict[tuple[object, ...], Fit] = {}
        self._lock = threading.Lock()

    def rendered(self, turns: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The text of a conversation, with no turn lost.

        Raises:
            TemplateError: if the template refuses every form of the conversation, or drops the
                last turn of the user.
        """
        return self._render(_repaired(turns, self.fit(turns, tools).repairs), tools)

    def fit(self, turns: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Fit:
        """How a conversation is rendered: the least repair that loses the fewest turns.

        Raises:
            TemplateError: as :meth:`rendered`.
        """
        shape = (bool(tools), *(_shape(turn) for turn in turns))
        with self._lock:
            if shape not in self._found:
                self._found[shape] = self._tried(turns, tools)
            return self._found[shape]

    def _tried(self, turns: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> Fit:
        marked = [_marked(index, turn) for index, turn in enumerate(turns)]
        best: Fit | None = None
        refusal: TemplateError | None = None
        for combination in self._repairs:
            try:
                text = self._render(_repaired(marked, combination), tools)
            except TemplateError as error:
                refusal = refusal or error
                continue
            lost = tuple(i for i, turn in enumerate(marked) if not _kept(i, turn, text))
            if best is None or len(lost) < len(best.lost):
                best = Fit(combination, lost)
            if not lost:
                break
        if best is None:
            raise refusal or TemplateError(
                "the chat template renders no conversation; give another with "
                "ModelConfig(chat_template=...)."
            )
        asked = [index for index, turn in enumerate(turns) if turn.role == "user"]
        if asked and asked[-1] in best.lost:
            raise TemplateError(
                "the chat template drops the last turn of the user; give another with "
                "ModelConfig(chat_template=...)."
            )
        return best


def _repaired(turns: Sequence[Message], combination: Sequence[Repair]) -> list[Message]:
    repaired = list(turns)
    for repair in combination:
        repaired = repair.apply(repaired)
    return repaired


def _shape(turn: Message) -> tuple[object, ...]:
    """What a template may look at besides texts."""
    return (
        turn.role,
        bool(turn.content.strip()),
        bool(turn.reasoning),
        len(turn.tool_calls),
        turn.name is None,
        turn.tool_call_id is None,
    )


def _mark(index: int) -> str:
    return f"turn{index}mark"


def _marked(index: int, turn: Message) -> Message:
    """A turn of the same shape whose texts are marks."""
    mark = _mark(index)
    calls = [
        replace(call, arguments={f"{mark}{place}": ""})
        for place, call in enumerate(turn.tool_calls)
    ]
    content = mark if turn.content.strip() else turn.content
    # Most templates leave out earlier thoughts, so they have no mark.
    reasoning = _THOUGHT if turn.reasoning else ""
    return replace(turn, content=content, tool_calls=tuple(calls), reasoning=reasoning)


def _kept(index: int, turn: Message, text: str) -> bool:
    mark = _mark(index)
    calls = all(f"{mark}{place}" in text for place in range(len(turn.tool_calls)))
    if not turn.content.strip():
        return calls
    # Without the marks of the calls, which begin alike.
    for place in range(len(turn.tool_calls)):
        text = text.replace(f"{mark}{place}", "")
    return calls and mark in text
