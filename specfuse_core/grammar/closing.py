"""The way from a place in a grammar to an end: what closes an answer before its tokens run out.

Works on llguidance's matchers over a vocabulary of the 256 bytes (see ``follower``); it looks at
what may come next, and knows nothing of JSON but its likeliest steps.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

from llguidance import LLMatcher

__all__ = ["allowed_bytes", "any_close", "quick_close", "short_close"]

#: States looked at for the shortest completion; a farther one is taken as it comes.
_MOST = 300
#: And of those that end only a number or a word of it.
_NEAR = 64
#: Times that a step is taken before others are, where it leads nowhere.
_PATIENCE = 4
#: Bytes of the longest completion that is tried.
_LONGEST = 10_000
#: What closes something, in JSON or in a call.
_CLOSERS = b'}]",'
#: Where more bytes than this are allowed, one stands for all.
_FEW = 32


def quick_close(start: Any) -> str | None:
    """What closes whatever can be closed as soon as it can; None if it leads in a circle."""
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
        # Where the likeliest step leads back to the same choice, the others have their turn.
        step = steps[visits[state] // _PATIENCE]
        if len(steps) > 1 and step[0] not in _CLOSERS and visits[state] < _PATIENCE:
            # Digits that bounds admit, letters that a pattern does, up to where they may end.
            if not _leads(matcher, known.get(state)):
                known[state] = _search(matcher, _closes, _NEAR)
            step = known[state] or step
        visits[state] += 1
        if len(steps) == 1 or step[0] in _CLOSERS:
            visits.clear()  # it got on
        matcher.consume_tokens([*step])
        text += step
    return None


def short_close(start: Any) -> str | None:
    """The shortest text to an end, as far as a bounded search goes."""
    found = _search(start, LLMatcher.is_accepting, _MOST)
    return None if found is None else found.decode(errors="ignore")


def any_close(start: Any) -> str | None:
    """The same with every kind of byte tried: slow, where nothing else helps."""
    found = _search(start, LLMatcher.is_accepting, _MOST, _kinds)
    return None if found is None else found.decode(errors="ignore")


def _search(
    start: Any,
    goal: Callable[[Any], bool],
    most: int,
    steps: Callable[[Any], list[bytes]] | None = None,
) -> bytes | None:
    """The shortest way to a goal, if it is not farther than ``most`` states.

    States that have the same length behind them and allow the same bytes next are taken for one,
    so that a pattern of many letters costs no more than one of few.
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
    """Whether ``step`` can be taken, to where something may end."""
    if step is None or matcher.validate_tokens([*step]) < len(step):
        return False
    after = matcher.deep_copy()
    after.consume_tokens([*step])
    return _closes(after)


def _closes(matcher: Any) -> bool:
    """Whether an end, or what closes or parts values, may come next."""
    allowed = allowed_bytes(matcher)
    # Where many letters may come, it is within a text, and brackets and commas are letters.
    closers = _CLOSERS if len(allowed) <= _FEW else b'"'
    return bool(matcher.is_accepting()) or any(byte in closers for byte in allowed)


def allowed_bytes(matcher: Any) -> list[int]:
    """The bytes that may follow."""
    mask = bytes(matcher.compute_bitmask())
    return [byte for byte in range(256) if mask[byte // 8] >> byte % 8 & 1]


def _steps(matcher: Any) -> list[bytes]:
    """What is worth a try on the way to an end, the likeliest first."""
    forced = matcher.compute_ff_bytes()
    if forced:
        return [forced]
    allowed = allowed_bytes(matcher)
    if len(allowed) > _FEW:
        # Within a string, or a class of letters: one stands for all.
        letter = bytes([next((byte for byte in b'"a0A ' if byte in allowed), allowed[0])])
        marks = [] if letter == b'"' else [bytes([byte]) for byte in b"@.:/-" if byte in allowed]
        return [letter, *marks]
    digits = [byte for byte in allowed if chr(byte).isdigit()]
    # Of digits the smallest two and the largest: bounds decide which of them will do.
    kept = [byte for byte in allowed if byte not in digits[2:-1]]
    return [bytes([byte]) for byte in sorted(kept, key=_order)]


def _kinds(matcher: Any) -> list[bytes]:
    """One byte of each kind: bytes after which the same may follow are of one."""
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
    """What closes goes first, what opens more goes last."""
    if byte in _CLOSERS:
        return _CLOSERS.index(byte)
    return byte + 1000 if byte in b"-\\{[ \t\n\v\f\r" else byte
