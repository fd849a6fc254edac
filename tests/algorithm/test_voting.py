"""Votes, winners and online feedback, compared with numbers calculated by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specfuse_core.algorithm.voting import feedback, vote, winner
from specfuse_core.errors import NoVerificationError

invariant = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

AB = ("a", "b")
ABC = ("a", "b", "c")


def test_a_vote_is_the_weighted_sum_of_scores() -> None:
    votes = vote([[0.2, 0.8], [0.6, 0.4]], [0.75, 0.25], AB, AB)
    assert votes == pytest.approx([0.75 * 0.2 + 0.25 * 0.6, 0.75 * 0.8 + 0.25 * 0.4])


def test_verifiers_need_not_be_drafters() -> None:
    votes = vote([[0.2, 0.8, 0.5]], [1.0], ("judge",), ABC)
    assert votes == pytest.approx([0.2, 0.8, 0.5])


def test_without_self_vote_a_model_does_not_score_its_own_candidate() -> None:
    scores = [[0.9, 0.2, 0.3], [0.4, 0.9, 0.1], [0.6, 0.3, 0.9]]
    votes = vote(scores, [1 / 3] * 3, ABC, ABC, self_vote=False)
    assert votes == pytest.approx([0.5, 0.25, 0.2])


def test_without_self_vote_the_own_weight_is_left_out_too() -> None:
    scores = [[0.9, 0.2, 0.3], [0.4, 0.9, 0.1], [0.6, 0.3, 0.9]]
    votes = vote(scores, [0.5, 0.25, 0.25], ABC, ABC, self_vote=False)
    assert votes[0] == pytest.approx(0.5)
    assert votes[1] == pytest.approx((0.5 * 0.2 + 0.25 * 0.3) / 0.75)


def test_a_void_verification_neither_helps_nor_hurts() -> None:
    votes = vote([[0.2, 0.8], [None, 0.4]], [0.5, 0.5], AB, AB)
    assert votes == pytest.approx([0.2, 0.6])


def test_a_candidate_that_nobody_scored_has_no_vote() -> None:
    assert vote([[None, 0.8], [None, 0.4]], [0.5, 0.5], AB, AB) == [None, pytest.approx(0.6)]
    assert vote([[0.3, 0.8]], [1.0], ("a",), AB, self_vote=False) == [None, 0.8]
    assert vote([], [], (), AB) == [None, None]


def test_the_largest_vote_wins() -> None:
    assert winner([0.2, 0.5, 0.4], [1.0, 0.1, 0.5]) == 1
    assert winner([None, 0.0, None], [1.0, 0.1, 0.5]) == 1


def test_a_tie_goes_to_the_larger_weight_then_to_the_earlier_model() -> None:
    assert winner([0.5, 0.5, 0.1], [0.3, 0.4, 0.3]) == 1
    assert winner([0.5, 0.5, 0.5], [0.25, 0.375, 0.375]) == 1
    assert winner([0.5, 0.5, 0.5], [1 / 3] * 3) == 0


@pytest.mark.parametrize("votes", [[], [None], [None, None]])
def test_no_vote_at_all_is_an_error(votes: list[float | None]) -> None:
    with pytest.raises(NoVerificationError, match="no verifier could score"):
        winner(votes, [0.5] * len(votes))


@st.composite
def rounds(draw: Any) -> tuple[list[str], list[list[float | None]], dict[str, float]]:
    """Names, a square score matrix with some missing scores, and weights."""
    n = draw(st.integers(1, 5))
    names = [f"m{i}" for i in range(n)]
    cell = st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1)
    row = st.lists(cell, min_size=n, max_size=n)
    scores = draw(st.lists(row, min_size=n, max_size=n))
    raw = draw(st.lists(st.floats(0.01, 1), min_size=n, max_size=n))
    return names, scores, {name: w / math.fsum(raw) for name, w in zip(names, raw, strict=True)}


@invariant
@given(rounds(), st.booleans(), st.randoms())
def test_the_order_of_models_changes_only_ties(data: Any, self_vote: bool, random: Any) -> None:
    names, scores, weights = data
    votes = vote(scores, [weights[n] for n in names], names, names, self_vote=self_vote)
    order = random.sample(range(len(names)), len(names))
    moved = [names[i] for i in order]
    moved_scores = [[scores[v][d] for d in order] for v in order]
    moved_weights = [weights[name] for name in moved]
    moved_votes = vote(moved_scores, moved_weights, moved, moved, self_vote=self_vote)
    assert moved_votes == [votes[i] for i in order]
    if any(value is not None for value in votes):
        best = winner(votes, [weights[n] for n in names])
        moved_best = order[winner(moved_votes, moved_weights)]
        assert votes[moved_best] == votes[best]
        assert weights[names[moved_best]] == weights[names[best]]
        standing = [(v, weights[n]) for v, n in zip(votes, names, strict=True) if v is not None]
        if standing.count((votes[best], weights[names[best]])) == 1:
            assert moved_best == best


@invariant
@given(rounds(), st.booleans())
def test_a_vote_lies_between_the_scores_it_counts(data: Any, self_vote: bool) -> None:
    names, scores, weights = data
    votes = vote(scores, [weights[n] for n in names], names, names, self_vote=self_vote)
    for d, value in enumerate(votes):
        counted = [
            row[d] for v, row in enumerate(scores) if row[d] is not None and (self_vote or v != d)
        ]
        assert (value is None) == (not counted)
        if value is not None:
            assert min(counted) - 1e-12 <= value <= max(counted) + 1e-12


def learn(
    scores: Any, weights: dict[str, float], *, learning_rate: float = 0.5, t: int = 1
) -> dict[str, float]:
    names = tuple(weights)
    return feedback(scores, weights, names, names, learning_rate=learning_rate, round_index=t)


def test_feedback_for_two_models_by_hand() -> None:
    # n = 2: one pair each, so that r = 1 for the winner and, by "at least one", for the loser.
    weights = learn([[0.9, 0.1], [0.8, 0.2]], {"a": 0.6, "b": 0.4})
    assert weights == pytest.approx({"a": 0.6, "b": 0.4})


def test_feedback_for_three_models_by_hand() -> None:
    # Others' views: of a, b and c both put it above or level with both rivals: 4 wins of 4.
    # Of b: a puts it above c and level with itself (2), c below a, above itself (1): 3 of 4.
    # Of c: a below b, below itself (0); b below a, above itself (1): 1 of 4.
    scores = [[0.5, 0.5, 0.1], [0.9, 0.1, 0.3], [0.7, 0.6, 0.2]]
    eta = 0.5 * math.sqrt(1 / 3) / 1
    raw = {"a": math.exp(eta * 4 / 4) / 3, "b": math.exp(eta * 3 / 4) / 3}
    raw["c"] = math.exp(eta * 1 / 4) / 3
    total = sum(raw.values())
    weights = learn(scores, dict.fromkeys("abc", 1 / 3))
    assert weights == pytest.approx({name: w / total for name, w in raw.items()})


def test_wins_are_at_least_one() -> None:
    # c wins nothing at all, b one pair of four; they are rewarded alike.
    scores = [[0.5, 0.3, 0.1], [0.9, 0.2, 0.1], [0.9, 0.1, 0.8]]
    weights = learn(scores, {"a": 0.2, "b": 0.4, "c": 0.4})
    eta = 0.5 * math.sqrt(1 / 3)
    assert weights["c"] / 0.4 == pytest.approx(weights["a"] / 0.2 / math.exp(eta * 3 / 4))


def test_feedback_multiplies_the_weights_it_is_given() -> None:
    scores = [[0.5, 0.5, 0.1], [0.9, 0.1, 0.3], [0.7, 0.6, 0.2]]
    equal = learn(scores, dict.fromkeys("abc", 1 / 3))
    prior = learn(scores, {"a": 0.2, "b": 0.3, "c": 0.5})
    assert prior["a"] / prior["c"] == pytest.approx(0.2 / 0.5 * equal["a"] / equal["c"])


def test_a_void_score_wins_against_nobody() -> None:
    void = learn([[0.5, None, 0.2], [0.5, 0.5, 0.4], [0.5, None, 0.4]], dict.fromkeys("abc", 1 / 3))
    low = learn([[0.5, 0.0, 0.2], [0.5, 0.5, 0.4], [0.5, 0.0, 0.4]], dict.fromkeys("abc", 1 / 3))
    assert void == low
    # Where all are void, each has the least that one can have.
    nothing = learn([[None] * 3] * 3, dict.fromkeys("abc", 1 / 3))
    assert nothing == pytest.approx(dict.fromkeys("abc", 1 / 3))


def test_a_model_that_does_not_draft_keeps_its_weight_up_to_the_scale() -> None:
    weights = feedback(
        [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]],
        {"a": 0.25, "b": 0.25, "judge": 0.5},
        ("a", "b", "judge"),
        ("a", "b"),
        learning_rate=0.5,
        round_index=1,
    )
    # a wins both of its two pairs, b none of two (counted as one).
    eta = 0.5 * math.sqrt(1 / 3)
    raw = {"a": 0.25 * math.exp(eta), "b": 0.25 * math.exp(eta / 2), "judge": 0.5}
    total = sum(raw.values())
    assert weights == pytest.approx({name: w / total for name, w in raw.items()})


def test_one_model_alone_keeps_its_weight() -> None:
    assert learn([[0.3]], {"a": 1.0}) == {"a": 1.0}


@invariant
@given(rounds())
def test_a_learning_rate_of_zero_changes_nothing(data: Any) -> None:
    _, scores, weights = data
    assert learn(scores, weights, learning_rate=0.0) == pytest.approx(weights)


@invariant
@given(rounds(), st.floats(0, 5), st.integers(1, 50))
def test_feedback_keeps_the_weights_positive_and_their_sum_one(
    data: Any, rate: float, t: int
) -> None:
    _, scores, weights = data
    updated = learn(scores, weights, learning_rate=rate, t=t)
    assert list(updated) == list(weights)
    assert all(weight > 0 for weight in updated.values())
    assert math.fsum(updated.values()) == pytest.approx(1.0)


@invariant
@given(rounds(), st.randoms())
def test_feedback_does_not_see_the_order_of_models(data: Any, random: Any) -> None:
    names, scores, weights = data
    order = random.sample(range(len(names)), len(names))
    moved = learn(
        [[scores[v][d] for d in order] for v in order], {names[i]: weights[names[i]] for i in order}
    )
    assert moved == learn(scores, weights)


def test_feedback_weakens_with_the_rounds() -> None:
    scores = [[0.5, 0.5, 0.1], [0.9, 0.1, 0.3], [0.7, 0.6, 0.2]]
    equal = dict.fromkeys("abc", 1 / 3)
    gains = [learn(scores, equal, t=t)["a"] - 1 / 3 for t in (1, 2, 3, 10)]
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] > 0
    # eta_t = eta_0 * sqrt(1/n) / t: round 4 at rate 2 is round 1 at rate 0.5.
    assert learn(scores, equal, learning_rate=2.0, t=4) == learn(scores, equal, t=1)


@pytest.mark.parametrize("rate", [1e4, 1e6, 1e308])
def test_no_learning_rate_is_too_large(rate: float) -> None:
    scores = [[0.5, 0.5, 0.1], [0.9, 0.1, 0.3], [0.7, 0.6, 0.2]]
    weights = learn(scores, dict.fromkeys("abc", 1 / 3), learning_rate=rate)
    assert weights == {"a": 1.0, "b": 0.0, "c": 0.0}
    # The winner of the next round has a weight that is too small for a float by now.
    scores = [[0.1, 0.5, 0.5], [0.1, 0.9, 0.3], [0.1, 0.6, 0.2]]
    assert learn(scores, weights, learning_rate=rate, t=2) == weights
