"""Facts about subjects: how a context states them, and how a question asks for them.

Each fact has one canonical sentence, which is also the answer to a question about it. This module
knows nothing of prompts or conversations.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from training import lexicon
from training.splits import Phrasings, Split, split_of

_OPENERS = (
    "",
    "Tell me: ",
    "Please answer: ",
    "I would like to know: ",
    "One question: ",
    "From what is said: ",
    "Can you help me? ",
    "Look it up: ",
)


def openings(cores: Sequence[str]) -> Phrasings:
    """Combine every opener with every core, so that held-out phrasings consist of known words."""
    return Phrasings([opener + core for opener in _OPENERS for core in cores])


def _pick(words: Sequence[str]) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(words)


def _count(rng: random.Random) -> str:
    return str(rng.randint(2, 99))


@dataclass(frozen=True, slots=True)
class Relation:
    """A kind of fact. Its texts have the slots `{s}` (subject), `{v}` (value), `{t}` (things)."""

    name: str
    subject: Callable[[random.Random], str]
    value: Callable[[random.Random], str]
    statements: tuple[str, ...]  # the first is the canonical sentence
    ask_value: Phrasings
    ask_subject: Phrasings | None = None  # None: the value does not identify the subject
    counted: bool = False  # whether the value counts things: "12 lamps"
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact: a relation with its subject and value."""

    relation: Relation
    subject: str
    value: str
    thing: str = ""  # plural; empty unless the relation is counted

    def fill(self, text: str) -> str:
        return text.format(s=self.subject, v=self.value, t=self.thing)

    def sentence(self) -> str:
        return self.fill(self.relation.statements[0])

    def statement(self, rng: random.Random, plain: float) -> str:
        """Return a random statement of the fact; the canonical one at least with chance `plain`."""
        if rng.random() < plain:
            return self.sentence()
        return self.fill(rng.choice(self.relation.statements))

    @property
    def number(self) -> int:
        return int(self.value)

    @property
    def split(self) -> Split:
        """The split that subject and value belong to. A number does not affect the split."""
        other = self.thing if self.relation.counted else self.value
        return split_of(self.relation.name, self.subject, other)

    def with_value(self, value: str) -> Fact:
        return replace(self, value=value)


STOCK = Relation(
    "stock",
    _pick(lexicon.PLACES),
    _count,
    (
        "The {s} has {v} {t}.",
        "There are {v} {t} in the {s}.",
        "In the {s} there are {v} {t}.",
        "The {s} holds {v} {t}.",
    ),
    openings(
        (
            "How many {t} are in the {s}?",
            "How many {t} does the {s} have?",
            "What is the number of {t} in the {s}?",
            "How many {t} are there in the {s}?",
        )
    ),
    counted=True,
    numeric=True,
)
OWNS = Relation(
    "owns",
    _pick(lexicon.NAMES),
    _count,
    (
        "{s} has {v} {t}.",
        "{s} owns {v} {t}.",
        "{s} is the owner of {v} {t}.",
        "{v} {t} belong to {s}.",
    ),
    openings(
        (
            "How many {t} does {s} have?",
            "How many {t} does {s} own?",
            "How many {t} belong to {s}?",
            "What is the number of {t} that {s} has?",
        )
    ),
    counted=True,
    numeric=True,
)
PRICE = Relation(
    "price",
    _pick(lexicon.THINGS),
    _count,
    (
        "The {s} costs {v} dollars.",
        "The price of the {s} is {v} dollars.",
        "The {s} is sold for {v} dollars.",
    ),
    openings(
        (
            "How much does the {s} cost?",
            "What is the price of the {s}?",
            "How many dollars does the {s} cost?",
        )
    ),
    numeric=True,
)
AGE = Relation(
    "age",
    _pick(lexicon.NAMES),
    _count,
    (
        "{s} is {v} years old.",
        "The age of {s} is {v} years.",
        "{s} has lived for {v} years.",
    ),
    openings(("How old is {s}?", "What is the age of {s}?", "How many years old is {s}?")),
    numeric=True,
)
JOB = Relation(
    "job",
    _pick(lexicon.NAMES),
    _pick(lexicon.JOBS),
    ("{s} works as {v}.", "{s} is {v}.", "{s} became {v}.", "By trade {s} is {v}."),
    openings(("What does {s} work as?", "What is the job of {s}?", "Which job does {s} have?")),
    openings(("Who works as {v}?", "Who is {v}?", "Which person works as {v}?")),
)
HOME = Relation(
    "home",
    _pick(lexicon.NAMES),
    _pick(lexicon.CITIES),
    ("{s} lives in {v}.", "{s} has a home in {v}.", "The home of {s} is in {v}."),
    openings(("Where does {s} live?", "In which city does {s} live?", "Where is the home of {s}?")),
    openings(("Who lives in {v}?", "Which person lives in {v}?", "Who has a home in {v}?")),
)
LIKES = Relation(
    "likes",
    _pick(lexicon.NAMES),
    _pick(lexicon.FOODS),
    ("{s} likes {v}.", "{s} is fond of {v}.", "What {s} likes is {v}."),
    openings(("What does {s} like?", "Which food does {s} like?", "What is {s} fond of?")),
    openings(("Who likes {v}?", "Which person likes {v}?", "Who is fond of {v}?")),
)
SPOT = Relation(
    "spot",
    _pick(lexicon.THINGS),
    _pick(lexicon.PLACES),
    ("The {s} is in the {v}.", "You find the {s} in the {v}.", "The {s} lies in the {v}."),
    openings(("Where is the {s}?", "Where do I find the {s}?", "In which place is the {s}?")),
)
COLOUR = Relation(
    "colour",
    _pick(lexicon.THINGS),
    _pick(lexicon.COLOURS),
    ("The {s} is {v}.", "The colour of the {s} is {v}.", "Someone painted the {s} {v}."),
    openings(
        ("What colour is the {s}?", "What is the colour of the {s}?", "Which colour is the {s}?")
    ),
)

