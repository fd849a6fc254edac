"""The token budget of an answer, counted with the tokenizer of one base model.

If an answer has a constraint, the budget closes it (for example open JSON brackets) before the
tokens run out. This module knows nothing of rounds.
"""

from __future__ import annotations

from collections.abc import Callable

from specfuse_core.answer.follower import Follower
from specfuse_core.request import Request

__all__ = ["Budget"]

#: Number of positions in a segment at which closing the answer is tried.
_CUTS = 24


class Budget:
    """The part of ``max_new_tokens`` that an answer has not used yet.

    Args:
        count: counts the tokens of a text.
        request: the request, with the limit and the message that the answer continues.
        follower: the position in the grammar, if the answer has one; ``take`` advances it.
    """

    def __init__(
        self, count: Callable[[str], int], request: Request, follower: Follower | None = None
    ) -> None:
        final = request.messages[-1]
        self._count = count
        # If the answer continues a final assistant message, only the new text counts.
        self._text = final.content if final.role == "assistant" else ""
        self._start = len(self._text)
        self._before = count(self._text) if self._text else 0
        self._limit = request.max_new_tokens
        self._segments = 0
        self._follower = follower
        self.spent = 0

    @property
    def text(self) -> str:
        """Text of the answer so far."""
        return self._text[self._start :]

    @property
    def left(self) -> int:
        """Number of tokens that the answer may still have."""
        # A tokenizer may drop text, such as white space. A model that writes only such text would
        # never stop, so the number of segments is limited by the number of tokens too.
        return self._limit - self.spent if self._segments <= self._limit else 0

    def take(self, text: str) -> str:
        """Cut ``text`` to the part that fits the budget, and spend its tokens.

        With a grammar, the text is cut earlier and followed by text that closes the answer if
        ``text`` would leave too few tokens for closing it later. If there were too few tokens even
        before ``text``, the answer is cut without being closed.

        Returns:
            The text to emit.
        """
        self._segments += 1
        fits = self._closed(text) if self._follower else text
        if fits == text and self._measure(text) > self._limit:
            fits = self._cut(text)
        if fits != text:
            # Nothing more fits, even if the cut text has fewer tokens than the limit.
            self.spent = self._limit
        if self._follower:
            self._follower.push(fits)
        self._text += fits
        self.spent = max(self.spent, self._count(self._text) - self._before)
        return fits

    def keep(self, length: int) -> None:
        """Cut the answer back to its first ``length`` characters, where a stop string begins."""
        self._text = self._text[: self._start + length]
        self.spent = min(max(self._measure(""), 0), self._limit)

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
        # The count may fall by a token when text is added. The cut is valid even then.
        return text[:low]

    def _measure(self, text: str) -> int:
        return self._count(self._text + text) - self._before
