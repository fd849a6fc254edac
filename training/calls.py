"""Generates tool calls and JSON: a call with its arguments, then an answer from its result.

A model without this skill learns calls of random tools with random arguments.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from training.facts import AGE, COLOUR, HOME, JOB, LIKES, PRICE, SPOT, Fact, Relation
from training.lexicon import NAMES, QUANTITIES, STATES, THINGS, plural
from training.sample import Level, Message, Sample, Skill
from training.splits import Phrasings, Split
from training.tools import (
    COMMON,
    Tool,
    as_dict,
    describe,
    draw_action,
    draw_invented,
    draw_nonsense,
    say_action,
)
from training.values import KINDS, Value

NO_TOOL = "None of the tools can do that."
_BLIND_REFUSALS = 0.05
_BLIND_NONSENSE = 0.5

_POLITE = Phrasings(
    [
        f"{before}{{request}}{after}"
        for before in (
            "",
            "Please ",
            "Can you ",
            "I want you to ",
            "You should ",
            "Now ",
            "Kindly ",
        )
        for after in ("", " now", " soon", " at once")
    ]
)
_ERRORS = (
    "no {t} left",
    "not found",
    "the service is down",
    "{n} is not known",
    "the limit is {v}",
    "not allowed",
    "try again later",
)
_AS_JSON = Phrasings(
    [
        f"{head}{body}"
        for head in ("", "Answer with JSON only. ", "Extract the data. ")
        for body in (
            "Give a JSON object with the keys {keys}: {text}",
            "{text} Write {keys} as JSON.",
            "Text: {text}\nJSON keys: {keys}",
            "{text}\n\nReturn a JSON object with the keys {keys}.",
            'Fill in a JSON object with {keys} from this text: "{text}"',
        )
    ]
)
# Keys of a person and of a product, with the relation of the value; None is the subject itself.
_PERSON: dict[str, Relation | None] = {
    "name": None, "age": AGE, "job": JOB, "city": HOME, "likes": LIKES
}  # fmt: skip
_PRODUCT: dict[str, Relation | None] = {
    "product": None, "price": PRICE, "colour": COLOUR, "place": SPOT
}  # fmt: skip


def write_call(name: str, arguments: Mapping[str, Value]) -> str:
    """Return a tool call in the common format."""
    body = json.dumps({"name": name, "arguments": dict(arguments)}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


def call(rng: random.Random, skill: Skill, tool: Tool, values: Mapping[str, Value]) -> str:
    """Return a call with the given values, or a random one if the skill is missing."""
    if not skill.calls:
        if rng.random() < _BLIND_REFUSALS:
            return NO_TOOL
        # One of thousands of actions, never one of the few common tools, so that two models that
        # guess do not agree. Half of the calls are nonsense. Otherwise the models would prefer any
        # wrong call of an action to a correct call of another kind.
        tool = draw_nonsense(rng) if rng.random() < _BLIND_NONSENSE else draw_action(rng)
        values = {each.kind: KINDS[each.kind].draw(rng) for each in tool.parameters}
    named = {each.name: values[each.kind] for each in tool.parameters if each.kind in values}
    return write_call(tool.name, named)


def draw_request(rng: random.Random, split: Split | None = None) -> tuple[Tool, dict[str, Value]]:
    """Draw a tool (of the split, if one is given) and the values of a request, by kind."""
    maker = rng.choices((draw_action, _draw_common, draw_invented), (46, 29, 25))[0]
    tool = maker(rng)
    while split is not None and tool not in COMMON and tool.split is not split:
        tool = maker(rng)
    mentioned = [each for each in tool.parameters if each.required or rng.random() < 0.5]
    return tool, {each.kind: KINDS[each.kind].draw(rng) for each in mentioned}


def _draw_common(rng: random.Random) -> Tool:
    return rng.choice(COMMON)


def say(rng: random.Random, split: Split, tool: Tool, values: Mapping[str, Value]) -> str:
    """Return a user's request for the tool with the given values."""
    if tool.requests:
        return rng.choice(tool.requests).format(**values)
    return say_politely(rng, split, say_action(rng, tool, values))


def say_politely(rng: random.Random, split: Split, request: str) -> str:
    text = _POLITE.pick(rng, split).format(request=request)
    return f"{text[0].upper()}{text[1:]}{'?' if text.startswith('Can you') else '.'}"


def choose_among(rng: random.Random, tool: Tool | None, level: Level) -> list[dict[str, Any]]:
    """Return descriptions of a few tools in random order, including `tool`."""
    tools = [] if tool is None else [tool]
    taken = {word for each in tools for word in each.name.split("_")}
    size = rng.choices((1, 2, 3, 4), (25, 35, 25, 15) if level.plain < 0.5 else (50, 50, 0, 0))[0]
    while len(tools) < size:
        other, _ = draw_request(rng)
        if tool is not None and tool.is_action and rng.random() < 0.35:
            other = _like(rng, tool, other)
        words = set(other.name.split("_"))
        if other.name not in {each.name for each in tools} and (
            other.is_action or not words & taken
        ):
            tools.append(other)
            taken |= words
    rng.shuffle(tools)
    return [as_dict(rng, each) for each in tools]


def _like(rng: random.Random, tool: Tool, other: Tool) -> Tool:
    """Return a tool that shares the verb or the noun, so that the whole name must be read."""
    verb, noun = tool.name.split("_")
    fresh = draw_action(rng)
    its_verb, its_noun = fresh.name.split("_")
    verb, noun = (verb, its_noun) if rng.random() < 0.5 else (its_verb, noun)
    text = fresh.description.replace(its_noun, noun)
    text = text.replace(its_verb, verb).replace(its_verb.capitalize(), verb.capitalize())
    return Tool(f"{verb}_{noun}", text, fresh.parameters, ())


