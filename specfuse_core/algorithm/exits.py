"""Model exit and recall: pure functions that decide which base models leave, and when they return.

Source: SpecFuse (arXiv 2412.07380 v2), model exit. The paper leaves the exact formula open; the
formula used here is in the docstring of :func:`leaving`. Recall (:func:`confidence`) is not in the
paper.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence

from specfuse_core.types import Candidate, Verification

__all__ = ["confidence", "leaving", "shares"]

#: The smallest temperature of a softmax, so that no division is by zero.
_LEAST = sys.float_info.min


def shares(votes: Mapping[str, float | None]) -> dict[str, float]:
    """Return q_i, each candidate's share of the votes of a round. The shares sum to 1.

    Args:
        votes: vote of each candidate by its drafter's name; None counts as 0. If all votes are 0,
            the shares are equal.
    """
    total = math.fsum(vote for vote in votes.values() if vote is not None)
    if total <= 0:
        return {name: 1 / len(votes) for name in votes}
    return {name: (vote or 0.0) / total for name, vote in votes.items()}


def leaving(
    cumulative: Mapping[str, float],
    current: Mapping[str, float],
    *,
    round_index: int,
    temperature: float,
    threshold: float,
    min_models: int,
) -> list[str]:
    """Return the names of the models that leave after round t, weakest first.

    p = softmax(Q / tau_t), where tau_t = tau_0 * sqrt(t) * H_t and H_t is the entropy of q(t)
    divided by log n. A model leaves if p_i < threshold / n. At least ``min_models`` stay. The gaps
    between the Q_i grow with t, and the square root compensates for that. The entropy is close to
    1 if all models are equally good, so that none leaves; it is smaller if one is clearly worse.

    Args:
        cumulative: Q_i, the sum of the shares q_i so far, per active model.
        current: q_i of this round, per active model.
        round_index: t; the first round is 1.
        temperature: tau_0.
        threshold: delta.
        min_models: number of models that must stay.
    """
    n = len(current)
    if n <= min_models:
        return []
    spread = max(_entropy(current) / math.log(n), 1e-6)
    tau = max(temperature * math.sqrt(round_index) * spread, _LEAST)
    top = max(cumulative[name] for name in current)
    odds = {name: math.exp((cumulative[name] - top) / tau) for name in current}
    total = math.fsum(odds.values())
    weak = [name for name in current if odds[name] / total < threshold / n]
    # Sorted by Q, because p underflows to 0 for models that are far behind.
    return sorted(weak, key=cumulative.__getitem__)[: n - min_models]


def confidence(rows: Sequence[Mapping[Candidate, Verification]]) -> float:
    """Return the confidence of the active models in their best candidate, from 0 to 1.

    The confidence in a candidate is the geometric mean, over the verifiers, of the probability of
    its least probable token. The minimum is used because a model that lacks some knowledge gives a
    low probability only to the few tokens that depend on it.

    Args:
        rows: per verifier, its verification of each candidate.
    """
    candidates = {candidate for row in rows for candidate in row}
    sure = 0.0
    for candidate in candidates:
        found = [min(row[candidate].logprobs) for row in rows if row[candidate].logprobs]
        if found:
            sure = max(sure, math.exp(math.fsum(found) / len(found)))
    return sure


def _entropy(distribution: Mapping[str, float]) -> float:
    return -math.fsum(p * math.log(p) for p in distribution.values() if p > 0)
