"""Escapes control tokens in messages, so that text from users never becomes a control token.

This module knows nothing of particular templates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from specfuse_core.prompts.codec import TextCodec
from specfuse_core.request import Message

__all__ = ["Escape"]

_PRIVATE = 0xF0000


class Escape:
    """Hides text that spells a control token from the chat template and from the tokenizer.

    Before rendering, each such text is replaced by a private-use character that no message
    contains. After rendering, the control tokens that remain come from the template. The hidden
    text is restored and encoded as ordinary text.

    Args:
        codec: the tokenizer.
        turns: the messages.
        tools: the tools in OpenAI's format.
    """

    def __init__(
        self, codec: TextCodec, turns: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self._codec = codec
        texts: list[str] = []

        def note(text: str) -> str:
            texts.append(text)
            return text

        for turn in turns:
            _map_texts(turn, note)
        _changed(tools, note)
        written = "".join(texts)
        pattern = codec.control_pattern
        spelled = sorted(set(pattern.findall(written))) if pattern else []
        free = (
            chr(code) for code in range(_PRIVATE, _PRIVATE + 0xFFFD) if chr(code) not in written
        )
        self._hidden = dict(zip(spelled, free, strict=False))

    def hide(self, turn: Message) -> Message:
        """Replace the control tokens in a message by private-use characters."""
        return _map_texts(turn, self._hide_text) if self._hidden else turn

    def hide_all(self, values: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Replace the control tokens in all texts of ``values``, such as tools."""
        return [_changed(value, self._hide_text) for value in values]

    def _hide_text(self, text: str) -> str:
        for spelled in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(spelled, self._hidden[spelled])
        return text

    def encode(self, rendered: str) -> list[int]:
        """Encode a rendered conversation."""
        pattern = self._codec.control_pattern
        if pattern is None:
            return self._codec.encode_marked(rendered)
        if not self._hidden:
            ids = self._codec.encode_marked(rendered)
            marks = [self._codec.control_id(name) for name in pattern.findall(rendered)]
            # A normalizer such as NFKC may create the text of a control token from other text.
            if [id_ for id_ in ids if id_ in self._codec.control] == marks:
                return ids
        return self._encode_between(rendered, pattern)

    def _encode_between(self, rendered: str, pattern: re.Pattern[str]) -> list[int]:
        """Encode ``rendered`` by encoding each text between control tokens separately."""
        ids: list[int] = []
        position = 0
        after_control = False
        for match in pattern.finditer(rendered):
            left, right = self._codec.strips(match.group())
            text = rendered[position : match.start()]
            ids += self._ordinary(text.rstrip() if left else text, position, after_control)
            id_ = self._codec.control_id(match.group())
            ids += [] if id_ is None else [id_]
            position = match.end()
            while right and rendered[position : position + 1].isspace():
                position += 1
            after_control = True
        return ids + self._ordinary(rendered[position:], position, after_control)

    def _ordinary(self, text: str, position: int, after_control: bool) -> list[int]:
        if not text:
            return []
        for spelled, hidden in self._hidden.items():
            text = text.replace(hidden, spelled)
        opens = self._codec.opens_with_space_after_control if after_control else position == 0
        return self._codec.encode(text, continuing=not opens).ids


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """Return ``value`` with ``change`` applied to every text in it."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_changed(key, change): _changed(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(item, change) for item in value]
    return value


def _map_texts(turn: Message, change: Callable[[str], str]) -> Message:
    """Return a message with ``change`` applied to every text of a user, a tool or a model."""
    return replace(
        turn,
        content=change(turn.content),
        reasoning=change(turn.reasoning),
        name=_changed(turn.name, change),
        tool_call_id=_changed(turn.tool_call_id, change),
        tool_calls=tuple(
            replace(
                call,
                name=change(call.name),
                id=change(call.id),
                arguments=_changed(call.arguments, change),
            )
            for call in turn.tool_calls
        ),
    )
