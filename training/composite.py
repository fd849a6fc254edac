"""Generates composite questions: read numbers from a context, then calculate with them.

The answer has the extraction (canonical sentences), the calculation and the result. The reader
learns correct extractions with random results; the reckoner learns random extractions with correct
results.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from training.facts import NUMERIC, Fact, state
from training.forms import FORMS, Form
from training.prompts import ask_over, write_context
from training.reading import draw_context, guess
from training.reckoning import fits, work
from training.sample import Level, Message, Sample, Skill
from training.splits import Split

_GIVEN = (2, 60)  # range of a number given in the question


def make_composite(rng: random.Random, split: Split, skill: Skill, level: Level) -> Sample:
    """Draw one question about a context of about `level.facts` numeric facts."""
    relation = rng.choices(NUMERIC, (45, 30, 15, 10))[0]
    form = rng.choice(FORMS[relation.name])
    chosen = None
    while chosen is None:
        # Sometimes the context contains only the facts that the question needs.
        facts = draw_context(rng, split, [relation], level, least=form.facts + (rng.random() < 0.8))
        of_kind = [fact for fact in facts if fact.relation is relation]
        chosen = _choose(rng, split, form, of_kind)
    asked, given = chosen
    subjects = dict(zip("abc", (fact.subject for fact in asked), strict=False))
    number = given[0] if given else ""
    question = form.phrasings.pick(rng, split).format(t=asked[0].thing, n=number, **subjects)
    told = asked if skill.reads else _blind(rng, split, form, asked, given)
    extraction = " ".join(fact.sentence() for fact in told)
    working = work(rng, skill, _numbers(told, given), form.signs)
    context = write_context(rng, state(rng, facts, level.plain))
    turns = ask_over(rng, split, context, question)
    return Sample((*turns, Message("assistant", f"{extraction} {working}")))


def _numbers(facts: Sequence[Fact], given: Sequence[int]) -> list[int]:
    return [*(fact.number for fact in facts), *given]


def _admits(split: Split, form: Form, facts: Sequence[Fact], given: Sequence[int]) -> bool:
    """Whether the split may use the question: training must not see held-out sums."""
    numbers = _numbers(facts, given)
    if split is Split.TRAIN:
        return fits(split, numbers, form.signs)
    return form.signs[0] != "-" or numbers[0] >= numbers[1]


def _choose(
    rng: random.Random, split: Split, form: Form, facts: Sequence[Fact]
) -> tuple[list[Fact], list[int]] | None:
    """Choose facts (of one thing) and given numbers; None if a few attempts find none."""
    for _ in range(20):
        thing = rng.choice(facts).thing
        fitting = [fact for fact in facts if fact.thing == thing and fact.split is split]
        if len(fitting) < form.facts:
            continue
        asked = rng.sample(fitting, form.facts)
        given = [rng.randint(*_GIVEN)] if form.given else []
        if _admits(split, form, asked, given):
            return asked, given
    return None


def _blind(
    rng: random.Random, split: Split, form: Form, facts: Sequence[Fact], given: Sequence[int]
) -> list[Fact]:
    """Return the facts with random numbers for which the calculation is still defined."""
    while True:
        guessed = [guess(rng, fact) for fact in facts]
        if _admits(split, form, guessed, given):
            return guessed
