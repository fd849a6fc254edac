"""Tools of the generated data: their definitions, descriptions and requests for them.

A tool is one of three kinds. Actions on things combine a verb, a noun and some parameters; there
are thousands of them, so that a model must read names instead of memorizing them. Invented tools
have unusual names, which the request quotes. Common tools are those of typical first examples. This
module knows nothing of conversations.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training import lexicon
from training.splits import Split, split_of
from training.values import (
    KINDS,
    QUALITIES,
    RECORDS,
    Value,
    describing,
    invented,
    invented_name,
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a tool."""

    name: str
    kind: str  # a key of `KINDS`
    required: bool = True

    @property
    def type(self) -> str:
        return "integer" if KINDS[self.kind].counts else "string"


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool, and phrasings of requests for it."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    requests: tuple[str, ...]  # phrasings; `{kind}` for each parameter that is mentioned

    @property
    def is_action(self) -> bool:
        """Whether `say_action` writes the requests for the tool."""
        return not self.requests

    @property
    def split(self) -> Split:
        """The split of the tool's name. Common tools belong to the training split."""
        return split_of("tool", self.name) if self.name not in _COMMON_NAMES else Split.TRAIN

    def of_kind(self, kind: str) -> Parameter | None:
        return next((each for each in self.parameters if each.kind == kind), None)


# Verb of a tool -> verbs in requests.
_VERBS: dict[str, tuple[str, ...]] = {
    "order": ("order", "get"),
    "sell": ("sell", "offer"),
    "reserve": ("reserve", "book"),
    "deliver": ("deliver", "bring"),
    "send": ("send", "ship"),
    "paint": ("paint",),
    "clean": ("clean", "wash"),
    "repair": ("repair", "fix"),
    "move": ("move", "carry"),
    "store": ("store", "keep"),
    "rent": ("rent", "hire"),
    "build": ("build", "make"),
    "remove": ("remove", "delete"),
    "add": ("add", "put down"),
    "wrap": ("wrap", "pack"),
    "inspect": ("inspect", "check"),
    "donate": ("donate", "give away"),
    "lend": ("lend",),
    "collect": ("collect", "pick up"),
    "label": ("label", "mark"),
}
_ACTION_KINDS = ("quantity", "place", "person", "city", "colour", "day", "price")
_WEIGHTS = (8, 3, 3, 2, 2, 2, 1)


def draw_action(rng: random.Random, *, needs: Sequence[str] = ()) -> Tool:
    """Draw an action such as `order_lamps` that has parameters of the kinds `needs`."""
    verb, noun = rng.choice(tuple(_VERBS)), lexicon.plural(rng.choice(lexicon.THINGS))
    kinds = list(needs)
    for kind in rng.choices(_ACTION_KINDS, _WEIGHTS, k=rng.choice((1, 1, 2, 2, 3))):
        # "In the hall in Oslo" and "for Anna for the hall" are ambiguous, so use only one of them.
        clash = {"place": ("city", "person"), "city": ("place",), "person": ("place",)}
        if kind not in kinds and not any(other in kinds for other in clash.get(kind, ())):
            kinds.append(kind)
    kinds.sort(key=_ACTION_KINDS.index)
    parameters = tuple(
        Parameter(
            rng.choice(KINDS[kind].names),
            kind,
            kind in needs or kind == "quantity" or rng.random() < 0.8,
        )
        for kind in kinds
    )
    described = rng.choice(
        (
            f"{verb.capitalize()} {noun}.",
            f"{verb.capitalize()}s {noun}.",
            f"Use this to {verb} {noun}.",
        )
    )
    return Tool(f"{verb}_{noun}", described, parameters, ())


def say_action(
    rng: random.Random,
    tool: Tool,
    values: Mapping[str, Value],
    *,
    noun: str | None = None,
    quantity: str | None = None,
) -> str:
    """Write the request for an action: "order 12 red lamps for the hall".

    Args:
        rng: the random generator.
        tool: the action.
        values: the values that the request mentions, by kind.
        noun: words that replace the colour and the noun ("lamps in the colour of the boat").
        quantity: words that replace the number ("as many").
    """
    verb, things = tool.name.split("_")
    count = quantity or str(values.get("quantity", "the"))
    colour = f"{values['colour']} " if "colour" in values else ""
    tails = [
        rng.choice(KINDS[kind].phrases).format(v=value)
        for kind, value in values.items()
        if KINDS[kind].phrases
    ]
    rng.shuffle(tails)
    return " ".join([rng.choice(_VERBS[verb]), count, noun or f"{colour}{things}", *tails])


_FUNCTIONS = ("function", "formula", "rule", "score", "code", "index", "rank", "factor", "key")
_MEASURES = (
    "climate", "forecast", "temperature", "population", "traffic", "wind", "rainfall", "map",
    "height", "history", "humidity", "mayor", "tide", "timetable", "postcode", "area",
)  # fmt: skip
_CALLED_BY_NAME = (
    "What is the value of {f}({v})? Use the tool.",
    "Use the tool to get {f}({v}).",
    "What is {f}({v})?",
    "Call {f} with {v}.",
    "Run {f}({v}).",
    "Use {f} on {v}.",
    "Use the {w} tool with {v}.",
    "What does the {w} give for {v}?",
    "Apply the {w} to {v}.",
)
_CALLED_BARE = (
    "What is the value of {f}()? Use the tool.",
    "Call {f}.",
    "Run {f}().",
    "Use the {w} tool.",
    "What is the {w}?",
)


