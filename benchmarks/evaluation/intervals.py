"""How sure a measured share is: 95 % intervals, from counts alone.

Pure functions; this module knows nothing of models or questions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Interval", "paired", "wilson"]

_Z = 1.959963984540054  # 97.5 % of a normal distribution lie below


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % bounds, all of them shares (1.0 is all)."""

    value: float
    low: float
    high: float


def wilson(right: int, count: int) -> Interval:
    """The share of ``right`` among ``count`` (Wilson 1927, without continuity correction)."""
    if not 0 <= right <= count or count < 1:
        raise ValueError(f"{right} of {count} is no share; give 0 <= right <= count, count >= 1.")
    share = right / count
    spread = _Z * math.sqrt(share * (1 - share) / count + (_Z / count) ** 2 / 4)
    middle, scale = share + _Z**2 / count / 2, 1 + _Z**2 / count
    # At the ends the bound is the share itself, but for rounding.
    low, high = (middle - spread) / scale, (middle + spread) / scale
    return Interval(share, max(0.0, min(low, share)), min(1.0, max(high, share)))


def paired(gained: int, lost: int, count: int) -> Interval:
    """The difference of two shares on the same ``count`` questions (Agresti and Min 2005).

    Much narrower than what two separate intervals suggest, since most questions are answered
    alike.

    Args:
        gained: questions that only the first got right.
        lost: questions that only the second got right.
        count: all questions.
    """
    if min(gained, lost) < 0 or gained + lost > count or count < 1:
        raise ValueError(f"{gained} gained and {lost} lost of {count} questions is impossible.")
    difference = (gained - lost) / (count + 2)
    both = (gained + lost + 1) / (count + 2)
    spread = _Z * math.sqrt((both - difference**2) / (count + 2))
    return Interval(
        (gained - lost) / count, max(-1.0, difference - spread), min(1.0, difference + spread)
    )
