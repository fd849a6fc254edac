"""Voting and online feedback: pure functions on the score matrix and the voting weights.

Source: SpecEM (arXiv 2412.07380 v3), voting and online feedback. In the score matrix,
``scores[v][d]`` is verifier ``v``'s score of drafter ``d``'s candidate; it is None if the verifier
could not score the candidate. ``[V][D]``
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from specfuse_core.errors import NoVerificationError

__all__ = ["Scores", "feedback", "vote", "winner"]

Scores = Sequence[Sequence[float | None]]


def vote(
    scores: Scores,
    weights: Sequence[float],
    verifiers: Sequence[str],
    drafters: Sequence[str],
    *,
    self_vote: bool = True,
) -> list[float | None]:
    """Return the vote of each candidate, F_c = sum_v w_v * s[v, c].

    The sum is over the verifiers that scored the candidate. Their weights are scaled to sum to 1,
    so that a missing score neither raises nor lowers the vote.

    Args:
        scores: one number per (verifier, candidate). ``[V][D]``
        weights: voting weight of each verifier. ``[V]``
        verifiers: names of the verifiers. ``[V]``
        drafters: names of the drafters of the candidates. ``[D]``
        self_vote: whether a model's score of its own candidate counts.

    Returns:
        One vote per candidate; None if no verifier scored it. ``[D]``
    """
    votes: list[float | None] = []
    for d, drafter in enumerate(drafters):
        counted = [
            (weights[v], score)
            for v, verifier in enumerate(verifiers)
            if (score := scores[v][d]) is not None and (self_vote or verifier != drafter)
        ]
        total = math.fsum(weight for weight, _ in counted)
        votes.append(math.fsum(w * s for w, s in counted) / total if total > 0 else None)
    return votes


def winner(votes: Sequence[float | None], weights: Sequence[float]) -> int:
    """Return the index of the largest vote. Ties go to the larger weight, then the earlier model.

    Args:
        votes: one vote per candidate; None if it cannot win. ``[D]``
        weights: voting weight of each candidate's drafter. ``[D]``

    Raises:
        NoVerificationError: if no candidate has a vote.
    """
    standing = [(vote, weights[d], -d) for d, vote in enumerate(votes) if vote is not None]
    if not standing:
        raise NoVerificationError("no verifier could score any candidate.")
    return -max(standing)[2]


def feedback(
    scores: Scores,
    weights: Mapping[str, float],
    verifiers: Sequence[str],
    drafters: Sequence[str],
    *,
    learning_rate: float,
    round_index: int,
) -> dict[str, float]:
    """Return the voting weights after the online feedback of round t.

    w_i becomes w_i * exp(eta_t * r_i), and the weights are scaled to sum to 1. wins_i is the
    number of pairs of another verifier j and another drafter k with s[j,i] >= s[j,k], but at least
    1. r_i is wins_i divided by the number of such pairs, which is (n-1)^2 if all models draft and
    verify. eta_t = learning_rate * sqrt(1/n) / t. A model that does not draft has no r_i; only the
    scaling changes its weight.

    Args:
        scores: one number per (verifier, candidate). ``[V][D]``
        weights: current voting weight of each active model, by name.
        verifiers: names of the verifiers. ``[V]``
        drafters: names of the drafters. ``[D]``
        learning_rate: eta_0.
        round_index: t; the first round is 1.

    Returns:
        The new voting weight of each active model, by name. They sum to 1.
    """
    eta = learning_rate * math.sqrt(1 / len(weights)) / round_index
    exponents = dict.fromkeys(weights, 0.0)
    for i, name in enumerate(drafters):
        rivals = [k for k in range(len(drafters)) if k != i]
        judges = [j for j, verifier in enumerate(verifiers) if verifier != name]
        pairs = len(rivals) * len(judges)
        if pairs:
            wins = sum(_at_least(scores[j][i], scores[j][k]) for j in judges for k in rivals)
            exponents[name] = eta * (max(1, wins) / pairs)
    # Relative to the largest exponent, so that no learning rate is too large for a float.
    positive = {name: weight for name, weight in weights.items() if weight > 0}
    top = max(exponents[name] for name in positive)
    updated = {name: positive[name] * math.exp(exponents[name] - top) for name in positive}
    total = math.fsum(updated.values())
    return {name: updated.get(name, 0.0) / total for name in weights}


def _at_least(score: float | None, other: float | None) -> bool:
    return score is not None and (other is None or score >= other)
