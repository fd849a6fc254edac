"""A response in the common form -> the pieces that one model reads in its own form.

The state of a session is the encoding of these pieces. This module knows nothing of ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from specfuse_core.grammar.calls import CALL_CLOSE, CALL_OPEN
from specfuse_core.grammar.thoughts import THOUGHT_CLOSE, THOUGHT_OPEN
from specfuse_core.prompts.dialects.table import Form

__all__ = ["Piece", "Spelling"]

#: Calls that follow each other, with nothing else between them.
_CALLS = re.compile(rf"(?:\s*{CALL_OPEN}\n(?:(?!{CALL_CLOSE}).)*\n{CALL_CLOSE})+", re.DOTALL)
_BODY = re.compile(rf"{CALL_OPEN}\n((?:(?!{CALL_CLOSE}).)*)\n{CALL_CLOSE}", re.DOTALL)

#: Writes calls as the chat template writes them; None if it does not.
WriteCalls = Callable[[Sequence[tuple[str, Mapping[str, Any]]]], str | None]


class Piece(NamedTuple):
    """A piece of a response, and whether its control tokens count as such."""

    text: str
    marked: bool = False


class Spelling:
    """Spells responses in one model's form.

    Args:
        form: the form that the model writes.
        write: writes calls in it.
    """

    def __init__(self, form: Form, write: WriteCalls) -> None:
        self._form = form
        self._native = lru_cache(64)(lambda calls: _native(calls, write))

    @property
    def header(self) -> Piece:
        """The marks before the text of an answer; without text if the form has none."""
        return Piece(self._form.content, True)

    def pieces(self, text: str) -> list[Piece]:
        """The pieces of a response, none of them empty. The last one may still grow."""
        pieces: list[Piece] = []
        rest = text
        if self._form.thinking is not None and text.lstrip().startswith(THOUGHT_OPEN):
            opening, closing = self._form.thinking
            thought, closed, rest = (
                text.lstrip().removeprefix(THOUGHT_OPEN).partition(THOUGHT_CLOSE)
            )
            pieces += [Piece(opening, True), Piece(thought)]
            if closed:
                pieces.append(Piece(closing, True))
        position, said = 0, False
        for match in _CALLS.finditer(rest):
            native = self._native(match.group())
            if native is None:
                continue
            before = rest[position : match.start()]
            pieces += self._said(before, said)
            said = said or bool(before)
            pieces.append(Piece((self._form.between if said else "") + native, True))
            position, said = match.end(), False
        pieces += self._said(rest[position:], said)
        return [piece for piece in pieces if piece.text]

    def _said(self, text: str, said: bool) -> list[Piece]:
        if not text:
            return []
        return [Piece(text)] if said else [self.header, Piece(text)]


def _native(text: str, write: WriteCalls) -> str | None:
    """Calls in the common form, written in the model's; None if they are not whole."""
    calls: list[tuple[str, Mapping[str, Any]]] = []
    for body in _BODY.findall(text):
        try:
            call = json.loads(body)
            calls.append((call["name"], call["arguments"]))
        except (ValueError, KeyError, TypeError):
            return None
    return write(calls)