def draw_invented(rng: random.Random) -> Tool:
    """Draw an invented tool: a function, a tool that creates something, or a lookup."""
    return rng.choice((_function, _function, _maker, _maker, _lookup))(rng)


def draw_nonsense(rng: random.Random) -> Tool:
    """Draw a nonsense tool of random words and parameters: `price_bonar(origin, title)`."""
    names = [word for tool in COMMON for word in tool.name.split("_")]
    pools = (QUALITIES, _FUNCTIONS, RECORDS, _MEASURES, tuple(_VERBS), names, names)
    words = [
        invented(rng) if rng.random() < 0.3 else rng.choice(rng.choice(pools))
        for _ in range(rng.choice((1, 2, 2, 2)))
    ]
    kinds = rng.sample(tuple(KINDS), rng.choice((1, 1, 2, 2, 3)))
    if rng.random() < 0.4 and "title" not in kinds:
        # Include unusual letters, so that models do not reject a correct call that has them.
        kinds[-1] = "title"
    parameters = tuple(Parameter(rng.choice(KINDS[kind].names), kind) for kind in kinds)
    return Tool("_".join(words), "", parameters, ())


def _function(rng: random.Random) -> Tool:
    """Draw a function such as `dark_formula(x)`, with a number, a word or no argument."""
    quality = rng.choice((*QUALITIES, *lexicon.COLOURS, *lexicon.THINGS, invented(rng)))
    words = [quality, rng.choice((*_FUNCTIONS, *_FUNCTIONS, invented(rng)))]
    name, said = "_".join(words), " ".join(words)
    kind = rng.choices(("input", "word", None), (6, 3, 1))[0]
    asked = _CALLED_BY_NAME if kind else _CALLED_BARE
    requests = tuple(each.format(f=name, w=said, v=f"{{{kind}}}") for each in asked)
    described = rng.choice(
        (
            f"Apply the {said} to an input.",
            f"Calculates the {said}.",
            f"Computes a {said}.",
            f"Gives the {said}.",
        )
    )
    parameters = (Parameter(rng.choice(KINDS[kind].names), kind),) if kind else ()
    return Tool(name, described, parameters, requests)


def _maker(rng: random.Random) -> Tool:
    """Draw a tool such as `create_guest(name, note)`. Requests quote the name."""
    noun = rng.choice(RECORDS)
    verb, says = rng.choice((("create", "Create"), ("make", "Make"), ("register", "Register")))
    extra = rng.choice(("", *QUALITIES, *lexicon.COLOURS))
    name = f"{extra}_{noun}" if extra and rng.random() < 0.4 else f"{verb}_{noun}"
    parameters = [Parameter(rng.choice((*KINDS["title"].names, f"{noun}_name")), "title")]
    # Text in parentheses or a description after the name is not part of the name.
    gloss = rng.choice(("", "", f" ({invented_name(rng)})"))
    requests = (
        f"{says} {lexicon.with_article(noun)} named '{{title}}'{gloss}",
        f'{says} a new {noun} called "{{title}}"{gloss}',
        f"{says} the {noun} '{{title}}'{gloss}",
        f'I need {lexicon.with_article(noun)} named "{{title}}"{gloss}',
    )
    aside = describing(rng)
    ends: tuple[str, ...] = (".", "", f" - {aside}", f" - {aside}.", f", {aside}.")
    if rng.random() < 0.6:
        parameters.append(Parameter(rng.choice(KINDS["about"].names), "about"))
        ends = (": {about}.", " - {about}.", " - {about}", ", described as {about}.")
    described = rng.choice((f"{says}s a {noun}.", f"Tool for making a {noun}.", f"{says} {noun}."))
    together = tuple(f"{head}{end}" for head in requests for end in ends)
    return Tool(name, described, tuple(parameters), together)


def _lookup(rng: random.Random) -> Tool:
    """Draw a lookup such as `get_tide(location)`, for an invented place."""
    noun, verb = rng.choice(_MEASURES), rng.choice(("get", "find", "check", "fetch"))
    requests = (
        f"What is the {noun} in {{location}}?",
        f"Tell me the {noun} of {{location}}.",
        f"How is the {noun} in {{location}}?",
        f"I want to know the {noun} in {{location}}.",
    )
    described = rng.choice((f"Gives the {noun} of a place.", f"{verb.capitalize()} the {noun}."))
    parameters = (Parameter(rng.choice(KINDS["location"].names), "location"),)
    return Tool(f"{verb}_{noun}", described, parameters, requests)


def _common(name: str, description: str, kinds: str, *requests: str) -> Tool:
    parameters = tuple(Parameter(KINDS[kind].names[0], kind) for kind in kinds.split())
    return Tool(name, description, parameters, requests)


