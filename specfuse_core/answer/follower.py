"""Follower: tracks the position of an answer in its grammar.

It tells which text the grammar forces next, whether the answer may end, and how to close it. This
module sees text and bytes, but no tokens: masks over tokens belong to the backends (``hf.guide``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Self

from llguidance import LLTokenizer

from specfuse_core.answer.validity import check_schemas
from specfuse_core.errors import InvalidConstraintError, InvalidToolError
from specfuse_core.grammar.answers import grammar_of
from specfuse_core.grammar.closing import any_close, quick_close, short_close
from specfuse_core.grammar.constraints import JsonSchema
from specfuse_core.grammar.endings import Trail
from specfuse_core.grammar.matching import (
    allowed_mask,
    check,
    forced_bytes,
    matcher_of,
    vocabulary_of,
)
from specfuse_core.grammar.spots import Effort, Memory
from specfuse_core.grammar.thoughts import end_of_thought, thinking_in
from specfuse_core.request import Request

__all__ = ["Follower", "follow"]

#: A grammar that forces this many bytes at its beginning is treated as one that has no end.
_ENDLESS = 50_000
#: Number of steps for the first search for an end. Later searches use what it finds.
_FIRST_EFFORT = 40_000
#: Number of states that look the same which the first search tries.
_FIRST_ALIKE = 64
#: Number of steps of a search for the shortest end.
_SHORT_EFFORT = 150
#: Number of forced bytes to look for at once.
_FORCED = 4_096


@lru_cache(1)
def _bytes_vocabulary() -> LLTokenizer:
    return vocabulary_of((), slices=[])


@lru_cache(64)
def _compiled(grammar: str) -> tuple[Any, Trail, Memory]:
    """Return a matcher at the beginning of the grammar, the trail of the empty text, and a memory.

    Callers must copy the matcher and the memory before use.

    Raises:
        InvalidConstraintError: if the grammar is invalid, not supported, or allows no text.
    """
    matcher, trail = matcher_of(_bytes_vocabulary(), grammar), Trail.of(grammar)
    _check_end(matcher)
    memory = Memory()
    memory.whole = _first_close(matcher, trail, memory)
    return matcher, trail, memory


def _first_close(matcher: Any, trail: Trail, memory: Memory) -> bytes:
    """Return a text that satisfies the grammar; empty if none is found.

    Raises:
        InvalidConstraintError: if the search has tried all states and found none.
    """
    effort = Effort(_FIRST_EFFORT)
    found = quick_close(matcher, trail, effort, memory)
    if found is None:
        found = any_close(matcher, trail, effort, memory, _FIRST_ALIKE)
    if found is None and effort.left > 0:
        raise InvalidConstraintError(
            "the constraint allows no text that ends; check whether a terminal matches what should "
            "follow it (each terminal matches as much as it can)."
        )
    return found or b""


def _check_end(start: Any) -> None:
    """Check that the text that the grammar forces reaches an end or a choice.

    Raises:
        InvalidConstraintError: if it does not, or if the matcher fails.
    """
    matcher = start.deep_copy()
    forced = forced_bytes(matcher, _ENDLESS)
    matcher.consume_tokens([*forced])
    mask = allowed_mask(matcher)
    check(matcher)
    if len(forced) == _ENDLESS:
        raise InvalidConstraintError(
            f"the constraint forces a text of more than {_ENDLESS:,} bytes, which begins with "
            f"{_whole(forced[:20])!r}; let it end earlier."
        )
    if not (mask or matcher.is_accepting()):
        raise InvalidConstraintError("the constraint allows no text; make it less strict.")


def follow(request: Request) -> Follower | None:
    """Return a follower for the constraint and the tools of a request.

    Returns:
        A follower at the beginning of the grammar; None if the answer is unconstrained.

    Raises:
        InvalidConstraintError: if the constraint is invalid, not supported, or allows no text.
        InvalidToolError: if the same holds for the parameters of a tool.
    """
    check_schemas(request)
    grammar = request.grammar
    if grammar is None:
        return None
    try:
        if request.body is not None:
            # Reasoning is always possible, so look at what comes after it.
            Follower(request.body)
        return Follower(grammar, request.body)
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
        grammar: a grammar in llguidance's dialect of Lark (see ``answers.grammar_of``).
        body: the grammar of the same answer without reasoning, if it may begin with reasoning.

    Raises:
        InvalidConstraintError: if the grammar is invalid, not supported, or allows no text.
    """

    def __init__(self, grammar: str, body: str | None = None) -> None:
        matcher, self._trail, memory = _compiled(grammar)
        self._matcher = matcher.deep_copy()
        # A memory of its own, so that an answer does not depend on earlier ones.
        self._memory = memory.copy()
        # The closing text that was found last. A part of it may stay valid for some time.
        self._closing = b""
        self._body = body
        # The answer up to the end of its reasoning; not needed after that.
        self._thought = ""

    def copy(self) -> Self:
        """Return an independent follower at the same position."""
        copy = object.__new__(type(self))
        copy._matcher = self._matcher.deep_copy()
        copy._trail, copy._memory = self._trail, self._memory
        copy._body = self._body
        copy._thought = self._thought
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
            self._matcher.is_stopped() or (self.may_end and not allowed_mask(self._matcher))
        )

    @property
    def forced(self) -> str:
        """The text that the grammar forces next; empty if there is a choice."""
        return _whole(forced_bytes(self._matcher, _FORCED))

    def legal(self, text: str) -> int:
        """Return how many characters at the start of ``text`` the grammar allows next."""
        raw = text.encode()
        return len(_whole(raw[: self._matcher.validate_tokens([*raw])]))

    def push(self, text: str) -> None:
        """Advance by ``text``, which the grammar must allow."""
        self._matcher.consume_tokens([*text.encode()])
        self._trail = self._trail.after(text)
        if self._body is not None:
            self._thought += text
            end = end_of_thought(self._thought)
            if end is not None and self._thought[end:].strip():
                self._body = None

    def closing(self, *, shortest: bool = False) -> str | None:
        """Return a short text after which the grammar is satisfied; None if none is found.

        By default, everything that is open is closed as early as possible. That is fast, and the
        result is usually the shortest text.

        Args:
            shortest: whether to search for the shortest text as well. The search is bounded.
        """
        if self._body is not None:
            # No reasoning has begun, or it is closed first.
            rest = Follower(self._body).closing(shortest=shortest)
            return None if rest is None else thinking_in(self._thought) + rest
        place, effort = (self._matcher, self._trail), Effort()
        near = quick_close(*place, effort, self._memory, self._closing)
        if near is None:
            near = any_close(*place, effort, self._memory)
        if near is not None:
            self._closing = near
        if shortest:
            bound = None if near is None else len(near)
            near = short_close(*place, Effort(_SHORT_EFFORT), bound) or near
        return None if near is None else _whole(near)


def _whole(raw: bytes) -> str:
    """Decode the complete characters of ``raw``."""
    return raw.decode(errors="ignore")
