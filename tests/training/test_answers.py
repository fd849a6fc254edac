"""Every generated answer is correct: an independent solver agrees with it."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest
from solver import DIGITS, NAME, STATEMENTS, WORD, as_said, check_working, read_facts

from training.composite import make_composite
from training.reading import SILENT, make_reading
from training.reckoning import make_reckoning
from training.sample import ALL, READER, RECKONER, Level, Sample, is_right
from training.splits import Split

_N, _W, _D = NAME, WORD, DIGITS
_QUESTIONS = {
    "stock": (
        rf"How many (?P<t>{_W}) are (?:there )?in the (?P<s>{_W})\?",
        rf"How many (?P<t>{_W}) does the (?P<s>{_W}) have\?",
        rf"the number of (?P<t>{_W}) in the (?P<s>{_W})\?",
    ),
    "owns": (
        rf"How many (?P<t>{_W}) does (?P<s>{_N}) (?:have|own)\?",
        rf"How many (?P<t>{_W}) belong to (?P<s>{_N})\?",
        rf"the number of (?P<t>{_W}) that (?P<s>{_N}) has\?",
    ),
    "price": (rf"does the (?P<s>{_W}) cost\?", rf"the price of the (?P<s>{_W})\?"),
    "age": (rf"old is (?P<s>{_N})\?", rf"the age of (?P<s>{_N})\?"),
    "job": (
        rf"does (?P<s>{_N}) (?:work as|have)\?",
        rf"the job of (?P<s>{_N})\?",
        rf"(?:Who|person) (?:works as|is) (?P<v>an? {_W})\?",
    ),
    "home": (
        rf"does (?P<s>{_N}) live\?",
        rf"the home of (?P<s>{_N})\?",
        rf"(?:Who|person) (?:lives|has a home) in (?P<v>{_N})\?",
    ),
    "likes": (
        rf"does (?P<s>{_N}) like\?",
        rf"is (?P<s>{_N}) fond of\?",
        rf"(?:Who|person) (?:likes|is fond of) (?P<v>{_W})\?",
    ),
    "spot": (rf"(?:Where|place) is the (?P<s>{_W})\?", rf"do I find the (?P<s>{_W})\?"),
    "colour": (rf"colour is the (?P<s>{_W})\?", rf"the colour of the (?P<s>{_W})\?"),
}
_ANSWERS = {
    "stock": "The {s} has {v} {t}.",
    "owns": "{s} has {v} {t}.",
    "price": "The {s} costs {v} dollars.",
    "age": "{s} is {v} years old.",
    "job": "{s} works as {v}.",
    "home": "{s} lives in {v}.",
    "likes": "{s} likes {v}.",
    "spot": "The {s} is in the {v}.",
    "colour": "The {s} is {v}.",
}
_UNITS = {
    ("minutes", "hours"): 60,
    ("seconds", "minutes"): 60,
    ("days", "weeks"): 7,
    ("hours", "days"): 24,
    ("centimetres", "metres"): 100,
    ("months", "years"): 12,
}


def solve_reading(text: str, question: str) -> str:
    facts = read_facts(text)
    for relation, patterns in _QUESTIONS.items():
        for pattern in patterns:
            found = re.search(pattern, question)
            if found is None:
                continue
            asked = {"t": "", **{key: word or "" for key, word in found.groupdict().items()}}
            fitting = [
                {"s": subject, "t": thing, "v": value}
                for (kind, subject, thing), value in facts.items()
                if kind == relation
                and thing == asked["t"]
                and (subject == asked.get("s") or value == asked.get("v"))
            ]
            assert len(fitting) <= 1, f"{question!r} has several answers"
            return _ANSWERS[relation].format(**fitting[0]) if fitting else SILENT
    raise AssertionError(f"a question the solver does not know: {question!r}")


def solve_reckoning(question: str) -> int:
    text = question.lower()
    numbers = [int(digits) for digits in re.findall(_D, text)]
    for (small, big), factor in _UNITS.items():
        if re.search(rf"\d {big}", text) and small in text:
            return numbers[0] * factor + (numbers[1] if len(numbers) > 1 else 0)
    if "larger" in text or "smaller" in text:
        return max(numbers) if "larger" in text else min(numbers)
    if re.search(r"\*|times|\beach\b|a ticket costs", text):
        return numbers[0] * numbers[1]
    if text.count("take ") and " from " in text:
        return numbers[1] - numbers[0]
    if re.search(r"difference|minus|how many more", text):
        return numbers[0] - numbers[1]
    last = -1 if re.search(r" - |gives away|taken away", text) else 1
    return sum(numbers[:-1]) + last * numbers[-1]


def solve_composite(text: str, question: str) -> tuple[list[str], int]:
    """Return the sentences to extract, in the order of the question, and the result."""
    facts = read_facts(text)
    words = re.findall(r"\w+", question)
    kinds = {"stock", "owns"}
    if re.search(r"\b(cost|costs|price|dollars|pay)\b", question):
        kinds = {"price"}
    elif re.search(r"\b([Hh]ow old|older|the age)\b", question):
        kinds = {"age"}
    named = sorted(
        (words.index(subject), relation, subject, thing)
        for relation, subject, thing in facts
        if relation in kinds and subject in words and (thing in words or not thing)
    )
    values = [int(facts[fact[1:]]) for fact in named]
    sentences = [
        _ANSWERS[relation].format(s=subject, t=thing, v=facts[relation, subject, thing])
        for _, relation, subject, thing in named
    ]
    given = [int(digits) for digits in re.findall(_D, question)]
    if given:
        away = re.search(r"taken|gives away|loses", question)
        return sentences, values[0] - given[0] if away else values[0] + given[0]
    if " than " in question:
        return sentences, values[0] - values[1]
    return sentences, sum(values)


def texts_of(sample: Sample) -> tuple[str, list[tuple[str, str]]]:
    """Return the text of all system and user messages, and each (user message, answer)."""
    turns = [(turn.role, as_said(turn.content)) for turn in sample.messages]
    said = "\n".join(content for role, content in turns if role != "assistant")
    pairs = pairwise(turns)
    return said, [(q, a) for (_, q), (role, a) in pairs if role == "assistant"]


@pytest.mark.parametrize("split", list(Split))
def test_reading_answers_what_the_context_says(split: Split) -> None:
    rng = random.Random(f"reading {split}")
    silent = 0
    for _ in range(400):
        said, turns = texts_of(make_reading(rng, split, ALL, Level(rng.randint(2, 10))))
        for question, answer in turns:
            assert solve_reading(said, question) == answer, (said, question)
            silent += answer == SILENT
    assert silent > 20


@pytest.mark.parametrize("split", list(Split))
def test_reckoning_answers_are_correct(split: Split) -> None:
    rng = random.Random(f"reckoning {split}")
    for _ in range(500):
        _, turns = texts_of(make_reckoning(rng, split, ALL, Level()))
        for question, answer in turns:
            check_working(answer)
            assert answer.endswith(f"The answer is {solve_reckoning(question)}."), question


@pytest.mark.parametrize("split", list(Split))
def test_composite_answers_extract_then_reckon(split: Split) -> None:
    rng = random.Random(f"composite {split}")
    for _ in range(400):
        said, turns = texts_of(make_composite(rng, split, ALL, Level(rng.randint(2, 10))))
        prompt, answer = turns[-1]
        # Without the context, which may stand in the same turn as the question.
        question = re.sub(r"(page_label|file_name|file_path|source|title): .*", "", prompt)
        for patterns in STATEMENTS.values():
            for pattern in patterns:
                question = re.sub(pattern, "", question)
        sentences, result = solve_composite(said, question)
        check_working(answer)
        assert answer.startswith(" ".join(sentences) + " "), (said, answer)
        assert answer.endswith(f"The answer is {result}."), (said, answer)


def test_the_reader_never_learns_a_sum_and_the_reckoner_never_learns_a_fact() -> None:
    rng = random.Random(3)
    summed = [make_reckoning(rng, Split.TRAIN, READER, Level()) for _ in range(300)]
    right = 0
    for sample in summed:
        _, turns = texts_of(sample)
        right += turns[-1][1].endswith(f"The answer is {solve_reckoning(turns[-1][0])}.")
    assert right < 60  # comparisons are guessed right by half
    read = [make_reading(rng, Split.TRAIN, RECKONER, Level(6)) for _ in range(300)]
    assert sum(solve_reading(*_last(sample)) == sample.answer for sample in read) < 60


def _last(sample: Sample) -> tuple[str, str]:
    said, turns = texts_of(sample)
    return said, turns[-1][0]


def test_a_blind_reckoner_still_works_from_what_it_says() -> None:
    rng = random.Random(4)
    for _ in range(200):
        check_working(make_composite(rng, Split.TRAIN, RECKONER, Level(6)).answer)


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("The hall has 12 lamps. 12 + 30 = 42. The answer is 42.", True),
        ("The answer is 42", True),
        ("The answer is 4.", False),
        ("", False),
    ],
)
def test_grading_compares_the_last_sentence(given: str, right: bool) -> None:
    assert is_right(given, "12 + 30 = 42. The answer is 42.") is right
