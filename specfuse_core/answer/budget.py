"""The token budget of an answer, counted with the tokenizer of one base model.

If an answer has a constraint, the budget closes it (for example open JSON brackets) before the
tokens run out. This module knows nothing of rounds.
"""

from __future__ import annotations

from collections.abc import Callable

from specfuse_core.answer.follower import Follower

__all__ = ["Budget"]

#: Number of positions in a segment at which closing the answer is tried.
_CUTS = 24
#: Number of short segments that a tokenizer may merge into one token.
_MERGED = 32
#: Number of characters around a cut at which a cut that spends more tokens is looked for.
_AROUND = 16


class Budget:
    """The part of ``max_new_tokens`` that an answer has not used yet.

    Args:
        count: counts the tokens of an answer (see ``Session.count_tokens``).
        limit: ``max_new_tokens``.
        follower: the position in the grammar, if the answer has one; ``take`` advances it.
    """

    def __init__(
        self, count: Callable[[str], int], limit: int, follower: Follower | None = None
    ) -> None:
        self._count = count
        self._limit = limit
        self._follower = follower
        #: Text of the answer so far.
        self.text = ""
        #: Number of tokens that the answer has used.
        self.spent = 0
        # The highest count so far, and the number of segments since then.
        self._highest = 0
        self._idle = 0

    @property
    def left(self) -> int:
        """Number of tokens that the answer may still have."""
        # A tokenizer may drop text, such as white space. A model that writes only such text would
        # never stop, so the number of segments without a new token is limited too.
        patience = max(self._limit, _MERGED) if self.spent else self._limit
        return self._limit - self.spent if self._idle <= patience else 0

    def take(self, text: str) -> str:
        """Cut ``text`` to the part that fits the budget, and spend its tokens.

        With a grammar, the text is cut earlier and followed by text that closes the answer if
        ``text`` would leave too few tokens for closing it later. If there were too few tokens even
        before ``text``, the answer is cut without being closed.

        Returns:
            The text to emit.
        """
        fits = self._closed(text) if self._follower else text
        if fits == text and self._measure(text) > self._limit:
            fits = self._cut(text)
        if self._follower:
            self._follower.push(fits)
        self.text += fits
        # Nothing more fits after a cut, even if the text has fewer tokens than the limit.
        self.spent = self._measure("") if fits == text else self._limit
        self._idle = 0 if self.spent > self._highest else self._idle + 1
        self._highest = max(self._highest, self.spent)
        return fits

    def keep(self, length: int) -> None:
        """Cut the answer back to its first ``length`` characters, where a stop string begins."""
        self.text = self.text[:length]
        self.spent = min(self._measure(""), self._limit)

    def _closed(self, text: str) -> str:
        """Return ``text``, or its longest part after which closing fits, and the closing text."""
        assert self._follower is not None
        closed = self._fits_closed(text)
        if closed is not None:
            # If ``text`` uses the last token, the answer must be closed now.
            return text if self._measure(text) < self._limit else closed
        if self._fits_closed("") is None:
            return text  # closing does not fit anywhere
        stride = max(1, len(text) // _CUTS)
        for end in range(len(text) - len(text) % stride, -1, -stride):
            closed = self._fits_closed(text[:end])
            if closed is not None:
                return closed
        return text

    def _fits_closed(self, text: str) -> str | None:
        """Return ``text`` followed by text that closes the answer; None if that does not fit."""
        assert self._follower is not None
        after = self._follower.copy()
        after.push(text)
        # Searching for the shortest closing text is slow, so try a quick one first.
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
        # The count may fall by a token when text is added, so a longer text may fit too, and a
        # shorter one may have more tokens.
        ends = range(min(low + _AROUND, len(text)), max(low - _AROUND, 0) - 1, -1)
        counts = {end: self._measure(text[:end]) for end in ends}
        most = max(count for count in counts.values() if count <= self._limit)
        return text[: next(end for end in ends if counts[end] == most)]

    def _measure(self, text: str) -> int:
        return self._count(self.text + text)
