"""How much text an answer may still have, in the tokens of one base model.

This module counts; it knows nothing of rounds.
"""

from __future__ import annotations

from collections.abc import Callable

from specfuse_core.types import Request

__all__ = ["Budget"]


class Budget:
    """What is left of ``max_new_tokens``.

    Args:
        count: how many tokens a text has for the model whose tokens count.
        request: gives the limit, and the turn that the answer goes on from.
    """

    def __init__(self, count: Callable[[str], int], request: Request) -> None:
        final = request.messages[-1]
        self._count = count
        # An answer that goes on from a final assistant turn is counted from its end.
        self._text = final.content if final.role == "assistant" else ""
        self._start = len(self._text)
        self._before = count(self._text) if self._text else 0
        self._limit = request.max_new_tokens
        self._segments = 0
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
        """The longest start of ``text`` that fits; it is spent."""
        self._segments += 1
        fits = text
        if self._measure(text) > self._limit:
            fits = self._cut(text)
            # Nothing more will fit, whatever the count of the cut text is.
            self.spent = self._limit
        self._text += fits
        self.spent = max(self.spent, self._count(self._text) - self._before)
        return fits

    def keep(self, length: int) -> None:
        """Cut the answer back to its first ``length`` characters, as a stop string does."""
        self._text = self._text[: self._start + length]
        self.spent = min(max(self._measure(""), 0), self._limit)

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
