"""Score matrix and weights -> winner; the online feedback of the weights: pure functions.

Source: SpecEM (arXiv 2412.07380 v3), voting and online feedback. ``scores[v][d]`` is verifier
``v``'s score of drafter ``d``'s candidate, None where void. ``[V][D]``
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
    """The vote of each candidate, F_c = sum_v w_v * s[v, c], over the verifiers that scored it.

    The weights of those verifiers are scaled to sum to one, so that a void verification neither
    helps nor hurts the candidate.

    Args:
        scores: one number per (verifier, candidate). ``[V][D]``
        weights: voting weight of each verifier. ``[V]``
        verifiers: their names. ``[V]``
        drafters: names of the candidates' authors. ``[D]``
        self_vote: False leaves out each model's score of its own candidate.

    Returns:
        One vote per candidate, None where no verifier scored it. ``[D]``
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
    """Index of the largest vote; ties go to the larger weight, then to the earlier model.

    Args:
        votes: one vote per candidate, None where it cannot win. ``[D]``
        weights: voting weight of each candidate's author. ``[D]``

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
    """The voting weights after this round's feedback: w_i * exp(eta_t * r_i), renormalised.

    wins_i counts, over the other verifiers j and the other drafters k, how often s[j,i] >= s[j,k]
    (at least 1); r_i = wins_i / (number of such pairs), which is (n-1)^2 where all models draft
    and verify; eta_t = learning_rate * sqrt(1/n) / t. A model that does not draft has no r_i and
    keeps its weight up to the renormalisation.

    Args:
        scores: one number per (verifier, candidate). ``[V][D]``
        weights: the current weight of each active model, by name.
        verifiers: names of the rows. ``[V]``
        drafters: names of the columns. ``[D]``
        learning_rate: eta_0.
        round_index: t, from 1.
    """
    eta = learning_rate * math.sqrt(1 / len(weights)) / round_index
    updated = dict(weights)
    for i, name in enumerate(drafters):
        rivals = [k for k in range(len(drafters)) if k != i]
        judges = [j for j, verifier in enumerate(verifiers) if verifier != name]
        pairs = len(rivals) * len(judges)
        if pairs:
            wins = sum(_at_least(scores[j][i], scores[j][k]) for j in judges for k in rivals)
            updated[name] *= math.exp(eta * max(1, wins) / pairs)
    total = math.fsum(updated.values())
    return {name: weight / total for name, weight in updated.items()}


def _at_least(score: float | None, other: float | None) -> bool:
    return score is not None and (other is None or score >= other)
