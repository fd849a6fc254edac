"""Follower: tracks the position of an answer in its grammar.

It tells which text the grammar forces next, whether the answer may end, and how to close it. This
module sees text and bytes, but no tokens: masks over tokens belong to the backends (``hf.guide``).
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

#: A grammar that forces more bytes than this is treated as one that has no end.
_ENDLESS = 100_000


@lru_cache(1)
def _bytes_vocabulary() -> LLTokenizer:
    return vocabulary_of((), slices=[])


@lru_cache(64)
def _compiled(grammar: str) -> Any:
    """Return a matcher at the beginning of the grammar. Callers must copy it before use.

    Raises:
        InvalidConstraintError: if the grammar is invalid, not supported, or allows no text.
    """
    matcher = matcher_of(_bytes_vocabulary(), grammar)
    if not _may_reach_an_end(matcher):
        raise InvalidConstraintError("the constraint allows no text; make it less strict.")
    return matcher


def _may_reach_an_end(start: Any) -> bool:
    """Return False if the grammar forces text that reaches no end."""
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
    """Return a follower for the constraint and the tools of a request.

    Returns:
        A follower at the beginning of the grammar; None if the answer is unconstrained.

    Raises:
        InvalidConstraintError: if the constraint is invalid, not supported, or allows no text.
        InvalidToolError: if the same holds for the parameters of a tool.
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
                raise InvalidToolError(f"parameters of the tool {tool.name!r}: {error}") from None
        raise


class Follower:
    """The position of one answer in its grammar.

    Args:
        grammar: a grammar in llguidance's dialect of Lark (see ``constraints.grammar_of``).

    Raises:
        InvalidConstraintError: if the grammar is invalid, not supported, or allows no text.
    """

    def __init__(self, grammar: str) -> None:
        self._matcher = _compiled(grammar).deep_copy()
        # A closing text that was slow to find. It may stay valid for some time.
        self._closing: str | None = None

    def copy(self) -> Self:
        """Return an independent follower at the same position."""
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
        """Whether the text so far satisfies the grammar and no text may follow."""
        return bool(
            self._matcher.is_stopped() or (self.may_end and not allowed_bytes(self._matcher))
        )

    @property
    def forced(self) -> str:
        """The text that the grammar forces next; empty if there is a choice."""
        return _whole(self._matcher.compute_ff_bytes())

    def legal(self, text: str) -> int:
        """Return how many characters at the start of ``text`` the grammar allows next."""
        raw = text.encode()
        return len(_whole(raw[: self._matcher.validate_tokens([*raw])]))

    def push(self, text: str) -> None:
        """Advance by ``text``, which the grammar must allow."""
        self._matcher.consume_tokens([*text.encode()])

    def closing(self, *, shortest: bool = False) -> str | None:
        """Return a short text after which the grammar is satisfied; None if none is found.

        By default, everything that is open is closed as early as possible. That is fast, and the
        result is usually the shortest text.

        Args:
            shortest: whether to search for the shortest text as well. The search is bounded.
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
    """Decode the complete characters of ``raw``."""
    return raw.decode(errors="ignore")
