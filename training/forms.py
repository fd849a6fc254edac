"""The forms of composite questions: phrasings, number of facts and calculation.

This module contains data only; `training.composite` generates the conversations.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.facts import AGE, OWNS, PRICE, STOCK, openings
from training.splits import Phrasings


@dataclass(frozen=True, slots=True)
class Form:
    """A question about the facts `{a}`, `{b}`, `{c}` and perhaps a given number `{n}`.

    `{t}` is the counted thing. The operands are the values of the facts, then the given number.
    """

    phrasings: Phrasings
    facts: int
    signs: tuple[str, ...]
    given: bool


def _form(signs: str, *cores: str) -> Form:
    given = "{n}" in cores[0]
    return Form(openings(cores), len(signs) + (not given), tuple(signs), given)


FORMS: dict[str, tuple[Form, ...]] = {
    STOCK.name: (
        _form(
            "+",
            "How many {t} are in the {a} and the {b} in total?",
            "How many {t} do the {a} and the {b} have together?",
            "What is the total number of {t} in the {a} and the {b}?",
        ),
        _form(
            "++",
            "How many {t} are in the {a}, the {b} and the {c} in total?",
            "How many {t} do the {a}, the {b} and the {c} have together?",
            "What is the total number of {t} in the {a}, the {b} and the {c}?",
        ),
        _form(
            "-",
            "How many more {t} are in the {a} than in the {b}?",
            "How many more {t} does the {a} have than the {b}?",
        ),
        _form(
            "-",
            "If {n} {t} are taken from the {a}, how many are left?",
            "{n} {t} are taken away from the {a}. How many {t} are left there?",
        ),
        _form(
            "+",
            "If {n} more {t} are brought to the {a}, how many are there?",
            "{n} more {t} come to the {a}. How many {t} are there now?",
        ),
    ),
    OWNS.name: (
        _form(
            "+",
            "How many {t} do {a} and {b} have in total?",
            "How many {t} do {a} and {b} have together?",
            "What is the total number of {t} of {a} and {b}?",
        ),
        _form(
            "++",
            "How many {t} do {a}, {b} and {c} have in total?",
            "How many {t} do {a}, {b} and {c} have together?",
        ),
        _form(
            "-",
            "How many more {t} does {a} have than {b}?",
            "How many more {t} does {a} own than {b}?",
        ),
        _form(
            "-",
            "{a} gives away {n} {t}. How many {t} are left?",
            "If {a} loses {n} {t}, how many are left?",
        ),
        _form(
            "+",
            "{a} buys {n} more {t}. How many {t} does {a} have now?",
            "If {a} gets {n} more {t}, how many does {a} have?",
        ),
    ),
    PRICE.name: (
        _form(
            "+",
            "What do the {a} and the {b} cost together?",
            "What is the total price of the {a} and the {b}?",
            "How much do I pay for the {a} and the {b} in total?",
        ),
        _form(
            "-",
            "How much more does the {a} cost than the {b}?",
            "How many dollars more is the {a} than the {b}?",
        ),
    ),
    AGE.name: (
        _form(
            "-",
            "How much older is {a} than {b}?",
            "How many years older is {a} than {b}?",
        ),
        _form(
            "+",
            "How old will {a} be in {n} years?",
            "What is the age of {a} in {n} years?",
        ),
    ),
}
