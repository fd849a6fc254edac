"""Positions in a search over the texts that a grammar allows, and what a search may cost.

This module knows nothing of how a search chooses its way (see ``closing``).
"""

from __future__ import annotations

import bisect
from collections import Counter
from dataclasses import dataclass
from typing import Any

from specfuse_core.grammar.endings import Trail
from specfuse_core.grammar.matching import allowed_mask

__all__ = ["Effort", "Memory", "Spot"]

#: Number of steps of matchers that one search may take.
_MOST_STEPS = 800
#: How often a search that failed is left out before it is tried again.
_FORGET = 8


@dataclass(slots=True)
class Effort:
    """The steps of matchers that a search has left, and those that it has taken."""

    left: int = _MOST_STEPS
    taken: int = 0

    def take(self, steps: int = 1) -> None:
        """Take steps. There may be fewer left."""
        self.left -= steps
        self.taken += steps


class Memory:
    """What the searches of one answer found."""

    def __init__(self, whole: bytes = b"") -> None:
        #: A completion of the whole grammar, from its beginning; empty if none is known.
        self.whole = whole
        #: The text that led to where something may end, by the steps that were possible.
        self.nearest: dict[tuple[bytes, ...], bytes | None] = {}
        self._failed: Counter[object] = Counter()

    def copy(self) -> Memory:
        """Return a memory of the same content for another answer."""
        copy = Memory(self.whole)
        copy.nearest = dict(self.nearest)
        copy._failed = self._failed.copy()
        return copy

    def tries(self, look: object) -> bool:
        """Whether to search where things look so: not if that failed a short time ago."""
        self._failed[look] += self._failed[look] > 0
        return self._failed[look] % _FORGET == 0

    def learn(self, look: object, found: bytes | None) -> None:
        """Note the result of a search where things look so."""
        self._failed[look] = int(found is None)


class _Cursor:
    """One matcher that moves between the texts of a search.

    A copy of a matcher costs time for all that it has consumed, so there is only one.
    """

    def __init__(self, start: Any, effort: Effort) -> None:
        self._matcher = start.deep_copy()
        self._effort = effort
        self._text = b""

    def at(self, text: bytes) -> Any:
        """Return the matcher after ``text``."""
        if text != self._text:
            shared = _shared(text, self._text)
            if shared < len(self._text):
                self._matcher.rollback(len(self._text) - shared)
            if shared < len(text):
                self._matcher.consume_tokens([*text[shared:]])
            self._effort.take((len(text) + len(self._text) - 2 * shared) // 64)
            self._text = text
        return self._matcher


def _shared(text: bytes, other: bytes) -> int:
    """Return the number of bytes that both texts begin with."""
    most = min(len(text), len(other))
    return bisect.bisect_left(range(most), True, key=lambda n: text[: n + 1] != other[: n + 1])


class Spot:
    """A position in a search: the text that led to it from the start."""

    __slots__ = ("_cursor", "_read", "_trail", "text")

    def __init__(self, cursor: _Cursor, trail: Trail, text: bytes = b"", read: int = 0) -> None:
        self._cursor = cursor
        self._trail = trail
        self._read = read
        self.text = text

    @classmethod
    def at(cls, start: Any, trail: Trail, effort: Effort) -> Spot:
        """Return the first spot of a search.

        Args:
            start: the matcher to start from; it is not changed.
            trail: the trail of the text before the search.
            effort: the steps that the search may take.
        """
        return cls(_Cursor(start, effort), trail)

    def after(self, step: bytes, effort: Effort) -> Spot:
        """Return the spot after ``step``."""
        effort.take()
        return Spot(self._cursor, self._trail, self.text + step, self._read)

    def legal(self, text: bytes) -> bool:
        """Whether ``text`` may follow."""
        return bool(self.matcher.validate_tokens([*text]) == len(text))

    @property
    def matcher(self) -> Any:
        """The matcher at this spot. It is there until another spot is looked at."""
        return self._cursor.at(self.text)

    @property
    def mask(self) -> int:
        """The bytes that may follow, one bit for each."""
        return allowed_mask(self.matcher)

    @property
    def trail(self) -> Trail:
        """The trail after the text, without a character that is not complete."""
        new = self.text[self._read :].decode(errors="ignore")
        self._trail = self._trail.after(new)
        self._read += len(new.encode())
        return self._trail

    @property
    def accepts(self) -> bool:
        """Whether the text may end here."""
        return bool(self.matcher.is_accepting())
