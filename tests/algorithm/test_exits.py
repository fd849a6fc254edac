"""Model exit: shares and leaving models, compared with numbers calculated by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from specfuse_core.algorithm.exits import leaving, shares

invariant = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def leave(cumulative: dict[str, float], current: dict[str, float], **knobs: Any) -> list[str]:
    default = {"round_index": 1, "temperature": 0.3, "threshold": 0.5, "min_models": 1}
    return leaving(cumulative, current, **{**default, **knobs})


def test_shares_by_hand() -> None:
    assert shares({"a": 0.6, "b": 0.2, "c": None}) == pytest.approx({"a": 0.75, "b": 0.25, "c": 0})


def test_shares_of_nothing_are_equal() -> None:
    assert shares({"a": 0.0, "b": 0.0}) == {"a": 0.5, "b": 0.5}
    assert shares({"a": 0.0, "b": None}) == {"a": 0.5, "b": 0.5}
    assert shares({"a": None}) == {"a": 1.0}


@invariant
@given(st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=6))
def test_shares_sum_to_one(votes: list[float | None]) -> None:
    named = shares({f"m{i}": vote for i, vote in enumerate(votes)})
    assert math.fsum(named.values()) == pytest.approx(1.0)
    assert all(share >= 0 for share in named.values())


def by_hand(
    cumulative: dict[str, float], current: dict[str, float], tau: float
) -> dict[str, float]:
    """p = softmax(Q / tau), written out."""
    odds = {name: math.exp(cumulative[name] / tau) for name in current}
    return {name: value / sum(odds.values()) for name, value in odds.items()}


def test_the_rule_by_hand() -> None:
    # q = (0.6, 0.4): H = -(0.6 ln 0.6 + 0.4 ln 0.4) / ln 2 = 0.97095; t = 4, so tau = 1.9419 tau_0.
    cumulative, current = {"a": 2.4, "b": 1.6}, {"a": 0.6, "b": 0.4}
    entropy = 0.970951
    # p_b = 1 / (1 + exp(0.8 / tau)) is delta / n = 0.25 at tau = 0.8 / ln 3.
    edge = 0.8 / math.log(3) / (2 * entropy)
    knobs = {"round_index": 4, "threshold": 0.5}
    assert by_hand(cumulative, current, edge * 2 * entropy)["b"] == pytest.approx(0.25)
    assert leave(cumulative, current, temperature=edge * 0.999, **knobs) == ["b"]
    assert leave(cumulative, current, temperature=edge * 1.001, **knobs) == []


def test_the_threshold_by_hand() -> None:
    # Equal shares: H = 1. tau = 1, gaps of ln 2: p = (4, 2, 1) / 7, and delta / 3 = 1 / 7 at 3 / 7.
    cumulative = {"a": math.log(4), "b": math.log(2), "c": 0.0}
    current = dict.fromkeys("abc", 1 / 3)
    assert leave(cumulative, current, temperature=1.0, threshold=3 / 7 * 0.999) == []
    assert leave(cumulative, current, temperature=1.0, threshold=3 / 7 * 1.001) == ["c"]
    assert leave(cumulative, current, temperature=1.0, threshold=6 / 7 * 1.001) == ["c", "b"]


def test_the_same_gap_decides_later_but_not_early_enough_to_be_chance() -> None:
    # tau grows with the square root of t: the gap that decides in round 1 does not in round 9.
    cumulative, current = {"a": 0.8, "b": 0.3}, {"a": 0.55, "b": 0.45}
    assert leave(cumulative, current, temperature=0.3, round_index=1) == ["b"]
    assert leave(cumulative, current, temperature=0.3, round_index=9) == []


def test_a_clear_round_lets_a_loser_go_sooner() -> None:
    cumulative = {"a": 1.2, "b": 0.8}
    assert leave(cumulative, {"a": 0.5, "b": 0.5}, temperature=0.5) == []
    assert leave(cumulative, {"a": 0.95, "b": 0.05}, temperature=0.5) == ["b"]


def test_a_round_that_one_wins_outright_has_no_entropy_and_still_works() -> None:
    assert leave({"a": 1.0, "b": 0.0, "c": 0.0}, {"a": 1.0, "b": 0.0, "c": 0.0}) == ["b", "c"]
    assert leave({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 0.0}) == []


def test_models_that_have_left_are_not_looked_at() -> None:
    cumulative = {"gone": 99.0, "a": 1.0, "b": 1.0}
    assert leave(cumulative, {"a": 0.5, "b": 0.5}) == []


def test_one_model_alone_stays() -> None:
    assert leave({"a": 0.1}, {"a": 1.0}) == []


shares_list = st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda q: sum(q) > 1e-3)


@st.composite
def states(draw: Any) -> tuple[dict[str, float], dict[str, float], int]:
    """Return possible cumulative scores and current shares of some models after t rounds."""
    t = draw(st.integers(1, 30))
    raw = draw(shares_list)
    current = {f"m{i}": q / math.fsum(raw) for i, q in enumerate(raw)}
    past = draw(st.lists(st.floats(0, 1), min_size=len(raw), max_size=len(raw)))
    scale = (t - 1) / max(math.fsum(past), 1e-3)
    cumulative = {
        name: q + extra * scale for (name, q), extra in zip(current.items(), past, strict=True)
    }
    return cumulative, current, t


temperatures = st.floats(0.01, 10)
thresholds = st.floats(0, 1)


@invariant
@given(states(), temperatures, thresholds, st.integers(1, 6))
def test_never_below_min_models(state: Any, tau: float, delta: float, least: int) -> None:
    cumulative, current, t = state
    gone = leave(
        cumulative, current, round_index=t, temperature=tau, threshold=delta, min_models=least
    )
    assert len(set(gone)) == len(gone)
    assert set(gone) <= set(current)
    assert len(current) - len(gone) >= min(least, len(current))


@invariant
@given(states(), temperatures, thresholds, st.integers(1, 3))
def test_the_weaker_leaves_before_the_stronger(
    state: Any, tau: float, delta: float, least: int
) -> None:
    cumulative, current, t = state
    gone = leave(
        cumulative, current, round_index=t, temperature=tau, threshold=delta, min_models=least
    )
    stay = [name for name in current if name not in gone]
    assert all(cumulative[name] <= min(cumulative[s] for s in stay) for name in gone)
    assert gone == sorted(gone, key=cumulative.__getitem__)


def test_far_behind_the_weakest_still_leaves_first() -> None:
    # Without entropy tau is all but zero, and both p underflow to zero.
    cumulative, current = {"a": 0.7, "b": 0.3, "c": 1.0}, {"a": 0.0, "b": 0.0, "c": 1.0}
    assert leave(cumulative, current) == ["b", "a"]
    assert leave(cumulative, current, min_models=2) == ["b"]


@invariant
@given(st.integers(2, 6), st.integers(1, 50), temperatures, thresholds)
def test_equals_stay_together(n: int, t: int, tau: float, delta: float) -> None:
    equal = {f"m{i}": 1 / n for i in range(n)}
    cumulative = dict.fromkeys(equal, t / n)
    assume(delta < 0.999)
    assert leave(cumulative, equal, round_index=t, temperature=tau, threshold=delta) == []


@invariant
@given(states(), st.floats(0, 30), temperatures, thresholds)
def test_twins_share_their_fate(state: Any, quality: float, tau: float, delta: float) -> None:
    cumulative, current, t = state
    twins = {"x": quality, "y": quality}
    share = min(current.values())
    all_current = {**current, "x": share, "y": share}
    total = math.fsum(all_current.values())
    gone = leave(
        {**cumulative, **twins},
        {name: q / total for name, q in all_current.items()},
        round_index=t,
        temperature=tau,
        threshold=delta,
    )
    assert ("x" in gone) == ("y" in gone)


@invariant
@given(states(), temperatures, st.randoms())
def test_the_order_of_models_changes_nothing(state: Any, tau: float, random: Any) -> None:
    cumulative, current, t = state
    names = random.sample(list(current), len(current))
    moved = leave(
        cumulative, {name: current[name] for name in names}, round_index=t, temperature=tau
    )
    assert set(moved) == set(leave(cumulative, current, round_index=t, temperature=tau))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_clear_loser_leaves_with_the_default_knobs(n: int) -> None:
    raw = {f"m{i}": 1.0 for i in range(n - 1)} | {"loser": 0.05}
    current = shares(raw)
    for t in range(1, 20):
        gone = leave({name: q * t for name, q in current.items()}, current, round_index=t)
        if gone:
            assert gone == ["loser"]
            return
    pytest.fail("the loser never left")


def test_no_temperature_is_too_small() -> None:
    cumulative, current = {"a": 0.7, "b": 0.3, "c": 1.0}, {"a": 0.3, "b": 0.2, "c": 0.5}
    assert leave(cumulative, current, temperature=5e-324) == ["b", "a"]
    equal = dict.fromkeys("abc", 1 / 3)
    assert leave(equal, equal, temperature=5e-324) == []
