"""Values of tool arguments: the kinds of parameters with their names, and how to draw values.

Many values are invented words, names in any script, places or sentences, so that a model must copy
them and cannot memorize them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training import lexicon

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_LANGUAGES = ("French", "German", "Spanish", "Italian", "Greek", "Turkish", "Polish", "Dutch")
Value = int | str
QUALITIES = (
    "secret", "hidden", "quick", "slow", "double", "inner", "outer", "strange", "simple", "dark",
    "bright", "special", "main", "final", "random", "ancient", "modern", "local", "global", "tidy",
)  # fmt: skip
RECORDS = (
    "customer", "client", "company", "team", "member", "project", "account", "record", "entry",
    "contact", "supplier", "event", "group", "file", "task", "note", "guest", "partner",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of parameter.

    Args:
        names: possible names of the parameter.
        draw: draws a value.
        phrases: how the request for an action mentions the value.
        counts: whether the value is a number.
    """

    names: tuple[str, ...]
    draw: Callable[[random.Random], Value]
    phrases: tuple[str, ...] = ()
    counts: bool = False


def _pick(words: Sequence[str]) -> Callable[[random.Random], Value]:
    return lambda rng: rng.choice(words)


def _number(low: int, high: int) -> Callable[[random.Random], Value]:
    return lambda rng: rng.randint(low, high)


def _thing(rng: random.Random) -> Value:
    return rng.choice(lexicon.THINGS)


def _topic(rng: random.Random) -> Value:
    words = [rng.choice(lexicon.COLOURS), lexicon.plural(rng.choice(lexicon.THINGS))]
    ends = (f"in {rng.choice(lexicon.CITIES)}", f"of {rng.choice(lexicon.NAMES)}", "")
    return " ".join([*words[rng.randint(0, 1) :], rng.choice(ends)]).strip()


def describing(rng: random.Random) -> Value:
    """Draw a description: things, `a tidy partner`, or `a Greek window company`."""
    if rng.random() < 0.4:
        return _topic(rng)
    pools = (QUALITIES, _LANGUAGES, lexicon.THINGS, lexicon.FOODS, (invented(rng),))
    words = [rng.choice(rng.choice(pools)) for _ in range(rng.choice((1, 1, 2)))]
    return lexicon.with_article(" ".join([*words, rng.choice(RECORDS)]))


def _saying(rng: random.Random) -> Value:
    thing, place = rng.choice(lexicon.THINGS), rng.choice(lexicon.PLACES)
    return rng.choice(
        (
            f"the {thing} is {rng.choice(lexicon.COLOURS)}",
            f"meet me in the {place}",
            f"I am in the {place} on {rng.choice(DAYS)}",
            f"bring {rng.randint(2, 99)} {lexicon.plural(thing)}",
        )
    )


def invented(rng: random.Random) -> str:
    """Return an invented word."""
    return "".join(
        rng.choice(_ONSETS) + rng.choice(_NUCLEI) + rng.choice(_CODAS)
        for _ in range(rng.choice((1, 2, 2, 2, 3)))
    )


def _phrase(rng: random.Random) -> Value:
    words = rng.randint(1, 2)
    return " ".join(
        invented(rng) if rng.random() < 0.5 else rng.choice(lexicon.THINGS) for _ in range(words)
    )


def invented_name(rng: random.Random) -> str:
    return " ".join(invented(rng).capitalize() for _ in range(rng.randint(1, 2)))


def _title(rng: random.Random) -> Value:
    """Draw an invented name, in one or two scripts."""
    if rng.random() < 0.35:
        return invented_name(rng)
    parts = [
        "".join(rng.choices(rng.choices(_SCRIPTS, _SCRIPT_WEIGHTS)[0], k=rng.randint(2, 5)))
        for _ in range(rng.choice((1, 1, 2)))
    ]
    return rng.choice(("", "", " ")).join(parts)


