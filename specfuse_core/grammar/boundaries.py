"""Decides where a segment may end, and finds stop strings.

This module sees characters only. It knows nothing of tokens.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

__all__ = ["StopBuffer", "complete_characters", "complete_words", "overlap"]

REPLACEMENT = "\ufffd"
# Characters that join parts of a word, so that a word cannot end after one ("don'", "half-").
_JOINERS = frozenset("'\u2019-_\u2010\u2011")


def complete_characters(text: str) -> str:
    """Remove a trailing character of ``text`` whose bytes have not all been drafted yet.

    Byte-level tokenizers decode such a character to U+FFFD.
    """
    return text.rstrip(REPLACEMENT)


def complete_words(text: str) -> str:
    """Cut ``text`` back to the end of its last complete word.

    A word is complete if white space or punctuation follows it. In scripts that are written without
    spaces, each character is complete. Spaces after the word are cut, because most tokenizers join
    them to the next word. Line breaks after the word stay, because many tokenizers join them to the
    punctuation before: after a full stop alone, a model could hardly begin a new line.

    Args:
        text: the drafted text.

    Returns:
        The shortened text, or all of ``text`` if it contains no complete word.
    """
    for end in range(len(text), 0, -1):
        if _ends_word(text, end):
            breaks = len(text[end:]) - len(text[end:].lstrip("\r\n"))
            # A combining mark after the line breaks would belong to the last one.
            return text[: end + breaks] if not _mark(text[end + breaks :][:1]) else text[:end]
    return text


def _ends_word(text: str, end: int) -> bool:
    # A combining mark belongs to the character before it.
    last = next((c for c in reversed(text[:end]) if not _mark(c)), text[0])
    if last.isspace():
        return False
    if end < len(text):
        after = text[end]
        if _mark(after):
            return False
        if after.isspace():
            return True
        # "3.14", "don't", "a-b": punctuation between two word characters is inside a word.
        if _in_word(after) and not _spaceless(after):
            return _spaceless(last)
    return _spaceless(last) or not _in_word(last)


def _in_word(character: str) -> bool:
    return character.isalnum() or character in _JOINERS or _mark(character)


def _mark(character: str) -> bool:
    return bool(character) and unicodedata.category(character).startswith("M")


def _spaceless(character: str) -> bool:
    """Whether the character's script writes words without spaces (CJK, kana, Thai, ...)."""
    code = ord(character)
    return (
        0x0E00 <= code <= 0x0EFF  # Thai, Lao
        or 0x1780 <= code <= 0x17FF  # Khmer
        or 0x3040 <= code <= 0x30FF  # kana
        or 0x3400 <= code <= 0x9FFF  # CJK ideographs
        or 0xF900 <= code <= 0xFAFF
        or 0x20000 <= code <= 0x3FFFF
    )


class StopBuffer:
    """Passes text on until a stop string, and holds back a tail that may begin a stop string.

    A stop string may span any number of segments. If several are found, the one that ends first
    counts, and of those the one that starts first. The result therefore does not depend on where
    the text is split into segments.

    Args:
        stop: the stop strings.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Append ``text``; return the text to emit now, and whether a stop string was found."""
        text = self._held + text
        starts = [(text.find(stop), stop) for stop in self._stop]
        found = [(start + len(stop), start) for start, stop in starts if start >= 0]
        if found:
            self._held = ""
            return text[: min(found)[1]], True
        hold = max((overlap(text, stop) for stop in self._stop), default=0)
        cut = len(text) - hold
        self._held = text[cut:]
        return text[:cut], False

    def flush(self) -> str:
        """Return the text that is still held back at the end of the answer."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Return the length of the longest tail of ``text`` that is a proper prefix of ``stop``."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
