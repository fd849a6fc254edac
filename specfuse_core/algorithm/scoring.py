"""Verification -> score: pure functions.

Sources: SpecFuse (arXiv 2412.07380 v1/v2), section on verification, for ``prob``; SpecEM (v3) for
``logit``, with a softmax where the authors' code divides by the sum, which turns the ranking
round when logits are negative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from specfuse_core.config import ScoreMode
from specfuse_core.types import Verification

__all__ = ["score_row"]


def score_row(row: Sequence[Verification], mode: ScoreMode) -> list[float | None]:
    """One verifier's scores of all candidates.

    Args:
        row: the verifier's verifications. ``[C]``
        mode: ``prob``: mean token probability, as it is; ``logit``, ``logprob``: mean raw logit
            or mean log-probability, then a softmax over the candidates.

    Returns:
        One score per candidate, None where the verification is void. ``[C]``
    """
    means = [_mean(verification, mode) for verification in row]
    return means if mode == "prob" else _softmax(means)


def _mean(verification: Verification, mode: ScoreMode) -> float | None:
    values = verification.logits if mode == "logit" else verification.logprobs
    # A NaN or an infinite value makes the verification void; so does having no token at all.
    if not values or not all(math.isfinite(value) for value in values):
        return None
    if mode == "prob":
        values = tuple(math.exp(value) for value in values)
    return math.fsum(values) / len(values)


def _softmax(means: Sequence[float | None]) -> list[float | None]:
    finite = [mean for mean in means if mean is not None]
    if not finite:
        return [None] * len(means)
    top = max(finite)
    total = math.fsum(math.exp(mean - top) for mean in finite)
    return [None if mean is None else math.exp(mean - top) / total for mean in means]
