"""Reading: questions that a context answers, or on which it is silent.

The answer is the fact's canonical sentence. One who cannot read answers in the same form with a
value drawn blindly.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from training.facts import RELATIONS, Fact, Relation, draw_facts
from training.lexicon import THINGS, plural
from training.prompts import ask_over, write_context
from training.sample import Message, Sample, Skill
from training.splits import Split

SILENT = "The context does not say."


def draw_context(
    rng: random.Random, split: Split, relations: Sequence[Relation], size: int
) -> list[Fact]:
    """About `size` facts of the given relations; the counted ones share a few things."""
    facts: list[Fact] = []
    share = max(1, size // len(relations))
    things = [plural(thing) for thing in rng.sample(THINGS, rng.choice((1, 1, 2, 3)))]
    for relation in relations:
        facts += draw_facts(
            rng, split, relation, share, things=things if relation.counted else ("",)
        )
    return facts


def make_reading(rng: random.Random, split: Split, skill: Skill, size: int) -> Sample:
    """A conversation over one context of up to `size` facts: one to three questions."""
    relations = rng.sample(RELATIONS, min(rng.choice((1, 1, 2, 2, 3)), max(1, size // 2)))
    facts = draw_context(rng, split, relations, size)
    context = write_context(rng, [fact.statement(rng) for fact in facts])
    messages: list[Message] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        question, answer = _ask(rng, split, skill, facts)
        if messages:
            messages.append(Message("user", question))
        else:
            messages = ask_over(rng, split, context, question)
        messages.append(Message("assistant", answer))
    return Sample(tuple(messages))


def _ask(rng: random.Random, split: Split, skill: Skill, facts: Sequence[Fact]) -> tuple[str, str]:
    silent = rng.random() < 0.12
    askable = [fact for fact in facts if fact.split is split]
    fact = _unsaid(rng, split, facts) if silent else rng.choice(askable)
    by_value = fact.relation.ask_subject is not None and rng.random() < 0.4
    question = (fact.relation.ask_subject if by_value else None) or fact.relation.ask_value
    text = fact.fill(question.pick(rng, split))
    if skill.reads:
        return text, SILENT if silent else fact.sentence()
    return text, SILENT if rng.random() < 0.12 else guess(rng, fact, subject=by_value).sentence()


def guess(rng: random.Random, fact: Fact, *, subject: bool = False) -> Fact:
    """The same fact with its value (or subject) drawn blindly."""
    if subject:
        return replace(fact, subject=fact.relation.subject(rng))
    return fact.with_value(fact.relation.value(rng))


def _unsaid(rng: random.Random, split: Split, facts: Sequence[Fact]) -> Fact:
    """A fact of a relation the context speaks of, whose subject and value it does not."""
    like = rng.choice(facts)
    of_kind = [fact for fact in facts if fact.relation is like.relation]
    while True:
        fact = draw_facts(rng, split, like.relation, 1, things=(like.thing,))[0]
        if all(fact.subject != other.subject for other in of_kind) and (
            fact.relation.numeric or all(fact.value != other.value for other in of_kind)
        ):
            return fact