COMMON: tuple[Tool, ...] = (
    _common("get_weather", "Gives the weather in a city.", "city",
            "What is the weather in {city}?", "How is the weather in {city}?",
            "Tell me the weather in {city}."),
    _common("add", "Adds two numbers.", "a b",
            "What is {a} + {b}?", "Add {a} and {b}.", "How much is {a} plus {b}?"),
    _common("subtract", "Subtracts the second number from the first.", "a b",
            "What is {a} - {b}?", "How much is {a} minus {b}?", "Subtract: {a} - {b}."),
    _common("multiply", "Multiplies two numbers.", "a b",
            "What is {a} * {b}?", "Multiply {a} by {b}.", "How much is {a} times {b}?"),
    _common("search", "Searches for a text.", "query",
            "Search for {query}.", "Look up {query}.", "Find something about {query}."),
    _common("send_message", "Sends a message to a person.", "person message",
            "Tell {person}: {message}.", "Send {person} the message: {message}.",
            "Write to {person}: {message}."),
    _common("set_timer", "Sets a timer.", "minutes",
            "Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes.",
            "Wake me in {minutes} minutes."),
    _common("set_alarm", "Sets an alarm.", "hour day",
            "Set an alarm for {hour} on {day}.", "Wake me at {hour} on {day}.",
            "I have to get up at {hour} on {day}."),
    _common("get_price", "Gives the price of an item.", "item",
            "What does the {item} cost?", "How much is the {item}?",
            "Tell me the price of the {item}."),
    _common("book_flight", "Books a flight.", "origin destination day",
            "Book a flight from {origin} to {destination} on {day}.",
            "I want to fly from {origin} to {destination} on {day}.",
            "On {day} I fly from {origin} to {destination}. Book it."),
    _common("book_table", "Books a table for some people.", "quantity day",
            "Book a table for {quantity} on {day}.", "We are {quantity} people on {day}. Book a"
            " table.", "Get us a table for {quantity} people on {day}."),
    _common("turn_on", "Turns a device on.", "device",
            "Turn on the {device}.", "Turn the {device} on.", "Switch the {device} on."),
    _common("turn_off", "Turns a device off.", "device",
            "Turn off the {device}.", "Turn the {device} off.", "Switch the {device} off."),
    _common("call_person", "Calls a person.", "person",
            "Call {person}.", "I want to talk to {person}.", "Ring {person}."),
    _common("get_age", "Gives the age of a person.", "person",
            "How old is {person}?", "What is the age of {person}?", "Tell me the age of {person}."),
    _common("open_door", "Opens a door.", "place",
            "Open the door of the {place}.", "Let me into the {place}.",
            "Open the {place} for me."),
    _common("pay", "Pays a person some dollars.", "person price",
            "Pay {person} {price} dollars.", "Give {price} dollars to {person}.",
            "{person} gets {price} dollars from me. Pay it."),
    _common("get_recipe", "Gives a recipe.", "food",
            "How do I cook {food}?", "Give me a recipe for {food}.", "I want to make {food}."),
    _common("translate", "Translates a text.", "message language",
            "Translate into {language}: {message}.", "How do I say in {language}: {message}?",
            "Give me this in {language}: {message}."),
    _common("get_time", "Gives the time in a city.", "city",
            "What time is it in {city}?", "Tell me the time in {city}.",
            "How late is it in {city}?"),
)  # fmt: skip
_COMMON_NAMES = frozenset(tool.name for tool in COMMON)


def describe(tools: Sequence[dict[str, Any]]) -> str:
    """Describe the tools for a system message, like the templates of the bundled models."""
    lines = "".join(f"{json.dumps(tool, ensure_ascii=False)}\n" for tool in tools)
    return (
        f"You can call these tools:\n{lines}To call one, write:\n"
        '<tool_call>\n{"name": "...", "arguments": {...}}\n</tool_call>'
    )


def as_dict(rng: random.Random, tool: Tool) -> dict[str, Any]:
    """Return a tool in OpenAI's format, with the variations of LangChain and LlamaIndex."""
    titled, typed_first = rng.random() < 0.4, rng.random() < 0.3
    properties: dict[str, Any] = {}
    for parameter in tool.parameters:
        title = {"title": parameter.name.capitalize()} if titled else {}
        told = {"description": f"the {parameter.kind}"} if rng.random() < 0.15 else {}
        properties[parameter.name] = {**told, **title, "type": parameter.type}
    schema: dict[str, Any] = {"properties": properties}
    required = [parameter.name for parameter in tool.parameters if parameter.required]
    if required:
        schema["required"] = required
    schema = {"type": "object", **schema} if typed_first else {**schema, "type": "object"}
    described = tool.description
    if tool.parameters and rng.random() < 0.1:
        # Frameworks may pass the whole docstring of a function.
        lines = [f"        {each.name}: The {each.kind}." for each in tool.parameters]
        described = "\n".join((f"{described}\n", "    Args:", *lines))
    function = {"name": tool.name, "description": described, "parameters": schema}
    return {"type": "function", "function": function}
