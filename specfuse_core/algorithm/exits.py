"""Model exit: which base models leave an answer, and when they are missed. Pure functions.

Source: SpecFuse (arXiv 2412.07380 v2), model exit, for the rest of an answer. The papers' text
leaves the exact form open; ours is in the docstring of :func:`leaving`. Bringing back those that
left (:func:`confidence`) is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from specfuse_core.types import Candidate, Verification

__all__ = ["confidence", "leaving", "shares"]


def shares(votes: Mapping[str, float | None]) -> dict[str, float]:
    """q_i: each candidate's share of the round's votes; a candidate without a vote has none."""
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
    """Names of the models that leave after round t, weakest first.

    p = softmax(Q / tau_t) with tau_t = tau_0 * sqrt(t) * H_t, where H_t is the entropy of q(t)
    divided by log n. A model leaves when p_i < threshold / n; at least ``min_models`` stay. The
    square root keeps early rounds from deciding, since the gaps between cumulative scores grow
    with t; the entropy keeps equals together and lets a clear loser go sooner.

    Args:
        cumulative: Q_i, the sum of the shares q_i so far, per active model.
        current: q_i of this round, per active model.
        round_index: t, from 1.
        temperature: tau_0.
        threshold: delta.
        min_models: how many must stay.
    """
    n = len(current)
    if n <= min_models:
        return []
    tau = temperature * math.sqrt(round_index) * max(_entropy(current) / math.log(n), 1e-6)
    top = max(cumulative[name] for name in current)
    odds = {name: math.exp((cumulative[name] - top) / tau) for name in current}
    total = math.fsum(odds.values())
    weak = [name for name in current if odds[name] / total < threshold / n]
    # By Q, not by p: far behind, several p are zero.
    return sorted(weak, key=cumulative.__getitem__)[: n - min_models]


def confidence(rows: Sequence[Mapping[Candidate, Verification]]) -> float:
    """How sure the active models are of the candidate that they are surest of, 0 to 1.

    They are as sure of a candidate as of the token in it that they doubt most: the geometric mean
    over the verifiers of its lowest probability. A model that does not know goes on as it always
    does, but for the few tokens that carry what it does not know.

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
