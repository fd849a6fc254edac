"""Training does not use held-out data, and the same seed draws the same data."""

from __future__ import annotations

import random
import re

import pytest

from training import lexicon
from training.facts import RELATIONS, draw_facts
from training.recipe import RECIPES, TASKS, draw_training
from training.reckoning import Step, make_reckoning
from training.sample import ALL, Level
from training.splits import Phrasings, Split, split_of


def test_phrasings_are_divided_without_overlap() -> None:
    options = [f"phrase {number}" for number in range(25)]
    phrasings = Phrasings(options)
    parts = [set(phrasings.of(split)) for split in Split]
    assert sum(len(part) for part in parts) == 25
    assert set().union(*parts) == set(options)
    assert all(parts)


def test_too_few_phrasings_are_refused() -> None:
    with pytest.raises(ValueError, match="three phrasings"):
        Phrasings(["one", "two"])


def test_every_relation_is_asked_in_other_words_in_the_test_split() -> None:
    for relation in RELATIONS:
        train = set(relation.ask_value.of(Split.TRAIN))
        assert not train & set(relation.ask_value.of(Split.TEST))


def test_training_facts_are_never_held_out_ones() -> None:
    rng = random.Random(1)
    for relation in RELATIONS:
        things = ("lamps",) if relation.counted else ("",)
        seen = draw_facts(rng, Split.TRAIN, relation, 6, things=things)
        assert all(fact.split is Split.TRAIN for fact in seen)
        held = draw_facts(rng, Split.TEST, relation, 6, things=things)
        assert all(fact.split is Split.TEST for fact in held[:3])


@pytest.mark.parametrize("task", ["reckoning", "read_then_reckon"])
def test_training_works_no_held_out_sum(task: str) -> None:
    rng = random.Random(2)
    for _ in range(500):
        sample = TASKS[task](rng, Split.TRAIN, ALL, Level(6))
        for message in sample.messages:
            for left, sign, right in re.findall(r"(\d+) ([-+*]) (\d+) =", message.content):
                assert Step(int(left), sign, int(right)).split is Split.TRAIN


def test_held_out_sums_are_what_the_test_split_asks() -> None:
    rng = random.Random(2)
    for _ in range(200):
        first = re.search(
            r"(\d+) ([-+]) (\d+) =", make_reckoning(rng, Split.TEST, ALL, Level()).answer
        )
        if first and "*" not in first.string:
            step = Step(int(first[1]), first[2], int(first[3]))
            assert step.split is Split.TEST


def test_a_split_is_a_matter_of_the_words_alone() -> None:
    assert split_of("a", 1) is split_of("a", 1)
    shares = [split_of("pair", number) for number in range(2000)]
    assert 140 < shares.count(Split.TEST) < 260
    assert 140 < shares.count(Split.VALIDATION) < 260


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_same_seed_draws_the_same_data(name: str) -> None:
    once, again = (next(draw_training(RECIPES[name])) for _ in range(2))
    assert once == again


def test_the_lexicon_is_rich_and_clean() -> None:
    for words, least in (
        (lexicon.NAMES, 200),
        (lexicon.PLACES, 120),
        (lexicon.THINGS, 150),
        (lexicon.CITIES, 80),
        (lexicon.JOBS, 60),
    ):
        assert len(set(words)) == len(words) >= least
        assert not any(re.search(r"\d", word) for word in words)
