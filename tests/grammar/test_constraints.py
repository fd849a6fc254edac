"""Constraints on text: what a grammar allows, what it refuses, and how an answer is closed."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemas import agent_schema, draw_root
from toolbox import LAMPS, WEATHER

from specfuse_core import Choice, Grammar, JsonObject, JsonSchema, Regex, Request
from specfuse_core.answer.follower import Follower, follow
from specfuse_core.errors import (
    InvalidConstraintError,
    InvalidToolError,
    RequestError,
    UnknownToolError,
)
from specfuse_core.grammar.answers import grammar_of
from specfuse_core.grammar.constraints import Constraint

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
OTHER = '<tool_call>\n{"name": "order_lamps", "arguments": {"count": 3}}\n</tool_call>'


def admits(text: str, grammar: str | None) -> bool:
    assert grammar is not None
    follower = Follower(grammar)
    if follower.legal(text) < len(text):
        return False
    follower.push(text)
    return follower.may_end


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        (Choice(["yes", "no", "näh"]), ["yes", "no", "näh"], ["ye", "nope", "", "Yes"]),
        (Regex(r"\d{2}/\d{2}"), ["12/34"], ["1/2", "12/345"]),
        (Regex(r"a/b\\/c|\n"), ["a/b\\/c", "\n"], ["a/b/c"]),
        (JsonObject(), ['{"a": [1, {"b": null}]}', "{}"], ["[]", "1", '{"a": }']),
        (JsonSchema({"type": "integer"}), ["7", "-12"], ["7.5", '"7"', "07"]),
        (JsonSchema(True), ["[1]", '"é"', "null"], ["nul", "'a'"]),
        (Grammar('start: "a"+ "b"'), ["ab", "aab"], ["b", "abb"]),
    ],
)
def test_a_constraint_admits_just_what_it_says(
    constraint: Constraint, good: list[str], bad: list[str]
) -> None:
    grammar = grammar_of(constraint)
    assert [text for text in good if not admits(text, grammar)] == []
    assert [text for text in bad if admits(text, grammar)] == []


@pytest.mark.parametrize(
    ("options", "good", "bad"),
    [
        (
            {"choice": "auto"},
            ["", "Hello. <tool", CALL, f"Let me see.\n{CALL}", f"{CALL}\n{OTHER}"],
            [CALL[:-3], f"{CALL} and"],
        ),
        ({"choice": "auto", "parallel": False}, [CALL, f"So: {CALL}"], [CALL + OTHER]),
        ({"choice": "required"}, [CALL, OTHER, CALL + OTHER], ["", "Hello.", f"So: {CALL}"]),
        ({"choice": "order_lamps"}, [OTHER], [CALL, "No."]),
        (
            {"constraint": JsonSchema({"type": "integer"})},
            ["12", CALL, CALL + OTHER],
            ["Hello.", "", f"12{CALL}"],
        ),
        ({"constraint": Grammar('start: "a" start | "b"')}, ["aab", CALL], ["ba", f"b{CALL}"]),
        ({"constraint": Choice(["a", "b"]), "choice": "auto"}, ["a", CALL], ["c", f"a{CALL}"]),
    ],
)
def test_calls_are_of_the_tools_that_there_are(
    options: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    constraint, choice = options.pop("constraint", None), options.pop("choice", "auto")
    grammar = grammar_of(constraint, [WEATHER, LAMPS], choice, **options)
    assert [text for text in good if not admits(text, grammar)] == []
    assert [text for text in bad if admits(text, grammar)] == []


def test_a_free_key_cannot_shadow_one_that_the_schema_names() -> None:
    grammar = grammar_of(JsonSchema({"type": "object", "properties": {"a": {"type": "integer"}}}))
    assert admits('{"b": "\\n\\"\\\\", "c": "é"}', grammar)
    assert not admits('{"a": 1, "a": "x"}', grammar)
    assert not admits('{"b": 1, "\\u0061": "x"}', grammar)


def test_without_a_constraint_or_tools_to_call_there_is_no_grammar() -> None:
    assert grammar_of(None) is None
    assert grammar_of(None, [WEATHER], "none") is None


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"constraint": JsonSchema({"type": "strin"})}, InvalidConstraintError, "strin"),
        ({"constraint": JsonSchema({"$ref": "#/$defs/a"})}, InvalidConstraintError, "a"),
        ({"constraint": JsonSchema({"enum": []})}, InvalidConstraintError, ""),
        ({"constraint": JsonSchema(False)}, InvalidConstraintError, ""),
        (
            {"constraint": JsonSchema({"type": "integer", "minimum": 3, "maximum": 2})},
            InvalidConstraintError,
            "",
        ),
        (
            {"constraint": JsonSchema({"uniqueItems": True}), "strict_schema": True},
            InvalidConstraintError,
            "uniqueItems",
        ),
        (
            {"constraint": JsonSchema({"minProperties": 2}), "strict_schema": True},
            InvalidConstraintError,
            "minProp",
        ),
        ({"constraint": JsonSchema({"$ref": "#"})}, InvalidConstraintError, "without an end"),
        (
            {
                "constraint": JsonSchema(
                    {"properties": {"a": {"$ref": "#"}}, "required": ["a"], "type": "object"}
                )
            },
            InvalidConstraintError,
            "without an end",
        ),
        (
            {"constraint": Grammar('start: "a" N\nN: /[^\\s\\S]/')},
            InvalidConstraintError,
            "no text",
        ),
        ({"constraint": Regex("(")}, InvalidConstraintError, "regex"),
        ({"constraint": Regex("a(?=b)")}, InvalidConstraintError, "look"),
        ({"constraint": Regex("[^\\s\\S]")}, InvalidConstraintError, "no text"),
        ({"constraint": Grammar("start: nowhere")}, InvalidConstraintError, "nowhere"),
        ({"constraint": Grammar("start: start")}, InvalidConstraintError, "no text"),
        ({"constraint": "json"}, InvalidConstraintError, "str"),
        (
            {"constraint": JsonObject(), "tools": [WEATHER], "tool_choice": "required"},
            InvalidConstraintError,
            "tool_choice='required' cannot be combined with a constraint",
        ),
        ({"tools": [WEATHER, WEATHER]}, InvalidToolError, "two tools are named 'get_weather'"),
        ({"tools": [{"description": "No name."}]}, InvalidToolError, "no name"),
        ({"tools": [{"name": "two\nlines"}]}, InvalidToolError, "two\\nlines"),
        ({"tools": ["get_weather"]}, InvalidToolError, "str"),
        ({"tools": [{"name": "f", "parameters": {"type": "string"}}]}, InvalidToolError, "object"),
        ({"tools": [WEATHER], "tool_choice": "get_wether"}, UnknownToolError, "get_weather"),
        ({"tool_choice": "required"}, UnknownToolError, "no tools"),
        (
            {"tools": [{"name": "f", "parameters": {"properties": {"a": {"type": "int"}}}}]},
            InvalidToolError,
            "parameters of the tool 'f': the schema is not a JSON schema: at '/properties/a/type', "
            "'int' is invalid ('int' is not valid under any of the given schemas); correct it.",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(
    options: dict[str, Any], error: type[RequestError], says: str
) -> None:
    with pytest.raises(error) as caught:
        follow(Request.of("Hello", **options))
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("options", ["ab", [], ["a", ""], ["a", 1]])
def test_a_choice_is_between_texts(options: Any) -> None:
    with pytest.raises(InvalidConstraintError, match="Choice"):
        Choice(options)


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_any_schema_is_closed_from_any_place(rng: random.Random, depth: int) -> None:
    schema = draw_root(rng, depth)
    Draft202012Validator.check_schema(schema)
    grammar = grammar_of(JsonSchema(schema))
    assert grammar is not None
    follower = Follower(grammar)
    whole = follower.closing()
    assert whole is not None
    shortest = follower.closing(shortest=True)
    # The search counts bytes.
    assert shortest is not None and len(shortest.encode()) <= len(whole.encode())
    for text in (whole, shortest):
        Draft202012Validator(schema).validate(json.loads(text))
    part = whole[: rng.randint(0, len(whole))]
    follower.push(part)
    closing = follower.closing()
    assert closing is not None
    Draft202012Validator(schema).validate(json.loads(part + closing))


@pytest.mark.parametrize(
    ("pattern", "begun"),
    [
        (r"\s*x", "  "),
        (r"[ab]*c{3}", "ab"),
        (r"(\s|-)+[0-9a-f]{8}-?z", "-"),
        (r".*\nAnswer: \d+", "Hm"),
    ],
)
def test_repetition_without_end_is_left(pattern: str, begun: str) -> None:
    follower = Follower(grammar_of(Regex(pattern)) or "")
    follower.push(begun)
    closing = follower.closing()
    assert closing is not None and len(closing) < 60
    follower.push(closing)
    assert follower.may_end


def test_large_schemas_are_closed_too() -> None:
    for seed in range(5):
        schema = agent_schema(random.Random(seed), 40)
        grammar = grammar_of(JsonSchema(schema))
        assert grammar is not None
        text = Follower(grammar).closing()
        assert text is not None
        Draft202012Validator(schema).validate(json.loads(text))


BOUNDS = [None, 0, 1, -1, 0.5, -0.5, 0.25, 2, -3, 1.5]
NUMBERS = [
    "0",
    "-0",
    "0.0",
    "1",
    "-1",
    "0.5",
    "-0.5",
    "0.25",
    "2",
    "0.05",
    "-3",
    "1.0",
    "-0.0",
    "7",
]


@pytest.mark.parametrize("low", BOUNDS)
def test_bounds_hold_whether_they_are_excluded_or_not(low: float | None) -> None:
    for high in BOUNDS:
        for least in ("minimum", "exclusiveMinimum"):
            for most in ("maximum", "exclusiveMaximum"):
                schema = {"type": "number", least: low, most: high}
                schema = {key: value for key, value in schema.items() if value is not None}
                valid = Draft202012Validator(schema).is_valid
                try:
                    grammar = grammar_of(JsonSchema(schema))
                    admitted = [text for text in NUMBERS if admits(text, grammar)]
                except InvalidConstraintError:
                    admitted = []
                assert [text for text in admitted if not valid(json.loads(text))] == [], schema


def test_a_follower_tells_what_is_forced_and_when_nothing_may_follow() -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    follower = Follower(grammar_of(JsonSchema(schema)) or "")
    assert follower.forced == '{"city": "'
    follower.push('{"city": "Os')
    assert (follower.forced, follower.may_end, follower.done) == ("", False, False)
    assert follower.legal('lo"} and more') == len('lo"}')
    other = follower.copy()
    other.push('lo"}')
    assert (other.forced, other.may_end, other.done) == ("", True, True)
    assert follower.closing() == '"}'