def _location(rng: random.Random) -> Value:
    """Draw an invented place: `San Zobani, QU`."""
    first = rng.choice((*_CITY_WORDS, invented(rng).capitalize()))
    state = "".join(rng.choices("ABCDEFGHIKLMNOPRSTUVWY", k=2))
    return f"{first} {invented(rng).capitalize()}{rng.choice((f', {state}', ''))}"


# Parts of syllables. Tokenizers split words of these parts like ordinary words.
_ONSETS = (
    *"bcdfghjklmnprstvwyz", "bl", "br", "ch", "cl", "cr", "dr", "fl", "fr", "gl", "gr", "ph", "pl",
    "pr", "qu", "sc", "sh", "sk", "sl", "sm", "sn", "sp", "st", "str", "sw", "th", "tr", "tw", "wh",
)  # fmt: skip
_NUCLEI = (*"aeiou" * 3, "ai", "ea", "ee", "ie", "io", "oa", "oo", "ou", "ue")
_CODAS = (
    *("",) * 12, *"bdglmnprstx", "ck", "ct", "gy", "ll", "ly", "nd", "ng", "nt", "rd", "ss", "st",
    "th",
)  # fmt: skip
_SCRIPTS = [
    "".join(map(chr, span))
    for span in (
        range(0x4E00, 0x9FA6), range(0x3042, 0x3094), range(0x30A2, 0x30F3), range(0xAC00, 0xD7A0),
        range(0x0430, 0x0450), range(0x03B1, 0x03C9), range(0x00E0, 0x00F7),
    )
]  # fmt: skip
_SCRIPT_WEIGHTS = (4, 1, 1, 1, 1, 1, 1)  # the first script has by far the most letters
_CITY_WORDS = ("San", "New", "Los", "Fort", "Saint", "East", "Port", "Lake", "Santa", "Old")

KINDS: dict[str, Kind] = {
    "quantity": Kind(("quantity", "count", "number", "amount"), _number(1, 199), (), counts=True),
    "colour": Kind(("colour", "color"), _pick(lexicon.COLOURS)),
    "place": Kind(
        ("place", "room", "location"), _pick(lexicon.PLACES), ("for the {v}", "in the {v}")
    ),
    "person": Kind(("person", "name", "customer", "recipient"), _pick(lexicon.NAMES), ("for {v}",)),
    "city": Kind(("city", "town"), _pick(lexicon.CITIES), ("in {v}", "from {v}")),
    "day": Kind(("day", "weekday"), _pick(DAYS), ("on {v}",)),
    "price": Kind(
        ("price", "dollars", "cost"), _number(2, 99), ("at {v} dollars each",), counts=True
    ),
    # Only the common tools have these.
    "a": Kind(("a", "x", "first"), _number(1, 199), counts=True),
    "b": Kind(("b", "y", "second"), _number(1, 199), counts=True),
    "hour": Kind(("hour",), _number(1, 12), counts=True),
    "minutes": Kind(("minutes",), _number(1, 59), counts=True),
    "item": Kind(("item", "product"), _thing),
    "device": Kind(("device",), _thing),
    "origin": Kind(("origin", "start"), _pick(lexicon.CITIES)),
    "destination": Kind(("destination", "target"), _pick(lexicon.CITIES)),
    "food": Kind(("food", "dish"), _pick(lexicon.FOODS)),
    "language": Kind(("language",), _pick(_LANGUAGES)),
    "query": Kind(("query", "text"), _topic),
    "message": Kind(("message", "text", "body"), _saying),
    # Only the invented tools have these.
    "input": Kind(("input", "value", "x", "n", "number"), _number(0, 999), counts=True),
    "word": Kind(("input", "text", "word", "phrase"), _phrase),
    "title": Kind(("name", "title", "label", "full_name"), _title),
    "about": Kind(("description", "note", "details"), describing),
    "location": Kind(("location", "place", "where"), _location),
}
