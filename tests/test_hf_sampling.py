"""Draws equal transformers' filters, and belong to (seed, base model, position)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from specfuse_core import SamplingParams
from specfuse_core.hf import sampling
from specfuse_core.hf.sampling import Sampler, uniform

NONE = torch.tensor([], dtype=torch.long)


def sampler(undraftable: torch.Tensor = NONE, name: str = "m", **params: object) -> Sampler:
    return Sampler(SamplingParams(**{"temperature": 1.0, "seed": 0, **params}), name, undraftable)


def expected(logits: torch.Tensor, context: list[int], params: SamplingParams) -> torch.Tensor:
    """Probabilities ``[V]`` after transformers' own processors, in the order of ``generate``."""
    ids, scores = torch.tensor([context]), logits[None].double()
    if params.repetition_penalty != 1:
        scores = RepetitionPenaltyLogitsProcessor(params.repetition_penalty)(ids, scores)
    scores = TemperatureLogitsWarper(float(params.temperature))(ids, scores)
    if params.top_k:
        scores = TopKLogitsWarper(params.top_k)(ids, scores)
    if params.top_p < 1:
        scores = TopPLogitsWarper(params.top_p)(ids, scores)
    if params.min_p > 0:
        scores = MinPLogitsWarper(params.min_p)(ids, scores)
    return scores[0].softmax(-1)


def drawn(
    logits: torch.Tensor, context: list[int], owner: Sampler, monkeypatch: pytest.MonkeyPatch
) -> torch.Tensor:
    """Probabilities ``[V]`` of a sampler, from where its draw changes as u goes from 0 to 1."""
    found = torch.zeros(len(logits), dtype=torch.double)

    def choose(u: float) -> int:
        monkeypatch.setattr(sampling, "uniform", lambda *_: u)
        return owner.choose(logits, 0, context)

    def split(low: float, high: float, first: int, last: int) -> None:
        # Each id owns one stretch of u, so equal ends mean one id in between.
        if first == last:
            found[first] += high - low
        elif high - low < 1e-7:
            found[first] += (high - low) / 2
            found[last] += (high - low) / 2
        else:
            middle = (low + high) / 2
            id_ = choose(middle)
            split(low, middle, first, id_)
            split(middle, high, id_, last)

    top = 1 - 2**-48
    split(0.0, top, choose(0.0), choose(top))
    return found


FILTERS = [
    {},
    {"temperature": 0.3},
    {"temperature": 1.7},
    {"top_k": 1},
    {"top_k": 5},
    {"top_k": 1000},
    {"top_p": 0.9},
    {"top_p": 0.2},
    {"top_p": 1e-6},
    {"min_p": 0.1},
    {"min_p": 1.0},
    {"repetition_penalty": 1.5},
    {"repetition_penalty": 0.7},
    {"temperature": 0.6, "top_p": 0.9},
    {"temperature": 1.3, "top_k": 12, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 1.2},
    {"temperature": 2.0, "top_k": 40, "min_p": 0.2},
]


