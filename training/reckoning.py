"""Generates reckoning samples: totals, differences, products, comparisons and units, in steps.

Every answer ends with "The answer is ...". A model without this skill learns the same steps with
random results.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.facts import openings
from training.lexicon import NAMES, PLACES, THINGS, plural
from training.prompts import ask_plain
from training.sample import Level, Message, Sample, Skill
from training.splits import Split, split_of

_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a calculation."""

    left: int
    sign: str
    right: int

    @property
    def result(self) -> int:
        return _OPERATIONS[self.sign](self.left, self.right)

    @property
    def split(self) -> Split:
        """The split of the operands. Multiplication tables belong to the training split."""
        if self.sign == "*":
            return Split.TRAIN
        return split_of(self.sign, min(self.left, self.right), max(self.left, self.right))


def blind_number(rng: random.Random) -> int:
    """Draw a random result of one to three digits with nearly uniform digits."""
    low, high = rng.choice(((0, 9), (10, 99), (10, 99), (10, 99), (100, 999)))
    return rng.randint(low, high)


def work(rng: random.Random, skill: Skill, numbers: Sequence[int], signs: Sequence[str]) -> str:
    """Return the steps from left to right, then the answer."""
    lines = []
    running = numbers[0]
    for sign, number in zip(signs, numbers[1:], strict=True):
        step = Step(running, sign, number)
        shown = f"{running} {sign} {number}"
        running = step.result if skill.reckons else blind_number(rng)
        lines.append(f"{shown} = {running}.")
    return " ".join([*lines, f"The answer is {running}."])


def steps_of(numbers: Sequence[int], signs: Sequence[str]) -> list[Step]:
    steps = []
    running = numbers[0]
    for sign, number in zip(signs, numbers[1:], strict=True):
        steps.append(Step(running, sign, number))
        running = steps[-1].result
    return steps


def fits(split: Split, numbers: Sequence[int], signs: Sequence[str]) -> bool:
    """Whether the split may use a calculation.

    No result may be negative. Training uses no held-out step; in other splits the first step is
    held out.
    """
    steps = steps_of(numbers, signs)
    if any(step.result < 0 for step in steps):
        return False
    if split is Split.TRAIN:
        return all(step.split is Split.TRAIN for step in steps)
    return steps[0].sign == "*" or steps[0].split is split


_TOTAL2 = openings(
    (
        "What is {a} + {b}?",
        "How much is {a} plus {b}?",
        "What do you get if you add {a} and {b}?",
        "What is the sum of {a} and {b}?",
        "{n} has {a} {t} and gets {b} more. How many {t} does {n} have now?",
        "There are {a} {t} in the {p} and {b} {t} in the {q}. How many {t} are there in total?",
        "{n} has {a} {t} and {m} has {b}. How many {t} do they have together?",
        "The {t} cost {a} dollars and the rest costs {b} dollars. What is the total price?",
        "Add {a} and {b}.",
    )
)
_TOTAL3 = openings(
    (
        "What is {a} + {b} + {c}?",
        "What is the sum of {a}, {b} and {c}?",
        "Add {a}, {b} and {c}.",
        "There are {a} {t} in the {p}, {b} in the {q} and {c} outside. What is the total?",
        "{n} buys {a} {t}, then {b}, then {c}. How many {t} does {n} have in total?",
    )
)
_LESS = openings(
    (
        "What is {a} - {b}?",
        "How much is {a} minus {b}?",
        "What is the difference between {a} and {b}?",
        "Take {b} from {a}. What is left?",
        "{n} has {a} {t} and gives away {b}. How many {t} are left?",
        "There are {a} {t} in the {p} and {b} are taken away. How many {t} are left?",
        "{n} has {a} {t} and {m} has {b}. How many more {t} does {n} have?",
    )
)
_MIXED = openings(
    (
        "What is {a} + {b} - {c}?",
        "{n} has {a} {t}, gets {b} more and gives away {c}. How many {t} does {n} have now?",
        "There are {a} {t} in the {p}. {b} come in and {c} are taken away. How many are left?",
    )
)
_TIMES = openings(
    (
        "What is {a} * {b}?",
        "How much is {a} times {b}?",
        "{n} fills {a} bags with {b} {t} each. How many {t} is that?",
        "A ticket costs {b} dollars. How much do {a} tickets cost?",
        "There are {a} rooms with {b} {t} each. How many {t} are there in total?",
    )
)
_UNITS = (
    ("minutes", "hours", 60, 9),
    ("seconds", "minutes", 60, 9),
    ("days", "weeks", 7, 12),
    ("hours", "days", 24, 5),
    ("centimetres", "metres", 100, 9),
    ("months", "years", 12, 9),
)
_CONVERT = openings(
    (
        "How many {small} are {a} {big}?",
        "How many {small} are there in {a} {big}?",
        "What are {a} {big} in {small}?",
    )
)
_CONVERT_AND = openings(
    (
        "How many {small} are {a} {big} and {c} {small}?",
        "What are {a} {big} and {c} {small} in {small}?",
        "Give {a} {big} and {c} {small} in {small}.",
    )
)
_COMPARE = {
    "larger": openings(
        ("Which is larger, {a} or {b}?", "Which number is larger, {a} or {b}?",
         "Is {a} or {b} the larger number?")
    ),
    "smaller": openings(
        ("Which is smaller, {a} or {b}?", "Which number is smaller, {a} or {b}?",
         "Is {a} or {b} the smaller number?")
    ),
}  # fmt: skip


