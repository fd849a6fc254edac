"""Finds a short text that completes a grammar from the current position.

The functions work on llguidance matchers over the 256 bytes (see ``answer.follower``). They look at
which bytes may follow. They know nothing of JSON except which bytes usually close something.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

from llguidance import LLMatcher

__all__ = ["allowed_bytes", "any_close", "quick_close", "short_close"]

#: Maximum number of states in a search for the shortest completion.
_MOST = 300
#: Maximum number of states in a search for the end of one number or word.
_NEAR = 64
#: How often a step is repeated in the same state before the next step is tried.
_PATIENCE = 4
#: Maximum length of a completion, in bytes.
_LONGEST = 10_000
#: Bytes that close something in JSON or in a tool call.
_CLOSERS = b'}]",'
#: If more bytes than this are allowed, only one of them is tried.
_FEW = 32
#: The positions of the bits that are set, for each value of a byte.
_BITS = [[bit for bit in range(8) if byte >> bit & 1] for byte in range(256)]


def quick_close(start: Any) -> str | None:
    """Return a completion that closes everything as early as possible; None if it loops."""
    matcher, text = start.deep_copy(), b""
    visits: Counter[bytes] = Counter()
    known: dict[bytes, bytes | None] = {}
    while len(text) < _LONGEST:
        if matcher.is_accepting():
            return text.decode(errors="ignore")
        steps = _steps(matcher)
        state = b"".join(steps)
        if visits[state] >= _PATIENCE * len(steps):
            return None
        # If the most likely step leads back to this state, try the other steps.
        step = steps[visits[state] // _PATIENCE]
        if len(steps) > 1 and step[0] not in _CLOSERS and visits[state] < _PATIENCE:
            # Search for the digits of a number or the letters of a pattern up to their end.
            if not _leads(matcher, known.get(state)):
                known[state] = _search(matcher, _closes, _NEAR)
            step = known[state] or step
        visits[state] += 1
        if len(steps) == 1 or step[0] in _CLOSERS:
            visits.clear()  # progress was made
        matcher.consume_tokens([*step])
        text += step
    return None


def short_close(start: Any) -> str | None:
    """Return the shortest completion; None if a bounded search finds none."""
    found = _search(start, LLMatcher.is_accepting, _MOST)
    return None if found is None else found.decode(errors="ignore")


def any_close(start: Any) -> str | None:
    """Like :func:`short_close`, but try bytes of every kind. Slow, so use it last."""
    found = _search(start, LLMatcher.is_accepting, _MOST, _kinds)
    return None if found is None else found.decode(errors="ignore")


def _search(
    start: Any,
    goal: Callable[[Any], bool],
    most: int,
    steps: Callable[[Any], list[bytes]] | None = None,
) -> bytes | None:
    """Return the shortest text that leads to a goal; None if ``most`` states do not reach one.

    States at the same length that allow the same next bytes are treated as one state, so that a
    pattern with many letters costs no more than one with few.

    Args:
        start: the matcher to start from; it is not changed.
        goal: whether a matcher is at the goal.
        most: maximum number of states.
        steps: the texts to try from a matcher; :func:`_steps` by default.
    """
    order = itertools.count()
    heap: list[tuple[int, int, bytes, Any]] = [(0, 0, b"", start.deep_copy())]
    seen: set[tuple[int, bytes]] = set()
    for _ in range(most):
        if not heap:
            return None
        _, _, text, matcher = heapq.heappop(heap)
        if goal(matcher):
            return text
        state = (len(text), bytes(matcher.compute_ff_bytes() or matcher.compute_bitmask()))
        if state in seen:
            continue
        seen.add(state)
        for step in (steps or _steps)(matcher):
            after = matcher.deep_copy()
            after.consume_tokens([*step])
            longer = text + step
            heapq.heappush(heap, (len(longer), next(order), longer, after))
    return None


def _leads(matcher: Any, step: bytes | None) -> bool:
    """Whether ``step`` is allowed and leads to a state where something may end."""
    if step is None or matcher.validate_tokens([*step]) < len(step):
        return False
    after = matcher.deep_copy()
    after.consume_tokens([*step])
    return _closes(after)


def _closes(matcher: Any) -> bool:
    """Whether the text may end here, or a byte that closes or separates values may follow."""
    allowed = allowed_bytes(matcher)
    # If many bytes are allowed, this is inside a string, where only a quote closes something.
    closers = _CLOSERS if len(allowed) <= _FEW else b'"'
    return bool(matcher.is_accepting()) or any(byte in closers for byte in allowed)


def allowed_bytes(matcher: Any) -> list[int]:
    """Return the bytes that may follow."""
    mask = bytes(matcher.compute_bitmask())[: 256 // 8]
    return [8 * place + bit for place, byte in enumerate(mask) if byte for bit in _BITS[byte]]


def _steps(matcher: Any) -> list[bytes]:
    """Return the texts to try on the way to an end, the most likely first."""
    forced = matcher.compute_ff_bytes()
    if forced:
        return [forced]
    allowed = allowed_bytes(matcher)
    if len(allowed) > _FEW:
        # Inside a string or a class of letters: try one letter for all of them.
        letter = bytes([next((byte for byte in b'"a0A ' if byte in allowed), allowed[0])])
        marks = [] if letter == b'"' else [bytes([byte]) for byte in b"@.:/-" if byte in allowed]
        return [letter, *marks]
    digits = [byte for byte in allowed if chr(byte).isdigit()]
    # Try the two smallest digits and the largest one: which one works depends on the bounds.
    kept = [byte for byte in allowed if byte not in digits[2:-1]]
    return [bytes([byte]) for byte in sorted(kept, key=_order)]


def _kinds(matcher: Any) -> list[bytes]:
    """Return one byte of each kind. Two bytes are of one kind if the same may follow them."""
    forced = matcher.compute_ff_bytes()
    if forced:
        return [forced]
    kinds: dict[tuple[bool, bytes], bytes] = {}
    for byte in sorted(allowed_bytes(matcher), key=_order):
        after = matcher.deep_copy()
        after.consume_tokens([byte])
        follows = bytes(after.compute_ff_bytes() or after.compute_bitmask())
        kinds.setdefault((bool(after.is_accepting()), follows), bytes([byte]))
    return list(kinds.values())


def _order(byte: int) -> int:
    """Sort key: bytes that close something come first, bytes that open something come last."""
    if byte in _CLOSERS:
        return _CLOSERS.index(byte)
    return byte + 1000 if byte in b"-\\{[ \t\n\v\f\r" else byte
