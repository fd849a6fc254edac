"""Sampling equals transformers' filters; its noise depends on (seed, base model, position, id)."""

from __future__ import annotations

import hashlib
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
from specfuse_core.hf.sampling import Sampler, gumbel

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
    """Probabilities ``[V]`` of a sampler, from how much noise carries each id past the likeliest.

    Gumbel noise draws by exp(-x), where x is the least by which an id's noise must be ahead.
    """
    noise = torch.zeros(len(logits), dtype=torch.double)
    monkeypatch.setattr(sampling, "gumbel", lambda seed, name, position, ids: noise[ids])
    likeliest = owner.choose(logits, 0, context)

    def wins(id_: int, ahead: float) -> bool:
        noise.zero_()
        noise[likeliest] = 1000
        noise[id_] = 1000 + ahead
        return owner.choose(logits, 0, context) == id_

    found = torch.zeros(len(logits), dtype=torch.double)
    for id_ in range(len(logits)):
        low, high = 0.0, 200.0
        if wins(id_, high):
            while high - low > 1e-7:
                middle = (low + high) / 2
                low, high = (low, middle) if wins(id_, middle) else (middle, high)
            found[id_] = math.exp(-high)
    return found / found.sum()


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
    assert torch.equal(found > 0, wanted > 0)
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
    """This includes flat distributions, which need more than the shortlist."""
    torch.manual_seed(size)
    logits = torch.randn(size) * spread
    owner = sampler(**params)
    wanted = expected(logits, [], owner._params)
    values, ids = owner._survivors(logits)
    assert len(set(ids.tolist())) == len(ids)
    # One id, whose probability lies on the very border of a filter, may be on either side.
    assert int((wanted[ids] == 0).sum()) + int((wanted > 0).sum()) - len(ids) in (0, 1)
    assert abs(len(ids) - int((wanted > 0).sum())) <= 1
    inside = wanted[ids] > 0
    assert torch.allclose(values.double().softmax(-1)[inside], wanted[ids][inside], rtol=2e-3)


def test_the_last_ids_of_a_flat_distribution_can_be_drawn() -> None:
    logits = torch.linspace(0.001, 0, 5000)
    draws = [sampler().choose(logits, position, []) for position in range(300)]
    assert min(draws) < 100
    assert max(draws) > 4900


def test_no_more_is_sorted_than_a_draw_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    topk = torch.Tensor.topk
    monkeypatch.setattr(torch.Tensor, "topk", lambda self, k: sizes.append(k) or topk(self, k))
    logits = torch.cat([torch.tensor([20.0, 19.0]), torch.zeros(5000)])
    for params, expected_sizes in (({"top_p": 0.9}, [1024]), ({"top_k": 7}, [7]), ({}, [])):
        sizes.clear()
        sampler(**params).choose(logits, 0, [])
        assert sizes == expected_sizes


def test_noise_is_made_only_for_what_may_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(sampling, "gumbel", lambda *key: made.append(key[3]) or gumbel(*key))
    logits = torch.cat([torch.tensor([20.0, 19.0]), torch.zeros(5000)])
    for params, count in (({"top_p": 0.9}, 2), ({"top_k": 7}, 7), ({"min_p": 0.1}, 2), ({}, 5002)):
        sampler(**params).choose(logits, 0, [])
        assert len(made.pop()) == count


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


def uniform(seed: int, name: str, position: int, ids: torch.Tensor) -> torch.Tensor:
    """Map the noise to (0, 1) with its distribution function."""
    return (-(-gumbel(seed, name, position, ids)).exp()).exp()


def splitmix64(state: int) -> int:
    """The published algorithm, in integers."""
    z = state % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


@pytest.mark.parametrize("key", [(0, "m", 0), (-5, "", 3), (2**70, "ein Modell \u00fc", 151_000)])
def test_the_noise_is_that_of_a_published_generator(key: tuple[int, str, int]) -> None:
    digest = hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=8).digest()
    start = int.from_bytes(digest, "big")
    ids = [0, 1, 2, 3, 1000, 151_935, 2**31, 2**40]
    for id_, noise in zip(ids, gumbel(*key, torch.tensor(ids)).tolist(), strict=True):
        bits = splitmix64(start + id_ * 0x9E3779B97F4A7C15)
        assert noise == pytest.approx(-math.log(-math.log(((bits >> 12) + 0.5) / 2**52)), rel=1e-12)


