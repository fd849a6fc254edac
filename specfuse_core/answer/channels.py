"""Splits the text of an answer into channels: text, reasoning and tool calls.

The text arrives in pieces of any length; where it is split does not change the result. Text that
may be the beginning of a marker is held back until more text arrives. This module knows nothing of
models or rounds.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

from specfuse_core.grammar.boundaries import overlap
from specfuse_core.grammar.calls import CALL_CLOSE, CALL_OPEN, ObjectEnd
from specfuse_core.grammar.openings import Offered, Place
from specfuse_core.grammar.thoughts import THINKING
from specfuse_core.request import ToolCall
from specfuse_core.types import CallDelta, Channel

__all__ = ["Channels", "Piece"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text of one channel.

    Args:
        channel: the channel.
        text: the text; it may be empty in the channel ``"tool_call"``.
        call: update of a tool call, in the channel ``"tool_call"``.
    """

    channel: Channel
    text: str
    call: CallDelta | None = None


class Channels:
    """Splits the text of one answer into channels.

    Args:
        offered: the tools whose calls to recognize, and whether the answer may begin with
            reasoning.
    """

    def __init__(self, offered: Offered) -> None:
        self._offered = offered
        self._state = "start" if offered.thinks else "text"
        self._place = Place()
        self._held = ""
        self._closing = ""
        self._bare = False  # whether to drop white space before the next text
        self._count = 0
        self._call = ToolCall("", {})
        self._arguments = ""
        self._scan = ObjectEnd()

    @property
    def in_call(self) -> bool:
        """Whether the text so far ends inside a tool call."""
        return self._state in ("head", "in_arguments", "tail")

    def feed(self, text: str) -> list[Piece]:
        """Append ``text`` to the answer and return the new pieces."""
        self._held += text
        pieces: list[Piece] = []
        before = None
        # Repeat until a step neither takes held text nor changes the state.
        while before != (self._state, self._held):
            before = (self._state, self._held)
            pieces += getattr(self, f"_{self._state}")()
        return pieces

    def flush(self, error: str, *, cut: bool = False) -> list[Piece]:
        """Return the text that is still held back at the end of the answer.

        Args:
            error: the error of a call that is incomplete.
            cut: whether the answer was cut off, so that a mark at its end counts as a call.
        """
        held, self._held = self._held, ""
        if self.in_call and self._call.id:
            call = replace(self._call, error=error)
            return [Piece("tool_call", "", CallDelta(self._count, call.id, call=call))]
        if cut and self._state == "text" and held.lstrip().startswith(CALL_OPEN):
            return []
        if not held or self.in_call:
            return []
        return [Piece("reasoning" if self._state == "reasoning" else "text", held)]

    def _start(self) -> Iterator[Piece]:
        begun = self._held.lstrip()
        for opening, closing in THINKING:
            if begun.startswith(opening):
                self._held, self._closing = begun.removeprefix(opening), closing
                self._state, self._bare = "reasoning", True
                return iter(())
        if not any(opening.startswith(begun) for opening, _ in THINKING):
            self._state = "text"
        return iter(())

    def _reasoning(self) -> Iterator[Piece]:
        self._skip_space()
        thought, found, rest = self._held.partition(self._closing)
        if found:
            self._state, self._bare, self._held = "text", True, rest
            thought = thought.rstrip()
        else:
            size = _tail(thought, self._closing)
            thought, self._held = thought[: len(thought) - size], thought[len(thought) - size :]
        if thought:
            yield Piece("reasoning", thought)

    def _text(self) -> Iterator[Piece]:
        self._skip_space()
        opening = self._offered.find(self._held, self._place)
        end = len(self._held) if opening is None else opening.start
        # White space before a call is not shown.
        said = self._held[:end].rstrip() if self._offered.names else self._held[:end]
        if opening is not None and opening.name:
            self._state, self._place, self._held = "head", Place(), self._held[opening.start :]
            self._call = ToolCall(opening.name, {}, f"call_{uuid.uuid4().hex[:24]}")
        else:
            self._place, self._held = self._place.after(said), self._held[len(said) :]
        if said:
            yield Piece("text", said)
        if self._state == "head":
            yield Piece("tool_call", "", CallDelta(self._count, self._call.id, self._call.name))

    def _head(self) -> Iterator[Piece]:
        opening = self._offered.find(self._held, Place())
        if opening is not None and opening.end is not None:
            self._state, self._held = "in_arguments", self._held[opening.end :]
            self._arguments, self._scan = "", ObjectEnd()
        return iter(())

    def _in_arguments(self) -> Iterator[Piece]:
        size = self._scan.feed(self._held)
        text, self._held = self._held[:size], self._held[size:]
        self._arguments += text
        if text:
            delta = CallDelta(self._count, self._call.id, arguments=text)
            yield Piece("tool_call", text, delta)
        if self._scan.closed:
            self._state = "tail"

    def _tail(self) -> Iterator[Piece]:
        _, found, rest = self._held.partition(CALL_CLOSE)
        if found:
            call = ToolCall(self._call.name, json.loads(self._arguments), self._call.id)
            delta = CallDelta(self._count, call.id, call=call)
            self._count += 1
            self._call = ToolCall("", {})
            self._state, self._bare, self._held = "text", True, rest
            yield Piece("tool_call", "", delta)

    def _skip_space(self) -> None:
        if self._bare:
            held = self._held.lstrip()
            self._place = self._place.after(self._held[: len(self._held) - len(held)])
            self._held, self._bare = held, not held


def _tail(text: str, mark: str) -> int:
    """Return the length of the tail of ``text`` that may begin ``mark``, with space before it."""
    begun = overlap(text, mark)
    rest = text[: len(text) - begun]
    return begun + len(rest) - len(rest.rstrip())