RELATIONS = (STOCK, OWNS, PRICE, AGE, JOB, HOME, LIKES, SPOT, COLOUR)
NUMERIC = tuple(relation for relation in RELATIONS if relation.numeric)
#: Relations of people, things and places.
_KINDS = ((OWNS, AGE, JOB, HOME, LIKES), (PRICE, SPOT, COLOUR), (STOCK,))


def draw_facts(
    rng: random.Random,
    split: Split,
    relation: Relation,
    count: int,
    *,
    things: Sequence[str] = ("",),
) -> list[Fact]:
    """Draw `count` facts of one relation, each of which a question can identify.

    No (subject, thing) occurs twice, and no value that a question can ask with. Training never uses
    a held-out fact. In the other splits, the first three facts are held out, so that questions can
    ask for them.
    """
    facts: list[Fact] = []
    asked: set[tuple[str, str]] = set()
    values: set[str] = set()
    while len(facts) < count:
        subject, value = relation.subject(rng), relation.value(rng)
        fact = Fact(relation, subject, value, rng.choice(things))
        if (subject, fact.thing) in asked:
            continue
        if fact.split is not split and (split is Split.TRAIN or len(facts) < 3):
            continue
        if not relation.numeric and value in values:
            continue
        asked.add((subject, fact.thing))
        values.add(value)
        facts.append(fact)
    return facts


def draw_further(
    rng: random.Random, split: Split, facts: Sequence[Fact], count: int, *, things: Sequence[str]
) -> list[Fact]:
    """Draw about `count` more facts about the subjects of `facts`.

    A question can still identify each fact. Training never uses a held-out fact.
    """
    asked = {(fact.relation.name, fact.subject, fact.thing) for fact in facts}
    values = {(fact.relation.name, fact.value) for fact in facts}
    further: list[Fact] = []
    for _ in range(8 * count):
        if len(further) == count:
            break
        like = rng.choice(facts)
        relation = like.relation
        if not relation.counted or rng.random() < 0.4:
            relation = rng.choice(next(kind for kind in _KINDS if relation in kind))
        thing = ""
        if relation.counted:
            thing = rng.choice((rng.choice(things), lexicon.plural(rng.choice(lexicon.THINGS))))
        fact = Fact(relation, like.subject, relation.value(rng), thing)
        key, told = (relation.name, fact.subject, thing), (relation.name, fact.value)
        if key in asked or (not relation.numeric and told in values):
            continue
        if split is Split.TRAIN and fact.split is not split:
            continue
        asked.add(key)
        values.add(told)
        further.append(fact)
    return further


def state(rng: random.Random, facts: Sequence[Fact], plain: float) -> list[str]:
    """Return statements of the facts. Those about one subject are mostly joined."""
    notes: dict[str, list[str]] = {}
    for fact in facts:
        apart = rng.random() < 0.2
        key = fact.sentence() if apart else fact.subject
        notes.setdefault(key, []).append(fact.statement(rng, plain))
    for note in notes.values():
        rng.shuffle(note)
    return [" ".join(note) for note in notes.values()]
