"""Where an answer stands in its grammar, as text: what is forced, whether it may end, how to close.

The masks over tokens are the backends' (``hf.guide``); this module sees bytes and needs no torch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Self

from llguidance import LLTokenizer

from specfuse_core.errors import InvalidConstraintError, InvalidToolError
from specfuse_core.grammar.closing import allowed_bytes, any_close, quick_close, short_close
from specfuse_core.grammar.constraints import JsonSchema, grammar_of
from specfuse_core.grammar.matching import matcher_of, vocabulary_of
from specfuse_core.request import Request

__all__ = ["Follower", "follow"]

#: Bytes of forced text after which there is no hope for an end.
_ENDLESS = 100_000


@lru_cache(1)
def _bytes_vocabulary() -> LLTokenizer:
    return vocabulary_of((), slices=[])


@lru_cache(64)
def _compiled(grammar: str) -> Any:
    """A matcher at the beginning; it is copied, never moved.

    Raises:
        InvalidConstraintError: for a grammar that cannot be followed, or that admits nothing.
    """
    matcher = matcher_of(_bytes_vocabulary(), grammar)
    if not _may_reach_an_end(matcher):
        raise InvalidConstraintError("the constraint admits no text at all; loosen it.")
    return matcher


def _may_reach_an_end(start: Any) -> bool:
    """False if all that can follow is forced, and leads nowhere, or on and on."""
    matcher, length = start.deep_copy(), 0
    while not matcher.is_accepting():
        forced = matcher.compute_ff_bytes()
        if not forced:
            return bool(allowed_bytes(matcher))
        length += len(forced)
        if length > _ENDLESS:
            return False
        matcher.consume_tokens([*forced])
    return True


def follow(request: Request) -> Follower | None:
    """The beginning of the way through what ``request`` asks for; None if all is allowed.

    Raises:
        InvalidConstraintError: for a constraint that cannot be followed, or that admits nothing.
        InvalidToolError: for such parameters of a tool.
    """
    grammar = request.grammar
    if grammar is None:
        return None
    try:
        return Follower(grammar)
    except InvalidConstraintError:
        for tool in request.tools if request.calls else ():
            try:
                Follower(grammar_of(JsonSchema(tool.schema)) or "")
            except InvalidConstraintError as error:
                raise InvalidToolError(f"the tool {tool.name!r}: its parameters: {error}") from None
        raise


class Follower:
    """One answer's way through its grammar.

    Args:
        grammar: in llguidance's dialect of Lark (see ``constraints.grammar_of``).

    Raises:
        InvalidConstraintError: for a grammar that cannot be followed, or that admits nothing.
    """

    def __init__(self, grammar: str) -> None:
        self._matcher = _compiled(grammar).deep_copy()
        # A way to an end that was hard to find, and may do for a while.
        self._closing: str | None = None

    def copy(self) -> Self:
        """A follower at the same place, which moves on its own."""
        copy = object.__new__(type(self))
        copy._matcher = self._matcher.deep_copy()
        copy._closing = self._closing
        return copy

    @property
    def may_end(self) -> bool:
        """Whether the text so far satisfies the grammar."""
        return bool(self._matcher.is_accepting())

    @property
    def done(self) -> bool:
        """Whether it does, and nothing may follow."""
        return bool(
            self._matcher.is_stopped() or (self.may_end and not allowed_bytes(self._matcher))
        )

    @property
    def forced(self) -> str:
        """The only text that can follow, as far as there is only one."""
        return _whole(self._matcher.compute_ff_bytes())

    def legal(self, text: str) -> int:
        """How many characters of ``text`` can follow."""
        raw = text.encode()
        return len(_whole(raw[: self._matcher.validate_tokens([*raw])]))

    def push(self, text: str) -> None:
        """Go on by ``text``, which must be legal."""
        self._matcher.consume_tokens([*text.encode()])

    def closing(self, *, shortest: bool = False) -> str | None:
        """A short text after which the grammar is satisfied; None if none is found.

        By default what closes whatever can be closed as soon as it can: found at once, and mostly
        the shortest.

        Args:
            shortest: search for the shortest, as far as a bounded search goes.
        """
        near = quick_close(self._matcher)
        if near is None:
            near = self._closing if self._closes_with(self._closing) else any_close(self._matcher)
            self._closing = near
        short = short_close(self._matcher) if shortest else None
        return near if short is None or (near is not None and len(near) < len(short)) else short

    def _closes_with(self, text: str | None) -> bool:
        if text is None or self.legal(text) < len(text):
            return False
        after = self.copy()
        after.push(text)
        return after.may_end


def _whole(raw: bytes) -> str:
    """The complete characters of ``raw``."""
    return raw.decode(errors="ignore")
