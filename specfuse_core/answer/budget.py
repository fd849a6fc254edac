"""How much text an answer may still have, in the tokens of one base model.

This module counts, and closes what a constraint has opened before the tokens run out; it knows
nothing of rounds.
"""

from __future__ import annotations

from collections.abc import Callable

from specfuse_core.answer.follower import Follower
from specfuse_core.request import Request

__all__ = ["Budget"]

#: Places in a segment that are tried for closing an answer after them.
_CUTS = 24


class Budget:
    """What is left of ``max_new_tokens``.

    Args:
        count: how many tokens a text has for the model whose tokens count.
        request: gives the limit, and the turn that the answer goes on from.
        follower: the answer's way through its grammar, if it has one; it goes on with ``take``.
    """

    def __init__(
        self, count: Callable[[str], int], request: Request, follower: Follower | None = None
    ) -> None:
        final = request.messages[-1]
        self._count = count
        # An answer that goes on from a final assistant turn is counted from its end.
        self._text = final.content if final.role == "assistant" else ""
        self._start = len(self._text)
        self._before = count(self._text) if self._text else 0
        self._limit = request.max_new_tokens
        self._segments = 0
        self._follower = follower
        self.spent = 0

    @property
    def text(self) -> str:
        """What was written of the answer."""
        return self._text[self._start :]

    @property
    def left(self) -> int:
        """Tokens that the answer may still have."""
        # Where this tokenizer drops text (white space, say), a model that writes nothing else
        # would never stop: no answer needs more segments than it may have tokens.
        return self._limit - self.spent if self._segments <= self._limit else 0

    def take(self, text: str) -> str:
        """The longest start of ``text`` that fits; it is spent.

        Under a grammar that start is followed by what closes the answer, if ``text`` would leave
        too little room for that. If no room was left in the first place, the answer is just cut.
        """
        self._segments += 1
        fits = self._closed(text) if self._follower else text
        if fits == text and self._measure(text) > self._limit:
            fits = self._cut(text)
        if fits != text:
            # Nothing more will fit, whatever the count of the cut text is.
            self.spent = self._limit
        if self._follower:
            self._follower.push(fits)
        self._text += fits
        self.spent = max(self.spent, self._count(self._text) - self._before)
        return fits

    def keep(self, length: int) -> None:
        """Cut the answer back to its first ``length`` characters, as a stop string does."""
        self._text = self._text[: self._start + length]
        self.spent = min(max(self._measure(""), 0), self._limit)

    def _closed(self, text: str) -> str:
        """``text``, or the longest start of it that leaves room for a close, and the close."""
        assert self._follower is not None
        closed = self._fits_closed(text)
        if closed is not None:
            # With no token left there is no other time to close it.
            return text if self._measure(text) < self._limit else closed
        if self._fits_closed("") is None:
            return text  # there is no room for a close anyway
        stride = max(1, len(text) // _CUTS)
        for end in range(len(text) - len(text) % stride, -1, -stride):
            closed = self._fits_closed(text[:end])
            if closed is not None:
                return closed
        return text

    def _fits_closed(self, text: str) -> str | None:
        """``text`` and what closes the answer after it; None if that does not fit."""
        assert self._follower is not None
        after = self._follower.copy()
        after.push(text)
        # The search for the shortest takes long: only where another is too long.
        for shortest in (False, True):
            closed = text + (after.closing(shortest=shortest) or "")
            if self._measure(closed) <= self._limit:
                return closed
        return None

    def _cut(self, text: str) -> str:
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            if self._measure(text[:middle]) <= self._limit:
                low = middle
            else:
                high = middle - 1
        # A count may fall by a token as text grows; the cut found is valid all the same.
        return text[:low]

    def _measure(self, text: str) -> int:
        return self._count(self._text + text) - self._before
