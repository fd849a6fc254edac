"""Helpers for tests that solve generated questions. They do not use the generators."""

from __future__ import annotations

import re

NAME, WORD, DIGITS = r"[A-Z][a-z]+", r"[a-z]+", r"\d+"
# Relation -> patterns of its statements in a context.
STATEMENTS = {
    "stock": (
        rf"\bThe (?P<s>{WORD}) (?:has|holds) (?P<v>{DIGITS}) (?P<t>{WORD})\.",
        rf"\bThere are (?P<v>{DIGITS}) (?P<t>{WORD}) in the (?P<s>{WORD})\.",
        rf"\bIn the (?P<s>{WORD}) there are (?P<v>{DIGITS}) (?P<t>{WORD})\.",
    ),
    "owns": (
        rf"\b(?P<s>{NAME}) (?:has|owns) (?P<v>{DIGITS}) (?P<t>{WORD})\.",
        rf"\b(?P<s>{NAME}) is the owner of (?P<v>{DIGITS}) (?P<t>{WORD})\.",
        rf"\b(?P<v>{DIGITS}) (?P<t>{WORD}) belong to (?P<s>{NAME})\.",
    ),
    "price": (
        rf"\bThe (?P<s>{WORD}) (?:costs|is sold for) (?P<v>{DIGITS}) dollars\.",
        rf"\bThe price of the (?P<s>{WORD}) is (?P<v>{DIGITS}) dollars\.",
    ),
    "age": (
        rf"\b(?P<s>{NAME}) is (?P<v>{DIGITS}) years old\.",
        rf"\bThe age of (?P<s>{NAME}) is (?P<v>{DIGITS}) years\.",
        rf"\b(?P<s>{NAME}) has lived for (?P<v>{DIGITS}) years\.",
    ),
    "job": (
        rf"\b(?P<s>{NAME}) (?:works as|is|became) (?P<v>an? {WORD})\.",
        rf"\bBy trade (?P<s>{NAME}) is (?P<v>an? {WORD})\.",
    ),
    "home": (
        rf"\b(?P<s>{NAME}) (?:lives|has a home) in (?P<v>{NAME})\.",
        rf"\bThe home of (?P<s>{NAME}) is in (?P<v>{NAME})\.",
    ),
    "likes": (
        rf"\b(?P<s>{NAME}) (?:likes|is fond of) (?P<v>{WORD})\.",
        rf"\bWhat (?P<s>{NAME}) likes is (?P<v>{WORD})\.",
    ),
    "spot": (
        rf"\bThe (?P<s>{WORD}) (?:is|lies) in the (?P<v>{WORD})\.",
        rf"\bYou find the (?P<s>{WORD}) in the (?P<v>{WORD})\.",
    ),
    "colour": (
        rf"\bThe (?P<s>{WORD}) is (?P<v>{WORD})\.",
        rf"\bThe colour of the (?P<s>{WORD}) is (?P<v>{WORD})\.",
        rf"\bSomeone painted the (?P<s>{WORD}) (?P<v>{WORD})\.",
    ),
}


def as_said(text: str) -> str:
    """Restore the line breaks of a printed list."""
    return text.replace("\\n", "\n")


def read_facts(text: str) -> dict[tuple[str, str, str], str]:
    """Return the facts of a text as (relation, subject, thing) -> value."""
    facts: dict[tuple[str, str, str], str] = {}
    for relation, patterns in STATEMENTS.items():
        for pattern in patterns:
            for found in re.finditer(pattern, as_said(text)):
                parts = found.groupdict()
                key = (relation, parts["s"], parts.get("t") or "")
                assert facts.get(key, parts["v"]) == parts["v"], f"contradiction on {key}"
                facts[key] = parts["v"]
    return facts


def check_working(answer: str) -> None:
    """Assert that all equations are correct, are chained, and lead to the answer."""
    running: int | None = None
    for left, sign, right, result in re.findall(r"(\d+) ([-+*]) (\d+) = (\d+)", answer):
        a, b = int(left), int(right)
        assert int(result) == {"+": a + b, "-": a - b, "*": a * b}[sign], answer
        assert running in (None, a), answer
        running = int(result)
    if running is not None:
        assert answer.endswith(f"The answer is {running}."), answer
