"""Where a segment may end, and what must be held back: pure functions on text.

This module knows nothing of tokens; it sees only characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

__all__ = ["StopBuffer", "complete_characters", "complete_words", "overlap"]

REPLACEMENT = "\ufffd"
# Marks inside a word: a segment that ends with one is still within it ("don'", "half-", "snake_").
_JOINERS = frozenset("'\u2019-_\u2010\u2011")


def complete_characters(text: str) -> str:
    """``text`` without a trailing character whose bytes have not all been drafted yet.

    Byte-level tokenizers decode such a character to U+FFFD.
    """
    return text.rstrip(REPLACEMENT)


def complete_words(text: str) -> str:
    """``text`` cut back to the end of its last complete word; all of it if that leaves nothing.

    A word is complete when white space or punctuation follows it; characters of scripts written
    without spaces are complete by themselves. Spaces after it go to the next segment, where most
    tokenizers want them; line breaks stay, since many have tokens such as a full stop with a line
    break: a model that wants to go on in a new line could not, after the full stop alone.
    """
    for end in range(len(text), 0, -1):
        if _ends_word(text, end):
            breaks = len(text[end:]) - len(text[end:].lstrip("\r\n"))
            # Unless a stray mark follows, which would belong to the last of them.
            return text[: end + breaks] if not _mark(text[end + breaks :][:1]) else text[:end]
    return text


def _ends_word(text: str, end: int) -> bool:
    # A combining mark belongs to the character that it follows, whatever that is.
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
    """Passes text on, but holds back a tail that could be the start of a stop string.

    A stop string may span any number of segments. Where several are found, the one that ends
    first counts (of equal ends, the one that starts first), so that the way in which the text is
    cut into segments changes nothing.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Take ``text``; return what may be emitted now, and whether a stop string was found."""
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
        """What is still held, when the answer ends without a stop string."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Length of the longest tail of ``text`` that is a proper start of ``stop``."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
