"""Computes 95 % confidence intervals of proportions from counts, with pure functions.

This module knows nothing of models or questions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Interval", "paired", "wilson"]

_Z = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimated proportion and its 95 % bounds, each from 0 to 1 (differences: -1 to 1)."""

    value: float
    low: float
    high: float


def wilson(right: int, count: int) -> Interval:
    """Return the proportion of ``right`` in ``count`` (Wilson 1927, no continuity correction).

    Raises:
        ValueError: if the counts are not 0 <= right <= count and count >= 1.
    """
    if not 0 <= right <= count or count < 1:
        raise ValueError(
            f"{right} of {count} is not a proportion; give 0 <= right <= count and count >= 1."
        )
    share = right / count
    spread = _Z * math.sqrt(share * (1 - share) / count + (_Z / count) ** 2 / 4)
    middle, scale = share + _Z**2 / count / 2, 1 + _Z**2 / count
    # At 0 and 1 the bound equals the proportion, up to rounding errors.
    low, high = (middle - spread) / scale, (middle + spread) / scale
    return Interval(share, max(0.0, min(low, share)), min(1.0, max(high, share)))


def paired(gained: int, lost: int, count: int) -> Interval:
    """Return the difference of two proportions on the same questions (Agresti and Min 2005).

    The interval is much narrower than two separate intervals suggest, because most questions have
    the same result on both sides.

    Args:
        gained: number of questions that only the first side answered correctly.
        lost: number of questions that only the second side answered correctly.
        count: number of all questions.

    Raises:
        ValueError: if the counts are not possible.
    """
    if min(gained, lost) < 0 or gained + lost > count or count < 1:
        raise ValueError(
            f"{gained} gained and {lost} lost of {count} questions is impossible; give counts >= 0 "
            "with gained + lost <= count."
        )
    difference = (gained - lost) / (count + 2)
    both = (gained + lost + 1) / (count + 2)
    spread = _Z * math.sqrt((both - difference**2) / (count + 2))
    return Interval(
        (gained - lost) / count, max(-1.0, difference - spread), min(1.0, difference + spread)
    )
