"""Schemas that llguidance does not support completely: what the grammar allows, what is checked."""

from __future__ import annotations

import json
import random
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemas import draw_root
from shapes import SHAPES, Shape

from specfuse_core import FusionEngine, JsonSchema, Tool
from specfuse_core.answer.follower import Follower
from specfuse_core.errors import (
    InvalidConstraintError,
    InvalidToolError,
    RelaxedSchemaWarning,
)
from specfuse_core.grammar.answers import grammar_of
from specfuse_core.grammar.calls import write_call
from specfuse_core.grammar.relaxing import relaxed
from specfuse_core.grammar.validating import problem_of
from specfuse_core.testing import ScriptedBackend

GOOD = {name: shape for name, shape in SHAPES.items() if shape.good is not None}
SENSELESS = {name: shape for name, shape in SHAPES.items() if shape.good is None}

pytestmark = pytest.mark.filterwarnings("ignore::specfuse_core.errors.RelaxedSchemaWarning")


def call(schema: Any, arguments: Any, **options: Any) -> Any:
    """The answer of a model that wants to call a tool with these arguments."""
    script = write_call("ns/tool:get [v]", arguments)
    engine = FusionEngine([ScriptedBackend("a", script)])
    return engine.generate("Go", tools=[Tool("ns/tool:get [v]", "", schema)], **options)


def admits(tool: Tool, arguments: Any) -> bool:
    text = json.dumps(arguments, ensure_ascii=False)
    follower = Follower(grammar_of(JsonSchema(tool.schema)) or "")
    return follower.legal(text) == len(text)


def test_the_matrix_is_large_and_little_of_it_is_senseless() -> None:
    assert len(SHAPES) >= 72
    assert len(SENSELESS) == 5


@pytest.mark.parametrize("shape", GOOD.values(), ids=GOOD)
def test_a_call_with_any_schema_is_right(shape: Shape) -> None:
    answer = call(shape.schema, shape.good)
    assert [each.arguments for each in answer.tool_calls] == [shape.good]
    assert answer.invalid_tool_calls == ()


@pytest.mark.parametrize("shape", GOOD.values(), ids=GOOD)
def test_an_invalid_call_is_never_delivered_as_valid(shape: Shape) -> None:
    if shape.bad is None:
        return
    assert admits(Tool("t", "", shape.schema), shape.bad) is not shape.enforced
    answer = call(shape.schema, shape.bad)
    if shape.enforced:
        assert all(each.arguments != shape.bad for each in answer.tool_calls)
        return
    assert answer.tool_calls == ()
    (found,) = answer.invalid_tool_calls
    assert found.error.startswith("the arguments are not valid under the schema of the tool: ")


@pytest.mark.parametrize("shape", SENSELESS.values(), ids=SENSELESS)
def test_a_schema_that_no_object_satisfies_is_refused(shape: Shape) -> None:
    with pytest.raises(InvalidToolError, match=r"ns/tool:get \[v\]"):
        call(shape.schema, {})


@pytest.mark.parametrize("shape", GOOD.values(), ids=GOOD)
def test_structured_answers_have_the_same_schemas(shape: Shape) -> None:
    schema = {key: value for key, value in shape.schema.items() if value is not None}
    script = json.dumps(shape.good, ensure_ascii=False)
    engine = FusionEngine([ScriptedBackend("a", script)])
    answer = engine.generate("Go", constraint=JsonSchema(schema))
    assert (json.loads(answer.text), answer.invalid) == (shape.good, None)


def test_an_invalid_answer_says_so() -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    engine = FusionEngine([ScriptedBackend("a", "[1, 1]")])
    answer = engine.generate("Go", constraint=JsonSchema(schema))
    assert (answer.text, answer.invalid) == ("[1, 1]", "[1, 1] has non-unique elements")


def test_a_warning_names_once_what_is_only_checked_at_the_end() -> None:
    schema = {"type": "object", "properties": {"once": {"type": "array", "uniqueItems": True}}}
    with pytest.warns(RelaxedSchemaWarning) as caught:
        call(schema, {"once": []})
    (warning,) = caught
    assert str(warning.message) == (
        "the schema of the tool 'ns/tool:get [v]' has keywords that cannot be enforced while the "
        "models write: 'uniqueItems' at '/properties/once'. The finished value is checked, and is "
        "an error if it is not valid."
    )
    with warnings.catch_warnings(action="error"):
        call(schema, {"once": []})


def test_a_strict_schema_is_refused_instead() -> None:
    schema = {"type": "object", "properties": {"v": {"type": "array", "uniqueItems": True}}}
    with pytest.raises(InvalidToolError, match="'uniqueItems' at '/properties/v'"):
        call(schema, {}, strict_schema=True)
    with pytest.raises(InvalidConstraintError, match="strict_schema=False"):
        FusionEngine([ScriptedBackend("a", "")]).generate(
            "Go", constraint=JsonSchema(schema), strict_schema=True
        )
    assert call({"properties": {"v": {"format": "odd"}}}, {"v": 1}, strict_schema=True).tool_calls


def test_objects_are_closed_where_that_excludes_nothing() -> None:
    inner = {"type": "object", "properties": {"x": {"type": "integer"}}}
    whole = {"properties": {"a": inner, "b": {"items": inner}, "c": {"$ref": "#/$defs/c"}}}
    schema = relaxed({**whole, "$defs": {"c": inner}}, closed=True).schema
    assert schema["additionalProperties"] is False
    parts = schema["properties"]
    for each in (parts["a"], parts["b"]["items"], schema["$defs"]["s0"]):
        assert each["additionalProperties"] is False
    assert "additionalProperties" not in json.dumps(relaxed(whole | {"$defs": {"c": inner}}).schema)
    opened = {"properties": {}, "additionalProperties": True}
    assert relaxed(opened, closed=True).schema["additionalProperties"] is True


@pytest.mark.parametrize(
    "name",
    ["get", "a/b", "a:b", "two words", "Gen[int]", "größe", "Map[str, list[int]]", "x.y-z_1"],
)
def test_tools_may_have_the_names_of_servers_and_generics(name: str) -> None:
    engine = FusionEngine([ScriptedBackend("a", write_call(name, {"a": 1}))])
    answer = engine.generate("Go", tools=[Tool(name, "", {"properties": {"a": {}}})])
    assert [(each.name, each.arguments) for each in answer.tool_calls] == [(name, {"a": 1})]


@pytest.mark.parametrize("name", ["", " a", "a\n", "a\x1b", "a" * 129, "<a>", 'a"', "a\u200b", 5])
def test_other_names_are_refused(name: Any) -> None:
    with pytest.raises(InvalidToolError, match="the name of a tool must"):
        Tool(name)


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 2))
def test_supported_schemas_lose_nothing(rng: random.Random, depth: int) -> None:
    schema = draw_root(rng, depth)
    text = Follower(grammar_of(JsonSchema(schema)) or "").closing()
    assert text is not None
    Draft202012Validator(schema).validate(json.loads(text))
    assert problem_of(schema, json.loads(text)) is None
    assert {each.keyword for each in relaxed(schema).unenforced} <= {"oneOf", "minProperties"}