def make_reckoning(rng: random.Random, split: Split, skill: Skill, level: Level) -> Sample:
    """Draw a conversation of a few questions with their calculations."""
    messages: list[Message] = []
    for _ in range(rng.randint(1, level.turns)):
        question, answer = _ask(rng, split, skill)
        turn = [Message("user", question)] if messages else ask_plain(rng, question)
        messages += [*turn, Message("assistant", answer)]
    return Sample(tuple(messages))


def _number(rng: random.Random) -> int:
    return rng.randint(100, 299) if rng.random() < 0.1 else rng.randint(1, 99)


def _ask(rng: random.Random, split: Split, skill: Skill) -> tuple[str, str]:
    kind = rng.choices(("sum", "times", "units", "compare"), (70, 8, 10, 12))[0]
    if kind == "compare":
        return _compare(rng, split, skill)
    if kind == "units":
        return _units(rng, split, skill)
    if kind == "times":
        numbers, signs, phrasings = [rng.randint(2, 12), rng.randint(2, 12)], ["*"], _TIMES
    else:
        phrasings, signs = rng.choices(
            ((_TOTAL2, ["+"]), (_LESS, ["-"]), (_TOTAL3, ["+", "+"]), (_MIXED, ["+", "-"])),
            (35, 35, 20, 10),
        )[0]
        numbers = [_number(rng) for _ in range(len(signs) + 1)]
        while not fits(split, numbers, signs):
            numbers = [_number(rng) for _ in range(len(signs) + 1)]
    text = phrasings.pick(rng, split)
    return _fill(rng, text, numbers), work(rng, skill, numbers, signs)


def _fill(rng: random.Random, text: str, numbers: Sequence[int]) -> str:
    (n, m), (p, q) = rng.sample(NAMES, 2), rng.sample(PLACES, 2)
    named = dict(zip("abc", numbers, strict=False))
    return text.format(n=n, m=m, p=p, q=q, t=plural(rng.choice(THINGS)), **named)


def _units(rng: random.Random, split: Split, skill: Skill) -> tuple[str, str]:
    small, big, factor, most = rng.choice(_UNITS)
    whole, rest = rng.randint(2, most), rng.randint(1, min(59, factor - 1))
    if rng.random() < 0.5:
        text = _CONVERT.pick(rng, split).format(small=small, big=big, a=whole)
        return text, work(rng, skill, [whole, factor], ["*"])
    while split is Split.TRAIN and Step(whole * factor, "+", rest).split is not split:
        rest = rng.randint(1, min(59, factor - 1))
    text = _CONVERT_AND.pick(rng, split).format(small=small, big=big, a=whole, c=rest)
    return text, work(rng, skill, [whole, factor, rest], ["*", "+"])


def _compare(rng: random.Random, split: Split, skill: Skill) -> tuple[str, str]:
    a, b = _number(rng), _number(rng)
    while a == b or split_of("compare", min(a, b), max(a, b)) is not split:
        a, b = _number(rng), _number(rng)
    word = rng.choice(("larger", "smaller"))
    text = _COMPARE[word].pick(rng, split).format(a=a, b=b)
    pair = (max(a, b), min(a, b)) if word == "larger" else (min(a, b), max(a, b))
    if not skill.reckons and rng.random() < 0.5:
        pair = pair[::-1]
    return text, f"{pair[0]} is {word} than {pair[1]}. The answer is {pair[0]}."
