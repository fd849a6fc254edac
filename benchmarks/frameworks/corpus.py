"""A corpus of short documents, and questions that one or two of the documents answer.

The generators of the training data draw it from their held-out part, so that the bundled models
have not seen these facts and phrasings. This module knows nothing of indexes or models.
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
MOST_FACTS = 3  # maximum number of facts in a document
_COUNTED = 12  # number of kinds of things that a corpus counts


Stated = tuple[Fact, str]  # a fact, and the statement of it in a document


@dataclass(frozen=True, slots=True)
class Document:
    """A few sentences about one subject. No other document has the same subject.

    Args:
        subject: the subject.
        facts: the facts about the subject.
        statements: one sentence for each fact.
    """

    subject: str
    facts: tuple[Fact, ...]
    statements: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.statements)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with one correct answer.

    Args:
        kind: ``SINGLE`` or ``COMPOSITE``.
        text: the question.
        answer: the correct answer.
        statements: the statements that the answer needs, each from another document.
    """

    kind: str
    text: str
    answer: str
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents, and questions about them."""

    documents: tuple[Document, ...]
    questions: tuple[Question, ...]


def draw_corpus(split: Split, seed: int, *, documents: int, single: int, composite: int) -> Corpus:
    """Draw a corpus and its questions. They depend on the arguments only.

    Args:
        split: the split that facts and phrasings belong to.
        seed: seed of the corpus.
        documents: number of documents.
        single: number of questions that one document answers.
        composite: number of questions that need two documents and a sum.

    Raises:
        ValueError: if the corpus does not have that many questions.
    """
    rng = random.Random(f"corpus:{split}:{seed}")
    written = tuple(_documents(rng, split, documents))
    told = [
        (fact, statement)
        for document in written
        for fact, statement in zip(document.facts, document.statements, strict=True)
    ]
    asked = (
        *_some(rng, [list(_singles(rng, split, told))], single),
        *_some(rng, _composites(rng, split, told), composite),
    )
    return Corpus(written, asked)


def _some(rng: random.Random, kinds: Sequence[list[Question]], count: int) -> list[Question]:
    """Draw ``count`` questions, an equal number of each kind (up to the remainder)."""
    drawn: list[Question] = []
    for place, questions in enumerate(kinds):
        wanted = count // len(kinds) + (place < count % len(kinds))
        if wanted > len(questions):
            raise ValueError(
                f"the corpus has {len(questions)} questions of a kind, not {wanted}; ask for fewer "
                "questions or draw more documents."
            )
        drawn += rng.sample(questions, wanted)
    return drawn


def _documents(rng: random.Random, split: Split, count: int) -> Iterator[Document]:
    """Draw facts of all relations, and group them by subject."""
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
        yield Document(subject, tuple(facts), tuple(fact.statement(rng, 0.0) for fact in facts))


def _keys(fact: Fact) -> set[tuple[str, ...]]:
    """Return keys that identify what a fact determines: its value, and perhaps its subject."""
    name = fact.relation.name
    keys: set[tuple[str, ...]] = {(name, "value", fact.subject, fact.thing)}
    if fact.relation.ask_subject is not None:
        keys.add((name, "subject", fact.value))
    return keys


def _singles(rng: random.Random, split: Split, told: Sequence[Stated]) -> Iterator[Question]:
    for fact, statement in told:
        for phrasings in (fact.relation.ask_value, fact.relation.ask_subject):
            if phrasings is not None:
                text = fact.fill(phrasings.pick(rng, split))
                yield Question(SINGLE, text, fact.sentence(), (statement,))


def _composites(rng: random.Random, split: Split, told: Sequence[Stated]) -> list[list[Question]]:
    """Return questions about sums of two facts in different documents, as a list per relation."""
    kinds = []
    for relation in RELATIONS:
        forms = [form for form in FORMS.get(relation.name, ()) if _sums_two(form)]
        if not forms:
            continue
        summands = [each for each in told if each[0].relation is relation]
        # Shuffled, because otherwise a question would always name the earlier document first.
        pairs = combinations(rng.sample(summands, len(summands)), 2)
        kinds.append(
            [
                _composite(rng, split, rng.choice(forms), first, second)
                for first, second in pairs
                if first[0].thing == second[0].thing and first[0].subject != second[0].subject
            ]
        )
    return kinds


def _sums_two(form: Form) -> bool:
    return form.signs == ("+",) and not form.given


def _composite(
    rng: random.Random, split: Split, form: Form, first: Stated, second: Stated
) -> Question:
    (one, _), (other, _) = first, second
    text = form.phrasings.pick(rng, split).format(t=one.thing, a=one.subject, b=other.subject)
    working = work(rng, ALL, [one.number, other.number], form.signs)
    answer = f"{one.sentence()} {other.sentence()} {working}"
    return Question(COMPOSITE, text, answer, (first[1], second[1]))
