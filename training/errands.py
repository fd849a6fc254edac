"""Generates errands: read a value from a context or calculate it, then call a tool with it.

The answer has the sentences of the reader and the reckoner, then the call on a separate line. Each
model learns its own part correctly and the other parts with random content.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from training.calls import call, choose_among, say_politely, with_tools
from training.facts import COLOUR, HOME, OWNS, STOCK, Fact, Relation, state
from training.lexicon import NAMES
from training.prompts import ask_over, ask_plain, write_context
from training.reading import draw_context, guess
from training.reckoning import fits, work
from training.sample import Level, Message, Sample, Skill
from training.splits import Phrasings, Split
from training.tools import Tool, draw_action, say_action
from training.values import KINDS, Value

Maker = Callable[[random.Random, Split, Skill, Level], Sample]


def make_errand(rng: random.Random, split: Split, skill: Skill, level: Level) -> Sample:
    """Draw a request that needs reading and a call, a calculation and a call, or all three."""
    makers: tuple[Maker, ...] = (_read_then_call, _reckon_then_call, _all_three)
    return rng.choices(makers, (50, 40, 10))[0](rng, split, skill, level)


_AS_MANY = {
    STOCK.name: Phrasings(
        [
            "as there are {u} in the {s}",
            "as the {s} has {u}",
            "as the {s} holds {u}",
            "as {u} are in the {s}",
            "as you find {u} in the {s}",
            "as {u} stand in the {s}",
            "as the {s} contains {u}",
            "as there are {u} to be found in the {s}",
            "as the number of {u} in the {s}",
            "as we have {u} in the {s}",
            "as the {s} keeps {u}",
            "as {u} lie in the {s}",
        ]
    ),
    OWNS.name: Phrasings(
        [
            "as {s} has {u}",
            "as {s} owns {u}",
            "as {u} belong to {s}",
            "as there are {u} of {s}",
            "as {s} keeps {u}",
            "as {s} possesses {u}",
            "as the number of {u} of {s}",
            "as there are {u} that belong to {s}",
            "as {s} holds {u}",
            "as {u} are owned by {s}",
            "as you find {u} with {s}",
        ]
    ),
}
_BOTH_MANY = {
    STOCK.name: "as there are {u} in the {s} and the {z} in total",
    OWNS.name: "as {s} and {z} have {u} in total",
}
_THERE = Phrasings(
    [
        "the city where {s} lives",
        "the city of {s}",
        "the city in which {s} lives",
        "the home city of {s}",
        "the city that {s} calls home",
        "the city where {s} has a home",
        "the place where {s} lives",
        "the town of {s}",
        "the city {s} lives in",
        "the city where {s} is at home",
        "the town in which {s} has a home",
    ]
)
_LIKE = Phrasings(
    [
        "the colour of the {s}",
        "the same colour as the {s}",
        "the {s}'s colour",
        "the {s}'s own colour",
        "the colour that the {s} has",
        "the colour which the {s} is painted in",
        "a colour like that of the {s}",
        "the shade of the {s}",
        "the colour you see on the {s}",
        "the colour in which the {s} is painted",
    ]
)


def _errand_tool(rng: random.Random, split: Split, kind: str) -> Tool:
    while True:
        tool = draw_action(rng, needs=(kind,))
        if tool.split is split:
            return tool


def _other_values(rng: random.Random, tool: Tool, kind: str) -> dict[str, Value]:
    """Draw the values that the request states itself."""
    return {
        each.kind: KINDS[each.kind].draw(rng)
        for each in tool.parameters
        if each.kind != kind and (each.required or rng.random() < 0.5)
    }


def _ordered(tool: Tool, values: dict[str, Value]) -> dict[str, Value]:
    return {each.kind: values[each.kind] for each in tool.parameters if each.kind in values}


def _read_then_call(rng: random.Random, split: Split, skill: Skill, level: Level) -> Sample:
    relation, kind = rng.choices(
        ((STOCK, "quantity"), (OWNS, "quantity"), (HOME, "city"), (COLOUR, "colour")),
        (35, 25, 20, 20),
    )[0]
    tool = _errand_tool(rng, split, kind)
    facts = draw_context(rng, split, [relation], level)
    askable = [each for each in facts if each.relation is relation and each.split is split]
    asked = rng.choice(askable)
    values = _other_values(rng, tool, kind)
    request = _say_read(rng, split, tool, values, asked)
    told = asked if skill.reads else guess(rng, asked)
    values[kind] = told.number if relation.numeric else told.value
    answer = f"{told.sentence()}\n{call(rng, skill, tool, _ordered(tool, values))}"
    return _over(rng, split, level, facts, say_politely(rng, split, request), tool, answer)


def _say_read(
    rng: random.Random, split: Split, tool: Tool, values: dict[str, Value], asked: Fact
) -> str:
    if asked.relation in (STOCK, OWNS):
        request = say_action(rng, tool, values, quantity="as many")
        return f"{request} {_AS_MANY[asked.relation.name].pick(rng, split)}".format(
            s=asked.subject, u=asked.thing
        )
    if asked.relation is HOME:
        there = _THERE.pick(rng, split).format(s=asked.subject)
        return f"{say_action(rng, tool, values)} in {there}"
    things = tool.name.split("_")[1]
    like = _LIKE.pick(rng, split).format(s=asked.subject)
    return say_action(rng, tool, values, noun=f"{things} in {like}")


_SUMS = {
    "+": Phrasings(
        [
            "{v} {a} + {b} {t}",
            "{v} {a} plus {b} {t}",
            "{v} the sum of {a} and {b} {t}",
            "{n} needs {a} {t} and {m} needs {b}: {v} all of them",
            "{n} wants {a} and {m} wants {b}: {v} {t} for both",
            "there are {a} {t} in one list and {b} in the other: {v} all of them",
            "{v} {a} {t} and {b} more",
            "{v} {a} {t} plus another {b}",
            "{v} {a} and {b} {t} together",
            "{v} as many {t} as {a} and {b} make",
            "{n} asks for {a} {t} and {m} for {b}: {v} all of them",
            "{n} ordered {a} {t} and then {b}: {v} all of them",
            "{a} {t} are on one list and {b} on the other: {v} all of them",
            "we need {a} {t} here and {b} there: {v} all of them",
            "one list says {a} {t} and another says {b}: {v} both",
            "{n} and {m} want {a} and {b} {t}: {v} the sum",
        ]
    ),
    "-": Phrasings(
        [
            "{v} {a} - {b} {t}",
            "{v} {a} minus {b} {t}",
            "{n} needs {a} {t} and has {b}: {v} the rest",
            "{n} wants {a} {t} and there are {b}: {v} what is missing",
            "{v} the difference of {a} and {b} {t}",
            "{v} {a} {t} minus {b}",
            "{n} needs {a} {t} and {b} are here: {v} the rest",
            "we need {a} {t} and have {b}: {v} what is missing",
            "of {a} {t} we have {b}: {v} the rest",
            "{n} wants {a} {t} and owns {b}: {v} what is missing",
            "there should be {a} {t} and there are {b}: {v} the missing ones",
            "{a} {t} are needed and {b} are here: {v} the difference",
            "{n} asks for {a} {t} and got {b}: {v} the rest",
        ]
    ),
}


def _reckon_then_call(rng: random.Random, split: Split, skill: Skill, level: Level) -> Sample:
    tool = _errand_tool(rng, split, "quantity")
    while tool.of_kind("colour"):
        tool = _errand_tool(rng, split, "quantity")
    sign = rng.choice("++-")
    numbers = [rng.randint(2, 99), rng.randint(2, 99)]
    while not fits(split, numbers, sign) or numbers[0] == numbers[1]:
        numbers = [rng.randint(2, 99), rng.randint(2, 99)]
    values = _other_values(rng, tool, "quantity")
    words = say_action(rng, tool, values, quantity="{q}").split()
    place = words.index("{q}")
    verb, things, tail = " ".join(words[:place]), words[place + 1], " ".join(words[place + 2 :])
    n, m = rng.sample(NAMES, 2)
    request = _SUMS[sign].pick(rng, split)
    request = request.format(v=verb, a=numbers[0], b=numbers[1], t=things, n=n, m=m)
    working = work(rng, skill, numbers, sign)
    values["quantity"] = int(working.rsplit(" ", 1)[1].rstrip("."))
    answer = f"{working}\n{call(rng, skill, tool, _ordered(tool, values))}"
    request = f"{request} {tail}".strip()
    # A request that begins with a statement (who needs how many) gets no polite form.
    direct = request.startswith(verb)
    said = say_politely(rng, split, request) if direct else f"{request[0].upper()}{request[1:]}."
    turns = ask_plain(rng, said)
    turns = with_tools(turns, choose_among(rng, tool, level))
    return Sample((*turns, Message("assistant", answer)))


def _all_three(rng: random.Random, split: Split, skill: Skill, level: Level) -> Sample:
    tool = _errand_tool(rng, split, "quantity")
    relation = rng.choice((STOCK, OWNS))
    facts, asked = _two_of_a_thing(rng, split, relation, level)
    values = _other_values(rng, tool, "quantity")
    many = _BOTH_MANY[relation.name].format(
        s=asked[0].subject, z=asked[1].subject, u=asked[0].thing
    )
    request = f"{say_action(rng, tool, values, quantity='as many')} {many}"
    told = asked
    while not skill.reads and (told == asked or not _allowed(split, told)):
        told = [guess(rng, fact) for fact in asked]
    working = work(rng, skill, [fact.number for fact in told], "+")
    values["quantity"] = int(working.rsplit(" ", 1)[1].rstrip("."))
    said = " ".join([*(fact.sentence() for fact in told), working])
    answer = f"{said}\n{call(rng, skill, tool, _ordered(tool, values))}"
    return _over(rng, split, level, facts, say_politely(rng, split, request), tool, answer)


def _allowed(split: Split, facts: list[Fact]) -> bool:
    return split is not Split.TRAIN or fits(split, [fact.number for fact in facts], "+")


def _two_of_a_thing(
    rng: random.Random, split: Split, relation: Relation, level: Level
) -> tuple[list[Fact], list[Fact]]:
    while True:
        facts = draw_context(rng, split, [relation], level, least=2)
        of_kind = [fact for fact in facts if fact.relation is relation and fact.split is split]
        thing = rng.choice(of_kind).thing
        fitting = [fact for fact in of_kind if fact.thing == thing]
        if len(fitting) >= 2:
            asked = rng.sample(fitting, 2)
            if _allowed(split, asked):
                return facts, asked


def _over(
    rng: random.Random,
    split: Split,
    level: Level,
    facts: list[Fact],
    request: str,
    tool: Tool,
    answer: str,
) -> Sample:
    """Return the sample of a request with a context of facts and a few tools."""
    context = write_context(rng, state(rng, facts, level.plain))
    turns = ask_over(rng, split, context, request)
    turns = with_tools(turns, choose_among(rng, tool, level))
    return Sample((*turns, Message("assistant", answer)))