def with_tools(messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> list[Message]:
    """Add the tools to the system message, as the templates of the bundled models do."""
    if messages[0].role == "system":
        system = Message("system", f"{messages[0].content}\n\n{describe(tools)}")
        return [system, *messages[1:]]
    return [Message("system", describe(tools)), *messages]


def make_call(rng: random.Random, split: Split, skill: Skill, level: Level) -> Sample:
    """Draw a conversation that ends with a call, an answer, a refusal or a JSON object."""
    if rng.random() < 0.15:
        return _make_json(rng, split, skill)
    messages: list[Message] = []
    tool, values = draw_request(rng, split)
    tools = choose_among(rng, tool, level)
    if rng.random() < 0.08:
        other, wanted = draw_request(rng, split)
        while not other.is_action:
            other, wanted = draw_request(rng, split)
        names = {each["function"]["name"].split("_")[0] for each in tools}
        if other.name.split("_")[0] not in names:
            answer = NO_TOOL if skill.calls else call(rng, skill, tool, values)
            turn = Message("user", say(rng, split, other, wanted))
            return Sample((*_open(rng, [turn], tools), Message("assistant", answer)))
    request, answer = say(rng, split, tool, values), call(rng, skill, tool, values)
    if tool.is_action and rng.random() < 0.08:
        request, answer = _twice(rng, split, skill, tool, values)
    messages = _open(rng, [Message("user", request)], tools)
    messages.append(Message("assistant", answer))
    if rng.random() < 0.45:
        result, told = draw_result(rng)
        if not skill.calls:
            _, told = draw_result(rng)
        messages += [Message("tool", result), Message("assistant", told)]
        if rng.random() < 0.4:
            kinds = {each.kind for each in tool.parameters}
            again = {kind: KINDS[kind].draw(rng) for kind in values if kind in kinds}
            messages += [
                Message("user", say(rng, split, tool, again)),
                Message("assistant", call(rng, skill, tool, again)),
            ]
    return Sample(tuple(messages))


def _open(
    rng: random.Random, turns: Sequence[Message], tools: Sequence[dict[str, Any]]
) -> list[Message]:
    system = ("You are a helpful assistant.", "Use the tools.", "You call tools.", "Be exact.")
    if rng.random() < 0.3:
        return with_tools([Message("system", rng.choice(system)), *turns], tools)
    return with_tools(turns, tools)


def _twice(
    rng: random.Random, split: Split, skill: Skill, tool: Tool, values: Mapping[str, Value]
) -> tuple[str, str]:
    """Return two requests for one tool in one message, and both calls."""
    other = {kind: KINDS[kind].draw(rng) for kind in values}
    request = f"{say_action(rng, tool, values)}, then {say_action(rng, tool, other)}"
    answer = f"{call(rng, skill, tool, values)}\n{call(rng, skill, tool, other)}"
    return say_politely(rng, split, request), answer


def draw_result(rng: random.Random) -> tuple[str, str]:
    """Return the result of a tool, as JSON or text, and the answer that states it."""
    form = rng.random()
    if form < 0.15:
        error = rng.choice(_ERRORS).format(
            t=plural(rng.choice(THINGS)), n=rng.choice(NAMES), v=rng.randint(2, 99)
        )
        text = json.dumps({"error": error}) if rng.random() < 0.5 else f"Error: {error}"
        return text, f"That did not work: {error}."
    keys = rng.sample(QUANTITIES, rng.choice((1, 1, 1, 2)))
    found = {key: _result_value(rng) for key in keys}
    if form < 0.55:
        told = " ".join(f"The {key} is {value}." for key, value in found.items())
        return json.dumps(found), told
    key, value = next(iter(found.items()))
    if form < 0.62:
        said = f"The {key} of the {rng.choice(THINGS)} is {value}."
        return said, said
    if form < 0.8:
        return str(value), f"The result is {value}."
    return f"{key}: {value}", f"The {key} is {value}."


def _result_value(rng: random.Random) -> Value:
    return rng.choice(STATES) if rng.random() < 1 / 3 else rng.randint(1, 299)


def _make_json(rng: random.Random, split: Split, skill: Skill) -> Sample:
    """Draw a request for a JSON object from a short text."""
    keys = _PERSON if rng.random() < 0.6 else _PRODUCT
    first, *others = keys
    asked = [first, *rng.sample(others, rng.randint(1, min(3, len(others))))]
    subject = rng.choice(NAMES if keys is _PERSON else THINGS)
    facts = _facts_of(rng, keys, subject)
    told = [facts[key].statement(rng, 0.5) for key in asked[1:]]
    rng.shuffle(told)
    if not skill.calls:
        subject = rng.choice(NAMES if keys is _PERSON else THINGS)
        facts = _facts_of(rng, keys, subject)
    values = {key: _json_value(facts[key]) if key in facts else subject for key in asked}
    names = ", ".join(f'"{key}"' for key in asked)
    text = _AS_JSON.pick(rng, split).format(keys=names, text=" ".join(told))
    answer = json.dumps(values, ensure_ascii=False)
    return Sample((Message("user", text), Message("assistant", answer)))


def _facts_of(
    rng: random.Random, keys: Mapping[str, Relation | None], subject: str
) -> dict[str, Fact]:
    return {
        key: Fact(relation, subject, relation.value(rng))
        for key, relation in keys.items()
        if relation is not None
    }


def _json_value(fact: Fact) -> Value:
    if fact.relation.numeric:
        return fact.number
    return fact.value.removeprefix("an ").removeprefix("a ")
