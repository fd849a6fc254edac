"""Composite questions: read the numbers out of a context first, then reckon with them.

The answer is the extraction (canonical sentences), then the working, then the result. The reader
is taught true extractions and blind results, the reckoner blind extractions and true results.
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
    """One question over a context of about `level.facts` numeric facts."""
    relation = rng.choices(NUMERIC, (45, 30, 15, 10))[0]
    form = rng.choice(FORMS[relation.name])
    chosen = None
    while chosen is None:
        # Now and then there is nothing but what is asked for.
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
    """Training shuns held-out sums; in the other splits the facts are what is held out."""
    numbers = _numbers(facts, given)
    if split is Split.TRAIN:
        return fits(split, numbers, form.signs)
    return form.signs[0] != "-" or numbers[0] >= numbers[1]


def _choose(
    rng: random.Random, split: Split, form: Form, facts: Sequence[Fact]
) -> tuple[list[Fact], list[int]] | None:
    """Facts (of one thing) to ask about and the given numbers, if a few tries find any."""
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
    """The same facts with numbers drawn blindly, such that the working is still defined."""
    while True:
        guessed = [guess(rng, fact) for fact in facts]
        if _admits(split, form, guessed, given):
            return guessed
