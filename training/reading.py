"""Generates reading samples: questions that a context answers or does not answer.

The answer is the canonical sentence of the fact. A model without this skill learns answers of the
same form with random values.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from training.facts import RELATIONS, Fact, Relation, draw_facts, draw_further, state
from training.lexicon import THINGS, plural
from training.prompts import ask_over, ask_to_refine, write_context
from training.sample import Level, Message, Sample, Skill
from training.splits import Split

SILENT = "The context does not say."
_REFINED = 0.08  # share of the conversations that refine an answer
_CLUMPED = 0.45  # share of the contexts with several facts about one subject
_BLIND_SILENCE = 0.02  # rare, because it is the only answer on which two guesses would agree


def draw_context(
    rng: random.Random, split: Split, relations: Sequence[Relation], level: Level, *, least: int = 1
) -> list[Fact]:
    """Draw about `level.facts` facts, at least `least`. Counted facts share a few things.

    At levels without plain contexts, many contexts have further facts of any relation about the
    same subjects.
    """
    size = max(level.facts, least)
    clumped = not level.plain and rng.random() < _CLUMPED
    first = max(least, 3, round(0.6 * size)) if clumped else size
    facts: list[Fact] = []
    share = max(1, first // len(relations))
    things = [plural(thing) for thing in rng.sample(THINGS, rng.choice((1, 1, 2, 3)))]
    for relation in relations:
        facts += draw_facts(
            rng, split, relation, share, things=things if relation.counted else ("",)
        )
    if clumped:
        facts += draw_further(rng, split, facts, max(1, size - len(facts)), things=things)
    return facts


def make_reading(rng: random.Random, split: Split, skill: Skill, level: Level) -> Sample:
    """Draw a conversation about one context. No question occurs twice."""
    if rng.random() < _REFINED and not level.plain:
        return _make_refined(rng, split, skill, level)
    kinds = min(rng.choice((1, 1, 2, 2, 3, 4)), max(1, level.facts // 2))
    facts = draw_context(rng, split, rng.sample(RELATIONS, kinds), level)
    context = write_context(rng, state(rng, facts, level.plain))
    askable = [fact for fact in facts if fact.split is split]
    messages: list[Message] = []
    for fact in rng.sample(askable, min(rng.randint(1, level.turns), len(askable))):
        silent = rng.random() < level.silence
        asked = _unsaid(rng, split, facts) if silent else fact
        question, answer = _ask(rng, split, skill, level, asked, silent=silent)
        turns = [Message("user", question)]
        if not messages:
            turns = ask_over(rng, split, context, question)
        messages += [*turns, Message("assistant", answer)]
    return Sample(tuple(messages))


def _make_refined(rng: random.Random, split: Split, skill: Skill, level: Level) -> Sample:
    """Draw a request to refine an answer with a second context, which may contain the fact."""
    half = replace(level, facts=max(2, level.facts // 2))
    facts = draw_context(rng, split, [rng.choice(RELATIONS)], half)
    asked = rng.choice([fact for fact in facts if fact.split is split])
    question, sentence = _ask(rng, split, skill, level, asked, silent=False)
    stated = rng.random() < 0.6  # whether the new context contains the fact
    known = rng.random() < (0.3 if stated else 0.7)  # whether the existing answer contains it
    statements = state(rng, [fact for fact in facts if stated or fact is not asked], 0.0)
    answer = asked.sentence() if known else SILENT
    turns = ask_to_refine(rng, write_context(rng, statements), question, answer)
    if skill.reads and not (stated or known):
        sentence = SILENT
    return Sample((*turns, Message("assistant", sentence)))


def _ask(
    rng: random.Random, split: Split, skill: Skill, level: Level, fact: Fact, *, silent: bool
) -> tuple[str, str]:
    by_value = fact.relation.ask_subject is not None and rng.random() < 0.4
    phrasings = (fact.relation.ask_subject if by_value else None) or fact.relation.ask_value
    question = fact.fill(phrasings.pick(rng, split))
    if skill.reads:
        return question, SILENT if silent else fact.sentence()
    if rng.random() < _BLIND_SILENCE:
        return question, SILENT
    return question, guess(rng, fact, subject=by_value).sentence()


def guess(rng: random.Random, fact: Fact, *, subject: bool = False) -> Fact:
    """Return the fact with a random value (or subject)."""
    if subject:
        return replace(fact, subject=fact.relation.subject(rng))
    return fact.with_value(fact.relation.value(rng))


def _unsaid(rng: random.Random, split: Split, facts: Sequence[Fact]) -> Fact:
    """Draw a fact of a relation in the context, with another subject and another value."""
    like = rng.choice(facts)
    of_kind = [fact for fact in facts if fact.relation is like.relation]
    while True:
        fact = draw_facts(rng, split, like.relation, 1, things=(like.thing,))[0]
        if all(fact.subject != other.subject for other in of_kind) and (
            fact.relation.numeric or all(fact.value != other.value for other in of_kind)
        ):
            return fact
