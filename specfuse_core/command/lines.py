"""Makes text printable, and breaks its lines between words.

This module knows nothing of colours or models.
"""

from __future__ import annotations

import re
import unicodedata

from rich.cells import cell_len

__all__ = ["Lines", "one_line", "printable"]

_PIECES = re.compile(r"\n|[^\S\n]+|\S+")
# Invisible characters that reorder the text around them.
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """Replace the control characters of ``text``, except newline and tab.

    C0 controls become their pictures (ESC is shown as U+241B), carriage returns are dropped, and
    C1 controls, lone surrogates and bidirectional overrides become U+FFFD.
    """
    return "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character in "\n\t":
        return character
    if character == "\r":
        return ""
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if character in _REORDERING or unicodedata.category(character) in ("Cc", "Cs"):
        return "\ufffd"
    return character


def one_line(text: str) -> str:
    """Return ``text`` printable and on a single line."""
    return " ".join(printable(text).split())


class Lines:
    """Breaks streamed text at white space, before the terminal breaks its words."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0
        self._gap = ""

    def feed(self, text: str) -> str:
        """Return the text to show now. White space at its end is held back."""
        shown = ""
        for piece in _PIECES.findall(text):
            if piece == "\n":
                self._column, self._gap = 0, ""
                shown += "\n"
            elif piece.isspace():
                self._gap += piece
            else:
                fits = self._column + cell_len(self._gap + piece) <= self._width
                gap = self._gap if fits or not self._gap else "\n"
                self._column = 0 if gap == "\n" else self._column + cell_len(gap)
                # A word longer than a line is left to the terminal.
                self._column = (self._column + cell_len(piece) - 1) % self._width + 1
                self._gap = ""
                shown += gap + piece
        return shown