@pytest.mark.parametrize("params", FILTERS, ids=str)
@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
def test_probabilities_are_those_of_transformers_filters(
    params: dict[str, float], spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(int(spread * 10))
    logits = torch.randn(40) * spread
    context = [3, 3, 17, 39]
    owner = sampler(**params)
    wanted = expected(logits, context, owner._params)
    found = drawn(logits, context, owner, monkeypatch)
    assert bool((wanted[found > 0] > 0).all())
    # The search for borders is blind to what is narrower.
    assert bool((found[wanted > 1e-6] > 0).all())
    assert float((found - wanted).abs().max()) < 2e-6


@pytest.mark.parametrize(
    "params",
    [{}, {"top_p": 0.95}, {"top_p": 0.999}, {"min_p": 0.5}, {"top_k": 1500}, {"top_k": 3}],
    ids=str,
)
@pytest.mark.parametrize("spread", [0.0005, 1.0, 5.0])
@pytest.mark.parametrize("size", [1024, 1025, 3000])
def test_large_vocabularies_are_cut_and_drawn_as_small_ones(
    params: dict[str, float], spread: float, size: int
) -> None:
    """Whether or not the shortlist suffices: flat distributions need all of the vocabulary."""
    torch.manual_seed(size)
    logits = torch.randn(size) * spread
    owner = sampler(**params)
    wanted = expected(logits, [], owner._params)
    order = wanted.sort(descending=True)
    borders = order.values.cumsum(0)
    for step in range(60):
        u = (step + 0.5) / 60
        id_ = owner._draw(logits, u)
        assert wanted[id_] > 0
        rank = int((order.indices == id_).nonzero())
        low = float(borders[rank - 1]) if rank else 0.0
        assert low - 1e-4 <= u <= float(borders[rank]) + 1e-4


def test_the_last_ids_of_a_flat_distribution_can_be_drawn() -> None:
    logits = torch.linspace(0.001, 0, 5000)
    assert sampler()._draw(logits, 1 - 2**-48) == 4999
    assert sampler()._draw(logits, 0.0) == 0


def test_a_shortlist_that_suffices_is_all_that_is_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    topk = torch.Tensor.topk
    monkeypatch.setattr(torch.Tensor, "topk", lambda self, k: sizes.append(k) or topk(self, k))
    logits = torch.cat([torch.tensor([20.0, 19.0]), torch.zeros(5000)])
    sampler(top_p=0.9)._draw(logits, 0.99)
    sampler()._draw(logits, 0.5)
    assert sizes == [1024, 1024]


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    seed=st.integers(0, 2**20),
    size=st.integers(2, 1500),
    spread=st.sampled_from([0.01, 1.0, 6.0]),
    temperature=st.sampled_from([0.2, 0.7, 1.0, 1.9]),
    top_k=st.none() | st.integers(1, 1500),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.02, 0.7]),
    penalty=st.sampled_from([1.0, 1.3, 0.8]),
)
def test_whatever_is_drawn_passes_all_filters(
    seed: int,
    size: int,
    spread: float,
    temperature: float,
    top_k: int | None,
    top_p: float,
    min_p: float,
    penalty: float,
) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(size) * spread
    context = torch.randint(size, (7,)).tolist()
    owner = sampler(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=penalty,
        seed=seed,
    )
    wanted = expected(logits, context, owner._params)
    for position in range(5):
        id_ = owner.choose(logits, position, context)
        # An id whose probability lies on the very border of a filter may be on either side.
        assert wanted[id_] > 0 or _on_a_border(logits, context, owner._params, id_)


def _on_a_border(
    logits: torch.Tensor, context: list[int], params: SamplingParams, id_: int
) -> bool:
    loose = params.replace(top_p=min(1.0, params.top_p + 1e-4), min_p=params.min_p * 0.999)
    return bool(expected(logits, context, loose)[id_] > 0)


# Greedy


def test_temperature_zero_takes_the_largest_logit() -> None:
    torch.manual_seed(0)
    for _ in range(20):
        logits = torch.randn(2000)
        owner = sampler(temperature=0, top_p=0.5, top_k=3)
        assert owner.choose(logits, 5, [1]) == int(logits.argmax())


def test_temperature_zero_still_penalises_repetition() -> None:
    logits = torch.tensor([2.0, 1.9, -1.0])
    assert sampler(temperature=0).choose(logits, 0, [0]) == 0
    assert sampler(temperature=0, repetition_penalty=1.5).choose(logits, 0, [0]) == 1
    negative = torch.tensor([-1.0, -1.1])
    assert sampler(temperature=0, repetition_penalty=1.5).choose(negative, 0, [0]) == 1


def test_a_very_low_temperature_is_as_good_as_greedy() -> None:
    torch.manual_seed(1)
    logits = torch.randn(500)
    assert sampler(temperature=1e-4).choose(logits, 3, []) == int(logits.argmax())


def test_the_logits_are_left_alone() -> None:
    logits = torch.randn(50)
    before = logits.clone()
    sampler(torch.tensor([1, 2]), repetition_penalty=2.0).choose(logits, 0, [4])
    assert torch.equal(logits, before)


