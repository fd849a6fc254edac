"""Splits the text of an answer into channels: text, reasoning and tool calls.

The text arrives in pieces of any length; where it is split does not change the result. Text that
may be the beginning of a marker is held back until more text arrives. This module knows nothing of
models or rounds.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

from specfuse_core.grammar.boundaries import overlap
from specfuse_core.grammar.calls import CALL_CLOSE, CALL_OPEN
from specfuse_core.request import ToolCall
from specfuse_core.types import CallDelta, Channel

__all__ = ["THINKING", "Channels", "Piece"]

#: Markers around a model's reasoning that are plain text: (opening, closing).
THINKING = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
)
_HEAD = re.compile(r'\s*\{"name": ("(?:[^"\\]|\\.)*"), "arguments": ')


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
        calls: whether to recognize tool calls.
        thinks: whether to recognize reasoning at the beginning of the answer.
    """

    def __init__(self, *, calls: bool, thinks: bool = True) -> None:
        self._calls = calls
        self._state = "start" if thinks else "text"
        self._held = ""
        self._closing = ""
        self._bare = False  # whether to drop white space before the next text
        self._count = 0
        self._call = ToolCall("", {})
        self._arguments = ""
        self._scan = _Object()

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

    def flush(self, error: str) -> list[Piece]:
        """Return the text that is still held back at the end of the answer.

        Args:
            error: the error of a call that is incomplete.
        """
        held, self._held = self._held, ""
        if self.in_call and self._call.id:
            call = replace(self._call, error=error)
            return [Piece("tool_call", "", CallDelta(self._count, call.id, call=call))]
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
        said = self._held
        if self._calls:
            said, found, rest = self._held.partition(CALL_OPEN)
            if found:
                self._state, self._held, said = "head", rest, said.rstrip()
            else:
                size = _tail(said, CALL_OPEN)
                said, self._held = said[: len(said) - size], said[len(said) - size :]
        else:
            self._held = ""
        if said:
            yield Piece("text", said)

    def _head(self) -> Iterator[Piece]:
        match = _HEAD.match(self._held)
        if match:
            self._state, self._held = "in_arguments", self._held[match.end() :]
            self._arguments, self._scan = "", _Object()
            self._call = ToolCall(json.loads(match[1]), {}, f"call_{uuid.uuid4().hex[:24]}")
            delta = CallDelta(self._count, self._call.id, self._call.name)
            yield Piece("tool_call", "", delta)

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
            self._held = self._held.lstrip()
            self._bare = not self._held


def _tail(text: str, mark: str) -> int:
    """Return the length of the tail of ``text`` that may begin ``mark``, with space before it."""
    begun = overlap(text, mark)
    rest = text[: len(text) - begun]
    return begun + len(rest) - len(rest.rstrip())


class _Object:
    """Finds the end of one JSON object."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = self._escaped = False
        self.closed = False

    def feed(self, text: str) -> int:
        """Return how many characters of ``text`` belong to the object."""
        for index, character in enumerate(text):
            if self.closed:
                return index
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped = character == "\\"
                self._quoted = character != '"'
            elif character == '"':
                self._quoted = True
            else:
                self._depth += (character in "{[") - (character in "}]")
                self.closed = self._depth == 0
        return len(text)
