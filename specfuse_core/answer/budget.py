"""The token budget of an answer: how much of a text fits, and which text closes the answer.

If an answer has a constraint, the budget closes it (for example open JSON brackets) before the
tokens run out. This module knows nothing of rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from specfuse_core.answer.follower import Follower
from specfuse_core.answer.limits import Limits
from specfuse_core.grammar.calls import CALL_CLOSE

__all__ = ["Budget", "Gauge", "Taken"]

Exceeded = Literal["length", "context"]

#: Number of positions in a segment at which closing the answer is tried.
_CUTS = 24
#: Number of short segments that a tokenizer may merge into one token.
_MERGED = 32
#: Number of characters around a cut at which a cut that spends more tokens is looked for.
_AROUND = 16
#: A text of so many bytes per token of room is not counted, because it surely fits.
_SPARE = 4


@dataclass(frozen=True, slots=True)
class Gauge:
    """The room for the answer in the context window of one base model.

    Args:
        count: counts the tokens of an answer (see ``Session.count_tokens``).
        limit: number of tokens that fit after the prompt.
    """

    count: Callable[[str], int]
    limit: int

    def holds(self, answer: str, spare: int = 0) -> bool:
        """Whether ``answer`` and ``spare`` more tokens fit."""
        limit = self.limit - spare
        return len(answer.encode()) * _SPARE <= limit or self.count(answer) <= limit


@dataclass(frozen=True, slots=True)
class Taken:
    """The part of a text that became part of the answer.

    Args:
        text: the part.
        closing: text after it that closes the answer. No model chose it.
        limit: the limit that ends the answer here; None if the answer may go on.
    """

    text: str
    closing: str = ""
    limit: Exceeded | None = None


class Budget:
    """The part of the limits that an answer has not used yet.

    Args:
        count: counts the tokens of an answer (see ``Session.count_tokens``).
        limits: the limits of the answer.
        follower: the position in the grammar, if the answer has one; ``take`` advances it.
        rooms: returns the gauges of the models that take part in the answer.
        in_call: whether a text ends inside a tool call.
        closes_calls: whether a call is closed as a constrained answer is. If not, it is cut.
    """

    def __init__(
        self,
        count: Callable[[str], int],
        limits: Limits,
        follower: Follower | None = None,
        *,
        rooms: Callable[[], Sequence[Gauge]] = tuple,
        in_call: Callable[[str], bool] = lambda text: False,
        closes_calls: bool = False,
    ) -> None:
        self._count = count
        self._limits = limits
        self._follower = follower
        self._rooms = rooms
        self._in_call = in_call
        self._closes_calls = closes_calls
        #: Text of the answer so far.
        self.text = ""
        #: Number of tokens that the answer has used.
        self.spent = 0
        #: Whether a tool call has begun.
        self.called = False
        self._open = False  # whether the answer ends inside a call
        self._calls = 0  # number of tokens of the calls so far
        # The highest count so far, and the number of segments since then.
        self._highest = 0
        self._idle = 0

    @property
    def left(self) -> int:
        """Number of tokens that the answer may still have, or its call if it is inside one."""
        return self._left(self._open)

    @property
    def left_for_call(self) -> int:
        """Number of tokens that a call may have, if it begins now or has begun."""
        return self._left(True)

    @property
    def limit_name(self) -> str:
        """The limit that applies now, for messages."""
        return self._limits.name(self.spent, self._calls, in_call=self._open)

    def take(self, text: str) -> Taken:
        """Cut ``text`` to the part that fits the budget, and spend its tokens.

        With a grammar, the text is cut earlier and followed by text that closes the answer if
        ``text`` would leave too few tokens for closing it later. If there were too few tokens even
        before ``text``, the answer is cut without being closed.
        """
        called = self._calls_in(text)
        limit = self._limit(called)
        closes = self._follower is not None and (self._closes_calls or not called)
        taken = self._closed(text, limit) if closes else Taken(text)
        if taken.text == text and not taken.closing and self._measure(text) > limit:
            taken = Taken(self._cut(text, limit), limit="length")
        self._spend(taken, called, limit)
        whole = taken.text == text and not taken.closing
        if taken.limit is None and whole and self.left < 1:
            return Taken(text, limit="length")
        if not whole:
            # Nothing more fits after a cut, even if the text has fewer tokens than the limit.
            self.spent = limit if taken.limit == "length" else self.spent
        return taken

    def close(self) -> str:
        """Return text that closes the answer now, because a context window is full."""
        if self._follower is None or (self._open and not self._closes_calls):
            return ""
        closing, exceeded = self._close("", self._limit(self._open))
        if closing is None or exceeded is not None:
            return ""
        self._spend(Taken("", closing), self._open, self._limit(self._open))
        return closing

    def keep(self, length: int) -> None:
        """Cut the answer back to its first ``length`` characters, where a stop string begins."""
        self.text = self.text[:length]
        self.spent = min(self._measure(""), self._limit(self._open))

    def _left(self, called: bool) -> int:
        limit = self._limit(called)
        # A tokenizer may drop text, such as white space. A model that writes only such text would
        # never stop, so the number of segments without a new token is limited too.
        patience = max(limit, _MERGED) if self.spent else limit
        return limit - self.spent if self._idle <= patience else 0

    def _limit(self, called: bool) -> int:
        """Maximum number of tokens of the whole answer, if it ends inside a call or outside."""
        return self._limits.end(self.spent, self._calls, in_call=called)

    def _calls_in(self, text: str) -> bool:
        """Whether ``text`` belongs to a call. A segment contains at most the end of one call."""
        return self._open or self._in_call((self.text + text).rstrip().removesuffix(CALL_CLOSE))

    def _spend(self, taken: Taken, called: bool, limit: int) -> None:
        before, added = self.spent, taken.text + taken.closing
        if self._follower:
            self._follower.push(added)
        self.text += added
        self.spent = min(self._measure(""), limit)
        if called:
            self._calls += self.spent - before
            self.called = True
        self._open = self._in_call(self.text)
        self._idle = 0 if self.spent > self._highest else self._idle + 1
        self._highest = max(self._highest, self.spent)

    def _closed(self, text: str, limit: int) -> Taken:
        """Return ``text``, or its longest part after which closing fits, and the closing text."""
        closing, exceeded = self._close(text, limit)
        if exceeded is None:
            # If ``text`` uses the last token, the answer must be closed now.
            exceeded = self._exceeded(text, limit, spare=1)
            if exceeded is None or closing is not None:
                return Taken(text, closing if exceeded and closing else "", exceeded)
        closing, too_long = self._close("", limit)
        if closing is None or too_long is not None:
            return Taken(text)  # closing does not fit anywhere
        stride = max(1, len(text) // _CUTS)
        for end in range(len(text) - len(text) % stride, -1, -stride):
            closing, too_long = self._close(text[:end], limit)
            if closing is not None and too_long is None:
                return Taken(text[:end], closing, exceeded)
            exceeded = too_long or exceeded
        return Taken(text)

    def _close(self, text: str, limit: int) -> tuple[str | None, Exceeded | None]:
        """Return the text that closes the answer after ``text``, and the limit that it exceeds.

        The closing text is None if none is found.
        """
        assert self._follower is not None
        after = self._follower.copy()
        after.push(text)
        closing, exceeded = None, None
        # Searching for the shortest closing text is slow, so try a quick one first.
        for shortest in (False, True):
            closing = after.closing(shortest=shortest)
            exceeded = None if closing is None else self._exceeded(text + closing, limit)
            if closing is not None and exceeded is None:
                break
        return closing, exceeded

    def _exceeded(self, text: str, limit: int, spare: int = 0) -> Exceeded | None:
        """Return the limit that ``text`` and ``spare`` more tokens exceed; None if they fit."""
        if self._measure(text) + spare > limit:
            return "length"
        answer = self.text + text
        return None if all(room.holds(answer, spare) for room in self._rooms()) else "context"

    def _cut(self, text: str, limit: int) -> str:
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            if self._measure(text[:middle]) <= limit:
                low = middle
            else:
                high = middle - 1
        # The count may fall by a token when text is added, so a longer text may fit too, and a
        # shorter one may have more tokens.
        ends = range(min(low + _AROUND, len(text)), max(low - _AROUND, 0) - 1, -1)
        counts = {end: self._measure(text[:end]) for end in ends}
        most = max(count for count in counts.values() if count <= limit)
        return text[: next(end for end in ends if counts[end] == most)]

    def _measure(self, text: str) -> int:
        return self._count(self.text + text)
