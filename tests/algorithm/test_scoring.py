"""Scores in the three modes, compared with numbers calculated by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specfuse_core.algorithm.scoring import score_row
from specfuse_core.types import Verification

invariant = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

MODES: list[Any] = ["prob", "logit", "logprob"]
NORMALISED: list[Any] = ["logit", "logprob"]


def from_probabilities(*probabilities: float) -> Verification:
    return Verification(tuple(math.log(p) for p in probabilities))


def of_value(value: float) -> Verification:
    """A verification of one token whose score is the same number in each mode."""
    return Verification((value,), (value,))


def test_prob_is_the_mean_token_probability_and_is_not_normalised() -> None:
    row = [
        from_probabilities(0.5, 0.25),
        from_probabilities(0.9),
        from_probabilities(0.8, 0.4, 0.3),
    ]
    assert score_row(row, "prob") == pytest.approx([0.375, 0.9, 0.5])


def test_logprob_is_a_softmax_of_mean_log_probabilities() -> None:
    # means ln 0.5 and ln 0.25 (a geometric mean): 0.5 : 0.25 = 2 : 1
    row = [from_probabilities(0.5, 0.5, 0.5), from_probabilities(0.125, 0.5)]
    assert score_row(row, "logprob") == pytest.approx([2 / 3, 1 / 3])


def test_logit_is_a_softmax_of_mean_raw_logits() -> None:
    # means 3 and 1; the log-probabilities would say the opposite
    row = [Verification((-9.0, -9.0), (2.0, 4.0)), Verification((-1.0,), (1.0,))]
    high = 1 / (1 + math.exp(-2))
    assert score_row(row, "logit") == pytest.approx([high, 1 - high])


def test_negative_logits_keep_the_ranking() -> None:
    # Divided by their sum, -1 and -3 would become 0.25 and 0.75.
    better, worse = score_row([of_value(-1.0), of_value(-3.0)], "logit")
    assert better is not None
    assert worse is not None
    assert better > worse


values = st.lists(st.floats(-80, 0), min_size=1, max_size=6)


@invariant
@given(values, st.sampled_from(MODES))
def test_scores_rank_as_the_means_do(means: list[float], mode: Any) -> None:
    scores = score_row([of_value(mean) for mean in means], mode)
    for i, one in enumerate(means):
        for j, other in enumerate(means):
            if one >= other:
                assert scores[i] >= scores[j]  # type: ignore[operator]
            if mode != "prob" and one > other + 1e-6:
                assert scores[i] > scores[j]  # type: ignore[operator]


@invariant
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), st.sampled_from(NORMALISED))
def test_normalised_scores_sum_to_one(means: list[float], mode: Any) -> None:
    scores = score_row([of_value(mean) for mean in means], mode)
    assert all(score is not None and 0 <= score <= 1 for score in scores)
    assert math.fsum(score or 0 for score in scores) == pytest.approx(1.0)


@invariant
@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=6),
    st.floats(-1000, 1000),
    st.sampled_from(NORMALISED),
)
def test_normalised_scores_do_not_see_a_shift(means: list[float], shift: float, mode: Any) -> None:
    scores = score_row([of_value(mean) for mean in means], mode)
    shifted = score_row([of_value(mean + shift) for mean in means], mode)
    assert shifted == pytest.approx(scores, abs=1e-9)


@invariant
@given(st.lists(values, min_size=1, max_size=4), st.sampled_from(MODES), st.randoms())
def test_the_order_of_candidates_changes_no_score(
    rows: list[list[float]], mode: Any, random: Any
) -> None:
    row = [Verification(tuple(row), tuple(row)) for row in rows]
    order = random.sample(range(len(row)), len(row))
    scores = score_row(row, mode)
    assert score_row([row[i] for i in order], mode) == [scores[i] for i in order]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("broken", [(math.nan,), (-1.0, math.inf), (-math.inf, -1.0), ()])
def test_a_broken_verification_is_void_and_leaves_the_others_alone(
    mode: Any, broken: tuple[float, ...]
) -> None:
    sound = [of_value(-1.0), of_value(-2.0)]
    scores = score_row([sound[0], Verification(broken, broken), sound[1]], mode)
    assert scores[1] is None
    assert [scores[0], scores[2]] == score_row(sound, mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_row_of_void_verifications_stays_void(mode: Any) -> None:
    assert score_row([Verification(()), Verification((math.nan,), (math.nan,))], mode) == [None] * 2
    assert score_row([], mode) == []


def test_only_the_values_that_the_mode_reads_can_make_it_void() -> None:
    no_logits = Verification((-1.0,))
    assert score_row([no_logits], "logit") == [None]
    assert score_row([no_logits], "logprob") == [1.0]
    bad_logits = Verification((-1.0,), (math.nan,))
    assert score_row([bad_logits], "prob") == pytest.approx([math.exp(-1)])


def test_a_hopeless_candidate_has_score_zero_not_none() -> None:
    assert score_row([of_value(-1e6)], "prob") == [0.0]
    assert score_row([of_value(0.0), of_value(-1e6)], "logprob") == [1.0, 0.0]
