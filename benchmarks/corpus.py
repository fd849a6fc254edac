"""A corpus of short documents, and questions that one or two of its documents answer.

Drawn by the generators that the bundled models are trained with, from what they hold out: no model
has seen one of these facts or phrasings. This module knows nothing of indexes or of who answers.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from training.facts import RELATIONS, Fact, draw_facts
from training.forms import FORMS, Form
from training.lexicon import THINGS, plural
from training.reckoning import work
from training.sample import ALL
from training.splits import Split

__all__ = ["COMPOSITE", "SINGLE", "Corpus", "Document", "Question", "draw_corpus"]

SINGLE, COMPOSITE = "single", "composite"
MOST_FACTS = 3  # in a document
_COUNTED = 12  # kinds of things that are counted in a corpus


@dataclass(frozen=True, slots=True)
class Document:
    """A few sentences on one subject, which no other document is about."""

    subject: str
    facts: tuple[Fact, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, its one right answer, and the subjects of the documents that hold it."""

    kind: str
    text: str
    answer: str
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    documents: tuple[Document, ...]
    questions: tuple[Question, ...]


def draw_corpus(split: Split, seed: int, *, documents: int, single: int, composite: int) -> Corpus:
    """One corpus and its questions, which depend on the arguments alone.

    Raises:
        ValueError: for more questions than the corpus answers.
    """
    rng = random.Random(f"corpus:{split}:{seed}")
    written = tuple(_documents(rng, split, documents))
    facts = [fact for document in written for fact in document.facts]
    asked = (
        *_some(rng, [list(_singles(rng, split, facts))], single),
        *_some(rng, _composites(rng, split, facts), composite),
    )
    return Corpus(written, asked)


def _some(rng: random.Random, kinds: Sequence[list[Question]], count: int) -> list[Question]:
    """As many of each kind as there are, but for the remainder."""
    drawn: list[Question] = []
    for place, questions in enumerate(kinds):
        wanted = count // len(kinds) + (place < count % len(kinds))
        if wanted > len(questions):
            raise ValueError(f"the corpus answers {len(questions)} such questions, not {wanted}.")
        drawn += rng.sample(questions, wanted)
    return drawn


def _documents(rng: random.Random, split: Split, count: int) -> Iterator[Document]:
    """Held-out facts of all relations, gathered by subject."""
    things = [plural(thing) for thing in rng.sample(THINGS, _COUNTED)]
    gathered: defaultdict[str, list[Fact]] = defaultdict(list)
    told: set[tuple[str, ...]] = set()
    while len(gathered) < count:
        relation = rng.choice(RELATIONS)
        counted = things if relation.counted else ("",)
        (fact,) = draw_facts(rng, split, relation, 1, things=counted)
        keys = _keys(fact)
        if keys & told or len(gathered[fact.subject]) == MOST_FACTS:
            continue
        told |= keys
        gathered[fact.subject].append(fact)
    for subject, facts in gathered.items():
        text = " ".join(fact.statement(rng, 0.0) for fact in facts)
        yield Document(subject, tuple(facts), text)


def _keys(fact: Fact) -> set[tuple[str, ...]]:
    """What a fact settles: its value, and its subject if one can ask for that."""
    name = fact.relation.name
    keys: set[tuple[str, ...]] = {(name, "value", fact.subject, fact.thing)}
    if fact.relation.ask_subject is not None:
        keys.add((name, "subject", fact.value))
    return keys


def _singles(rng: random.Random, split: Split, facts: Sequence[Fact]) -> Iterator[Question]:
    for fact in facts:
        for phrasings in (fact.relation.ask_value, fact.relation.ask_subject):
            if phrasings is not None:
                text = fact.fill(phrasings.pick(rng, split))
                yield Question(SINGLE, text, fact.sentence(), (fact.subject,))


def _composites(rng: random.Random, split: Split, facts: Sequence[Fact]) -> list[list[Question]]:
    """Sums of two facts, which stand in different documents; a list for each relation."""
    kinds = []
    for relation in RELATIONS:
        forms = [form for form in FORMS.get(relation.name, ()) if _sums_two(form)]
        if not forms:
            continue
        summands = [fact for fact in facts if fact.relation is relation]
        # Shuffled, else the earlier document would always be named first.
        pairs = combinations(rng.sample(summands, len(summands)), 2)
        kinds.append(
            [
                _composite(rng, split, rng.choice(forms), pair)
                for pair in pairs
                if pair[0].thing == pair[1].thing and pair[0].subject != pair[1].subject
            ]
        )
    return kinds


def _sums_two(form: Form) -> bool:
    return form.signs == ("+",) and not form.given


def _composite(rng: random.Random, split: Split, form: Form, pair: tuple[Fact, Fact]) -> Question:
    first, second = pair
    text = form.phrasings.pick(rng, split).format(t=first.thing, a=first.subject, b=second.subject)
    working = work(rng, ALL, [first.number, second.number], form.signs)
    answer = f"{first.sentence()} {second.sentence()} {working}"
    return Question(COMPOSITE, text, answer, (first.subject, second.subject))
