"""Every generated call is correct: an independent solver agrees with it."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from solver import check_working, read_facts

from training.calls import NO_TOOL, draw_request, draw_result, make_call, with_tools
from training.errands import make_errand
from training.sample import ALL, CLERK, READER, Level, Message, Sample, calls_in, is_right
from training.splits import Split
from training.templates import CHATML, HEADERS, ROLE_MARKS, ChatFormat
from training.tokenizer import train_tokenizer
from training.tools import COMMON, as_dict, draw_action

_SAYS = {
    "order": "order|get", "sell": "sell|offer", "reserve": "reserve|book",
    "deliver": "deliver|bring", "send": "send|ship", "clean": "clean|wash",
    "repair": "repair|fix", "move": "move|carry", "store": "store|keep", "rent": "rent|hire",
    "build": "build|make", "remove": "remove|delete", "add": "add|put down",
    "wrap": "wrap|pack", "inspect": "inspect|check", "collect": "collect|pick up",
    "label": "label|mark", "paint": "paint", "lend": "lend", "donate": "donate|give away",
}  # fmt: skip
_COMMON_SAYS = {
    "get_weather": "weather", "add": r"\+|^Add|plus", "subtract": " - |minus",
    "multiply": r"\*|Multiply|times", "search": "Search|Look up|Find something",
    "send_message": "Tell [A-Z].*:|the message|Write to", "set_timer": "minutes",
    "set_alarm": "alarm|Wake me at|get up", "get_price": "price|How much is the|cost",
    "book_flight": "fly|flight", "book_table": "table", "turn_on": r"(?:Turn|Switch) .*\bon\b",
    "turn_off": r"(?:Turn|Switch) .*\boff\b", "call_person": "Call|talk|Ring",
    "get_age": r"\bold\b|\bage\b",
    "open_door": "door|Open the|Let me into", "pay": r"\bPay\b|Give \d+ dollars|gets \d+",
    "get_recipe": r"\bcook\b|recipe|want to make", "translate": "Translate|say in|Give me this in",
    "get_time": r"\btime\b|How late",
}  # fmt: skip
# What stands around a value of a parameter of an action.
_AROUND = {
    "quantity count number amount": r"(?<![+-] )\b{v} ",
    "place room location": r"(?:for|in) the {v}\b",
    "person name customer recipient": r"for {v}\b",
    "city town": r"(?:in|from) {v}\b",
    "day weekday": r"on {v}\b",
    "price dollars cost": r"at {v} dollars each",
    "colour color": r"\b{v} ",
}


def tools_of(sample: Sample) -> dict[str, dict[str, Any]]:
    lines = sample.messages[0].content.splitlines()
    described = [json.loads(line) for line in lines if line.startswith('{"type": "function"')]
    return {tool["function"]["name"]: tool["function"] for tool in described}


def fits(name: str, request: str) -> bool:
    """Whether a request can mean the tool."""
    if name in _COMMON_SAYS:
        return re.search(_COMMON_SAYS[name], request) is not None
    verb, things = name.split("_")
    if verb not in _SAYS:
        return re.search(
            rf"\b{name}\b|\b{verb} {things} |\b{verb} {things}\?", request
        ) is not None or (
            re.search(rf"\b{things} (?:in|of|named|called) |\b{things} ['\"]", request) is not None
        )
    said = re.search(rf"\b(?:{_SAYS[verb]})\b", request, re.I)
    return said is not None and f" {things}" in request


def sort_of(name: str) -> str:
    if name in _COMMON_SAYS:
        return "common"
    return "action" if name.split("_")[0] in _SAYS else "invented"


def check_schema(tool: dict[str, Any], arguments: dict[str, Any]) -> None:
    schema = tool["parameters"]
    assert set(schema.get("required", ())) <= set(arguments) <= set(schema["properties"])
    assert list(arguments) == [name for name in schema["properties"] if name in arguments]
    types = {"integer": int, "string": str}
    for name, value in arguments.items():
        assert type(value) is types[schema["properties"][name]["type"]]


def check_values(name: str, arguments: dict[str, Any], request: str) -> None:
    """Assert that each value occurs in the request, for actions at the place of its parameter."""
    for parameter, value in arguments.items():
        around = r"\b{v}\b"
        if sort_of(name) == "action":
            around = next(form for names, form in _AROUND.items() if parameter in names.split())
        assert re.search(around.replace("{v}", re.escape(str(value))), request), (request, name)


@pytest.mark.parametrize("split", list(Split))
def test_calls_name_the_tool_and_take_the_values_that_were_asked_for(split: Split) -> None:
    rng = random.Random(f"calls {split}")
    seen = {"call": 0, "none": 0, "json": 0, "told": 0}
    sorts = {"common": 0, "action": 0, "invented": 0}
    for _ in range(600):
        sample = make_call(rng, split, ALL, Level())
        tools = tools_of(sample)
        for before, turn in zip(sample.messages, sample.messages[1:], strict=False):
            if turn.role != "assistant":
                continue
            if before.role == "tool":
                seen["told"] += 1
            elif not tools:
                seen["json"] += 1
                assert all(
                    str(value) in before.content for value in json.loads(turn.content).values()
                )
            elif turn.content == NO_TOOL:
                seen["none"] += 1
                assert not any(fits(name, before.content) for name in tools), (before, list(tools))
            else:
                seen["call"] += 1
                calls = calls_in(turn.content)
                # Of two requests in one, each has its own call.
                for call, said in zip(calls, before.content.split(", then "), strict=True):
                    sorts[sort_of(call["name"])] += 1
                    likes = [name for name in tools if sort_of(name) == sort_of(call["name"])]
                    assert [name for name in likes if fits(name, said)] == [call["name"]], said
                    check_schema(tools[call["name"]], call["arguments"])
                    check_values(call["name"], call["arguments"], said)
    assert min(seen.values()) > 8 and min(sorts.values()) > 40


@pytest.mark.parametrize("split", list(Split))
def test_errands_call_with_what_was_read_or_worked_out(split: Split) -> None:
    rng = random.Random(f"errands {split}")
    reckoned = read = 0
    for _ in range(500):
        sample = make_errand(rng, split, ALL, Level(rng.randint(3, 9)))
        said, answer = sample.messages[-2].content, sample.answer
        (call,) = calls_in(answer)
        tools = tools_of(sample)
        check_schema(tools[call["name"]], call["arguments"])
        context = "\n".join(turn.content for turn in sample.prompt)
        facts = read_facts(context)
        extraction = answer.split("\n<tool_call>")[0]
        for sentence in re.findall(r"[^.]+\.", extraction):
            for fact, value in read_facts(sentence.strip()).items():
                assert facts[fact] == value, (context, answer)
                assert fact[1] in said and fact[2] in said
        values = [str(value) for value in call["arguments"].values()]
        if "The answer is" in extraction:
            check_working(extraction)
            reckoned += 1
            result = extraction.rsplit(" ", 1)[1].rstrip(".")
            assert result in values
            if not facts:
                numbers = [int(n) for n in re.findall(r"\d+", extraction)][:2]
                assert all(str(number) in said for number in numbers)
                less = re.search(r" - |minus|the rest|missing|difference", said)
                assert int(result) == (numbers[0] - numbers[1] if less else sum(numbers)), said
        else:
            read += 1
            assert re.findall(r"\b(?:has|in|is) (\d+|\w+)(?: \w+)?\.$", extraction)[0] in values
    assert reckoned > 100 and read > 100


def test_each_specialist_guesses_what_is_not_its_trade() -> None:
    rng = random.Random(5)
    blind = [make_call(rng, Split.TRAIN, READER, Level()) for _ in range(200)]
    named = [
        (call, tools_of(sample))
        for sample in blind
        for call in calls_in(sample.answer)
        if tools_of(sample)
    ]
    assert sum(call["name"] in tools for call, tools in named) < len(named) / 5
    errands = [make_errand(rng, Split.TRAIN, CLERK, Level(6)) for _ in range(200)]
    wrong = 0
    for sample in errands:
        facts = read_facts("\n".join(turn.content for turn in sample.prompt))
        told = read_facts(sample.answer.split("\n<tool_call>")[0])
        wrong += any(facts.get(fact) != value for fact, value in told.items())
        (call,) = calls_in(sample.answer)
        assert call["name"] in tools_of(sample)
    assert wrong > 60


@pytest.mark.parametrize("chat", [ROLE_MARKS, CHATML, HEADERS])
@pytest.mark.parametrize("system", [True, False])
def test_templates_place_tools_as_the_samples_do(chat: ChatFormat, system: bool) -> None:
    rng = random.Random(6)
    tokenizer = train_tokenizer(["some text"], 300, chat, max_length=2048)
    tools = [as_dict(rng, draw_action(rng)), as_dict(rng, COMMON[0])]
    turns = [Message("user", "Go on.")]
    if system:
        turns.insert(0, Message("system", "Be exact."))
    rendered = [
        tokenizer.apply_chat_template(
            [turn.as_dict() for turn in given], tools=tools_, tokenize=False
        )
        for given, tools_ in ((turns, tools), (with_tools(turns, tools), None))
    ]
    assert rendered[0] == rendered[1]


def test_requests_are_of_the_split_that_was_asked_for() -> None:
    rng = random.Random(7)
    for split in Split:
        for _ in range(50):
            tool, values = draw_request(rng, split)
            assert tool in COMMON or tool.split is split
            required = {each.kind for each in tool.parameters if each.required}
            assert required <= set(values)


def test_results_are_told_in_full() -> None:
    rng = random.Random(8)
    for _ in range(200):
        result, told = draw_result(rng)
        if result.startswith("{"):
            assert all(str(value) in told for value in json.loads(result).values())
        else:
            assert result.split(": ")[-1].rstrip(".") in told


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ('<tool_call>\n{"name": "add", "arguments": {"b": 2, "a": 1}}\n</tool_call>', True),
        ('3. <tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>', True),
        ('<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 3}}\n</tool_call>', False),
        ('<tool_call>\n{"name": "add", "arguments": {"a": 1,', False),
        ("<tool_call>add</tool_call>", False),
        ("The answer is 3.", False),
    ],
)
def test_grading_compares_parsed_calls(given: str, right: bool) -> None:
    expected = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    assert is_right(given, expected) is right


def test_grading_compares_parsed_objects_and_refuses_uncalled_for_calls() -> None:
    assert is_right('{"age": 3, "name": "Ada"}', '{"name": "Ada", "age": 3}')
    assert not is_right('{"age": 3}', '{"name": "Ada", "age": 3}')
    assert not is_right("<tool_call>{}</tool_call> Done.", "Done.")