def test_the_noise_of_an_id_depends_on_no_other_id() -> None:
    everything = gumbel(3, "m", 17, torch.arange(5000))
    some = torch.randperm(5000)[:700]
    assert torch.equal(gumbel(3, "m", 17, some), everything[some])
    assert gumbel(3, "m", 17, some[:0]).shape == (0,)


def test_no_two_keys_share_their_noise() -> None:
    keys = [
        (seed, name, position)
        for seed in (0, 1, 11, -1, 2**40)
        for name in ("a", "b", "1", "a1", "")
        for position in (0, 1, 10, 11)
    ]
    ids = torch.arange(300)
    numbers = torch.cat([gumbel(*key, ids) for key in keys]).tolist()
    assert len(set(numbers)) == len(numbers) == len(keys) * 300
    assert all(map(math.isfinite, numbers))


def chi_square(numbers: torch.Tensor) -> float:
    counts = torch.histc(numbers.float(), 20, 0, 1)
    fair = len(numbers) / 20
    return float(((counts - fair) ** 2 / fair).sum())


def test_numbers_are_uniform_over_ids_positions_seeds_and_names() -> None:
    one = torch.tensor([77])
    for numbers in (
        uniform(7, "m", 5, torch.arange(20_000)),
        torch.cat([uniform(7, "m", position, one) for position in range(5000)]),
        torch.cat([uniform(seed, "m", 3, one) for seed in range(5000)]),
        torch.cat([uniform(7, f"m{i}", 3, one) for i in range(5000)]),
    ):
        assert chi_square(numbers) < 45  # 19 degrees of freedom: 1 in 1,000 passes 43.8


def test_neighbours_have_nothing_to_do_with_each_other() -> None:
    rows = torch.stack([uniform(7, "m", position, torch.arange(200)) for position in range(200)])
    for first, second in (
        (rows[:, :-1], rows[:, 1:]),  # ids
        (rows[:-1], rows[1:]),  # positions
        (rows[:-1, :-1], rows[1:, 1:]),
    ):
        pair = torch.stack([first.flatten(), second.flatten()])
        # The correlation of 39,800 pairs has a standard deviation of 0.005.
        assert abs(float(pair.corrcoef()[0, 1])) < 0.02
        assert chi_square((first + second).flatten() % 1) < 45


# Rounding


@pytest.mark.parametrize(
    "params", [{}, {"top_p": 0.95}, {"top_k": 2500}, {"min_p": 0.5}, {"temperature": 1.7}], ids=str
)
def test_rounding_does_not_change_draws_from_a_flat_distribution(params: dict[str, float]) -> None:
    torch.manual_seed(3)
    owner = sampler(**params)
    changed = 0
    for position in range(150):
        logits = torch.randn(3000) * 1e-3
        rounded = logits + (torch.rand(3000) - 0.5) * 1e-5
        changed += owner.choose(logits, position, []) != owner.choose(rounded, position, [])
    # What rounding carries over the border of a filter is one of thousands.
    assert changed <= bool(params)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    seed=st.integers(0, 2**20),
    size=st.integers(2, 1500),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 6.0]),
    temperature=st.sampled_from([0.5, 1.0, 1.9]),
    top_k=st.none() | st.integers(1, 1500),
    top_p=st.sampled_from([1.0, 0.95, 0.5]),
    min_p=st.sampled_from([0.0, 0.02, 0.7]),
)
def test_rounding_changes_a_draw_only_where_two_ids_are_level(
    seed: int,
    size: int,
    spread: float,
    temperature: float,
    top_k: int | None,
    top_p: float,
    min_p: float,
) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(size) * spread
    rounded = logits + (torch.rand(size) - 0.5) * 2e-5
    owner = sampler(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    for position in range(5):
        first, second = (owner.choose(given, position, []) for given in (logits, rounded))
        if first != second:
            ids = torch.tensor([first, second])
            sums = logits[ids] / temperature + gumbel(seed, "m", position, ids)
            level = abs(float(sums[0] - sums[1])) <= 4e-5 / temperature
            survivors = [
                set(owner._survivors(given / temperature)[1].tolist())
                for given in (logits, rounded)
            ]
            assert level or not {first, second} <= survivors[0] & survivors[1]


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
    """Verification then finds that the candidate has no score."""
    logits = torch.full((60,), torch.nan)
    for params in ({}, {"temperature": 0.0}, {"top_p": 0.5}, {"min_p": 0.5, "top_k": 7}):
        assert 0 <= sampler(**params).choose(logits, 0, [1]) < 60
