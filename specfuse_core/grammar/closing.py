"""Finds a short text that completes a grammar from the current position.

The functions work on llguidance matchers over the 256 bytes (see ``answer.follower``). They look at
which bytes may follow, and at the endings of the patterns in the grammar. They know nothing of JSON
except which bytes usually close something. An ``Effort`` bounds every search, so that it ends in a
few milliseconds.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from specfuse_core.grammar.endings import Trail
from specfuse_core.grammar.matching import allowed_bytes, allowed_mask, forced_bytes
from specfuse_core.grammar.spots import Effort, Memory, Spot

__all__ = ["any_close", "quick_close", "short_close"]

#: Maximum number of states in a search for the end of one number or word.
_NEAR = 64
#: How often a step is repeated in the same state before the next step is tried.
_PATIENCE = 4
#: How many states that look the same are searched.
_ALIKE = 6
#: How often one byte is repeated in order to reach a minimum length: on the way to any end, and in
#: a search for the shortest one.
_RUN, _SHORT_RUN = 4_096, 64
#: Maximum length of a completion, in bytes.
_LONGEST = 10_000
#: A known completion of at most this many bytes may complete a text from any byte on, a longer one
#: only from a byte that follows a value.
_BRIEF = 64
#: Number of bytes of a known completion that are checked before the rest of it.
_AHEAD = 12
#: Bytes that close something in JSON or in a tool call.
_CLOSERS = b'}]",'
_AFTER_VALUES = b"}],"
#: If more bytes than this are allowed, only one of them is tried.
_FEW = 32


def quick_close(
    start: Any, trail: Trail, effort: Effort, memory: Memory, known: bytes = b""
) -> bytes | None:
    """Return a completion that closes everything as early as possible; None if it loops.

    Args:
        start: the matcher to start from; it is not changed.
        trail: the trail of the text so far.
        effort: the steps that the search may take.
        memory: what earlier searches in this grammar found.
        known: a completion that was found earlier; its last part may complete this text too.
    """
    spot = Spot.at(start, trail, effort)
    visits: Counter[tuple[bytes, ...]] = Counter()
    while effort.left > 0 and len(spot.text) < _LONGEST:
        if spot.accepts:
            return spot.text
        for whole in (known, memory.whole):
            tail = _tail(spot, whole, effort)
            if tail is not None:
                return spot.text + tail
        steps = _steps(spot, effort)
        state, forced = tuple(steps), spot.mask.bit_count() == 1
        if not steps or visits[state] >= _PATIENCE * len(steps):
            return None
        # If the most likely step leads back to this state, try the other steps.
        step = steps[visits[state] // _PATIENCE]
        moves = forced or _moves(spot, step, effort)
        if visits[state] < _PATIENCE and not (moves and (forced or step[0] in _CLOSERS)):
            # Search for the digits of a number or the letters of a pattern up to their end.
            step = _ending(spot, effort) or _nearest(spot, memory, state, effort) or step
        elif len(step) == 1 and visits[state] % _PATIENCE == _PATIENCE - 1:
            step = _run(spot, step, effort) or step
        visits[state] += 1
        if moves and (forced or step[0] in _CLOSERS):
            visits.clear()  # progress was made
        spot = spot.after(step, effort)
    return None


def _moves(spot: Spot, step: bytes, effort: Effort) -> bool:
    """Whether other bytes may follow after ``step`` than before it."""
    after = spot.after(step, effort)
    return after.accepts or after.mask != spot.mask


def _tail(spot: Spot, whole: bytes, effort: Effort) -> bytes | None:
    """Return the shortest last part of ``whole`` that completes the text; None if none does."""
    mask = spot.mask
    for place in range(len(whole) - 1, -1, -1):
        if not mask >> whole[place] & 1:
            continue
        if place and len(whole) > _BRIEF and whole[place] not in _AFTER_VALUES:
            continue
        effort.take()
        tail = whole[place:]
        if spot.legal(tail[:_AHEAD]) and spot.legal(tail) and spot.after(tail, effort).accepts:
            return tail
        if effort.left <= 0:
            return None
    return None


def short_close(start: Any, trail: Trail, effort: Effort, most: int | None = None) -> bytes | None:
    """Return the shortest completion of less than ``most`` bytes.

    Returns:
        The completion; None if a bounded search finds none.
    """
    return _search(Spot.at(start, trail, effort), _accepts, effort, longest=most)


def any_close(
    start: Any, trail: Trail, effort: Effort, memory: Memory, alike: int = _ALIKE
) -> bytes | None:
    """Like :func:`short_close`, but try bytes of every kind. Use it last.

    Args:
        start: the matcher to start from; it is not changed.
        trail: the trail of the text so far.
        effort: the steps that the search may take. If some are left, there is no other state.
        memory: what earlier searches of this answer found.
        alike: how many states that look the same are searched.
    """
    look = (allowed_mask(start), trail.positions)
    if not memory.tries(look):
        return None
    found = _search(Spot.at(start, trail, effort), _accepts, effort, steps=_kinds, alike=alike)
    memory.learn(look, found)
    return found


def _search(
    start: Spot,
    goal: Callable[[Spot], bool],
    effort: Effort,
    most: int | None = None,
    longest: int | None = None,
    steps: Callable[[Spot, Effort], list[bytes]] | None = None,
    alike: int = _ALIKE,
) -> bytes | None:
    """Return the shortest text that leads to a goal; None if the effort does not suffice.

    States that allow the same next bytes, at the same positions in the patterns, look the same. Few
    of them are searched, so that a pattern with many letters costs no more than one with few.

    Args:
        start: the spot to start from; it is not changed.
        goal: whether a spot is at the goal.
        effort: the steps that the search may take.
        most: maximum number of states, if there is one.
        longest: number of bytes from which on a text is too long, if there is one.
        steps: the texts to try from a spot; :func:`_steps` by default.
        alike: how many states that look the same are searched.
    """
    order = itertools.count()
    heap: list[tuple[int, int, Spot]] = [(0, 0, start)]
    seen: Counter[tuple[object, ...]] = Counter()
    lengths: set[tuple[object, ...]] = set()
    for _ in itertools.count() if most is None else range(most):
        if not heap or effort.left <= 0:
            return None
        length, _, spot = heapq.heappop(heap)
        if longest is not None and length >= longest:
            return None
        if goal(spot):
            return spot.text.removeprefix(start.text)
        look = (spot.mask, spot.trail.positions)
        if seen[look] >= alike or (*look, len(spot.text)) in lengths:
            continue
        lengths.add((*look, len(spot.text)))
        tried = (steps or _steps)(spot, effort)
        if look[0].bit_count() > 1:  # there is a choice
            if seen[look] == 0:
                tried = [*tried, *_further(spot, tried, effort)]
            seen[look] += 1
        for step in tried:
            after = spot.after(step, effort)
            heapq.heappush(heap, (len(after.text), next(order), after))
    return None


def _further(spot: Spot, steps: list[bytes], effort: Effort) -> Iterator[bytes]:
    """Yield longer texts to try: the ending of a pattern, and one byte many times."""
    ending = _ending(spot, effort)
    if ending:
        yield ending
    run = next((step for step in steps if step[0] not in _CLOSERS), None)
    if run and (found := _run(spot, run, effort, _SHORT_RUN)):
        yield found


def _ending(spot: Spot, effort: Effort) -> bytes | None:
    """Return the ending of a pattern after which something else may follow; None if none fits."""
    before = spot.mask
    for word in spot.trail.words():
        raw = word.encode()
        effort.take()
        if spot.legal(raw):
            after = spot.after(raw, effort)
            if after.accepts or after.mask & ~before:
                return raw
        if effort.left <= 0:
            return None
    return None


def _nearest(spot: Spot, memory: Memory, state: tuple[bytes, ...], effort: Effort) -> bytes | None:
    """Return the shortest text after which something may end; None if a search finds none."""
    step: bytes | None = memory.nearest.get(state)
    if step is not None and _leads(spot, step, effort):
        return step
    if not memory.tries(state):
        return None
    memory.nearest[state] = step = _search(spot, _closes, effort, _NEAR)
    memory.learn(state, step)
    return step


def _run(spot: Spot, byte: bytes, effort: Effort, limit: int = _RUN) -> bytes | None:
    """Return ``byte`` as often as it takes until other bytes may follow; None if they never do.

    A minimum length is reached in this way.
    """
    before = spot.mask
    most: int = spot.matcher.validate_tokens([byte[0]] * limit)

    def changed(times: int) -> bool:
        after = spot.after(byte * times, effort)
        return after.accepts or after.mask != before

    effort.take(limit // 256)
    if most < 2 or not changed(most):
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if changed(middle) else (middle, high)
    return byte * high


def _leads(spot: Spot, step: bytes, effort: Effort) -> bool:
    """Whether ``step`` is allowed and leads to a state where something may end."""
    return spot.legal(step) and _closes(spot.after(step, effort))


def _accepts(spot: Spot) -> bool:
    return spot.accepts


def _closes(spot: Spot) -> bool:
    """Whether the text may end here, or a byte that closes or separates values may follow."""
    mask = spot.mask
    # If many bytes are allowed, this is inside a string, where only a quote closes something.
    closers = _CLOSERS if mask.bit_count() <= _FEW else b'"'
    return spot.accepts or any(mask >> byte & 1 for byte in closers)


def _steps(spot: Spot, effort: Effort) -> list[bytes]:
    """Return the texts to try on the way to an end, the most likely first."""
    allowed = allowed_bytes(spot.matcher)
    if len(allowed) == 1:
        return [_forced(spot, effort)]
    if len(allowed) > _FEW:
        # Inside a string or a class of letters: try one letter for all of them.
        letter = bytes([next((byte for byte in b'"a0A ' if byte in allowed), allowed[0])])
        marks = [] if letter == b'"' else [bytes([byte]) for byte in b"@.:/-" if byte in allowed]
        return [letter, *marks]
    digits = [byte for byte in allowed if chr(byte).isdigit()]
    # Try the two smallest digits and the largest one: which one works depends on the bounds.
    kept = [byte for byte in allowed if byte not in digits[2:-1]]
    return [bytes([byte]) for byte in sorted(kept, key=_order)]


def _kinds(spot: Spot, effort: Effort) -> list[bytes]:
    """Return one byte of each kind. Two bytes are of one kind if the same may follow them."""
    allowed = allowed_bytes(spot.matcher)
    if len(allowed) == 1:
        return [_forced(spot, effort)]
    kinds: dict[tuple[object, ...], bytes] = {}
    for byte in sorted(allowed, key=_order):
        after = spot.after(bytes([byte]), effort)
        look = (after.accepts, after.mask, after.trail.positions)
        kinds.setdefault(look, bytes([byte]))
    return list(kinds.values())


def _forced(spot: Spot, effort: Effort) -> bytes:
    # A forced byte costs less than a step of a search.
    forced = forced_bytes(spot.matcher, max(4, 4 * effort.left))
    effort.take(len(forced) // 4)
    return forced


def _order(byte: int) -> int:
    """Sort key: bytes that close something come first, bytes that open something come last."""
    if byte in _CLOSERS:
        return _CLOSERS.index(byte)
    return byte + 1000 if byte in b"-\\{[ \t\n\v\f\r" else byte