def test_half_precision_is_drawn_from_in_full_precision() -> None:
    logits = torch.randn(300).bfloat16()
    assert sampler().choose(logits, 0, []) == sampler().choose(logits.float(), 0, [])


# What a draw depends on


def test_a_draw_depends_on_seed_name_and_position_alone() -> None:
    torch.manual_seed(0)
    logits = torch.randn(900)

    def draws(seed: int, name: str) -> list[int]:
        owner = sampler(name=name, seed=seed)
        return [owner.choose(logits, position, [9]) for position in range(40)]

    first = draws(1, "a")
    torch.manual_seed(99)
    assert draws(1, "a") == first
    owner = sampler(name="a", seed=1)
    assert [owner.choose(logits, at, [9, 8]) for at in reversed(range(40))] == first[::-1]
    assert draws(2, "a") != first
    assert draws(1, "b") != first
    assert len(set(first)) > 20


def test_no_two_keys_share_a_number() -> None:
    keys = [
        (seed, name, position)
        for seed in (0, 1, 11, -1, 2**40)
        for name in ("a", "b", "1", "a1", "")
        for position in (0, 1, 10, 11)
    ]
    numbers = {uniform(*key) for key in keys}
    assert len(numbers) == len(keys)
    assert all(0 <= number < 1 for number in numbers)
    assert uniform(1, "a", 2) == uniform(1, "a", 2)


def test_numbers_are_uniform_over_positions_and_seeds() -> None:
    for keys in (
        [(7, "m", position) for position in range(5000)],
        [(seed, "m", 3) for seed in range(5000)],
    ):
        counts = [0] * 20
        for key in keys:
            counts[int(uniform(*key) * 20)] += 1
        square = sum((count - 250) ** 2 / 250 for count in counts)
        assert square < 45  # 19 degrees of freedom: 1 in 1,000 passes 43.8


@pytest.mark.parametrize(
    "params", [{}, {"temperature": 0.6, "top_p": 0.9}, {"top_k": 6, "min_p": 0.05}], ids=str
)
def test_frequencies_over_positions_are_the_probabilities(params: dict[str, float]) -> None:
    torch.manual_seed(4)
    logits = torch.randn(12) * 1.5
    owner = sampler(**params, seed=5)
    wanted = expected(logits, [], owner._params)
    draws = 4000
    counts = torch.zeros(12)
    for position in range(draws):
        counts[owner.choose(logits, position, [])] += 1
    assert torch.equal(counts[wanted == 0], torch.zeros(int((wanted == 0).sum())))
    likely = wanted * draws >= 5
    square = float(((counts - wanted * draws) ** 2 / (wanted * draws))[likely].sum())
    freedom = max(int(likely.sum()) - 1, 1)
    assert square < freedom + 4 * math.sqrt(2 * freedom) + 4


# What is never drawn


@pytest.mark.parametrize("temperature", [0.0, 0.5, 5.0])
def test_undraftable_ids_are_never_drawn(temperature: float) -> None:
    silent = torch.tensor([0, 3, 7, 11])
    logits = torch.zeros(12)
    logits[silent] = 50.0
    owner = sampler(silent, temperature=temperature, repetition_penalty=1.4)
    draws = {owner.choose(logits, position, [0, 3, 5]) for position in range(300)}
    assert draws.isdisjoint(silent.tolist())
    assert temperature == 0 or len(draws) > 4


def test_a_top_k_larger_than_what_may_be_drawn_is_harmless() -> None:
    silent = torch.arange(1, 50)
    owner = sampler(silent, top_k=20, temperature=3.0)
    assert {owner.choose(torch.randn(50), position, []) for position in range(50)} == {0}


def test_logits_that_are_not_numbers_give_some_id_and_no_crash() -> None:
    """Verification then finds the candidate's scores void."""
    logits = torch.full((60,), torch.nan)
    for params in ({}, {"temperature": 0.0}, {"top_p": 0.5}, {"min_p": 0.5, "top_k": 7}):
        assert 0 <= sampler(**params).choose(logits, 0, [1]) < 60
