"""Converts verifications to scores, with pure functions.

Sources: SpecFuse (arXiv 2412.07380 v1 and v2), verification, for ``prob``; SpecEM (v3),
verification, for ``logit``. For ``logit`` the authors' code divides by the sum of the scores, which
inverts the ranking if logits are negative; this module uses a softmax instead. ``logprob`` is
``logit`` with log-probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from specfuse_core.config import ScoreMode
from specfuse_core.types import Verification

__all__ = ["score_row"]


def score_row(row: Sequence[Verification], mode: ScoreMode) -> list[float | None]:
    """Return one verifier's scores of all candidates.

    Args:
        row: the verifier's verifications. ``[C]``
        mode: ``prob`` is the mean token probability. ``logit`` and ``logprob`` are the mean raw
            logit and the mean log-probability, followed by a softmax over the candidates.

    Returns:
        One score per candidate; None if its verification has no value, a NaN or an infinite
        value. ``[C]``
    """
    means = [_mean(verification, mode) for verification in row]
    return means if mode == "prob" else _softmax(means)


def _mean(verification: Verification, mode: ScoreMode) -> float | None:
    values = verification.logits if mode == "logit" else verification.logprobs
    # A verification with a NaN or an infinite value, or without any value, has no score.
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
