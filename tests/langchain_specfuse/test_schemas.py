"""Schemas of tools and structured answers, in LangChain."""

from __future__ import annotations

import enum
import json
from typing import Any, Literal

import pytest
from classes import CLASSES, Dog, Numbers, Tree
from langchain.agents import create_agent
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import HumanMessage
from langchain_core.tools import StructuredTool, tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel
from shapes import SHAPES

from langchain_specfuse import ChatSpecFuse
from specfuse_core import FusionEngine, FusionError
from specfuse_core.errors import (
    InvalidConstraintError,
    InvalidOptionError,
    InvalidToolError,
)
from specfuse_core.grammar.calls import write_call
from specfuse_core.testing import ScriptedBackend

pytestmark = pytest.mark.filterwarnings("ignore::specfuse_core.errors.RelaxedSchemaWarning")

METHODS = ("json_schema", "function_calling")


def chat(script: Any, **fields: Any) -> ChatSpecFuse:
    return ChatSpecFuse(engine=FusionEngine([ScriptedBackend("a", script)]), **fields)


def asked(schema: Any, value: Any, method: Any, **options: Any) -> Any:
    """A chain whose model wants to answer with ``value``."""

    def script(request: Any, response: str) -> str:
        text = json.dumps(value, ensure_ascii=False)
        text = write_call(request.tools[0].name, value) if request.tools else text
        return text[len(response) :]

    return chat(script).with_structured_output(schema, method=method, **options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CLASSES)
def test_objects_of_any_class(name: str, method: str) -> None:
    kind, value = CLASSES[name]
    found = asked(kind, value, method).invoke("Go")
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        assert found == kind.model_validate_json(json.dumps(value))
    else:
        assert found == value


def test_the_matrix_is_as_large_as_it_was() -> None:
    assert len(CLASSES) >= 55


def test_a_root_that_is_no_object_is_an_argument() -> None:
    assert asked(Numbers, [1, 2], "json_schema").invoke("Go") == Numbers([1, 2])
    called = asked(Numbers, {"root": [1, 2]}, "function_calling")
    assert called.invoke("Go") == Numbers([1, 2])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if shape.good])
def test_objects_of_any_schema(name: str, method: str) -> None:
    shape = SHAPES[name]
    assert asked(shape.schema, shape.good, method).invoke("Go") == shape.good


@pytest.mark.parametrize(
    "name", [name for name, shape in SHAPES.items() if shape.bad and not shape.enforced]
)
def test_an_invalid_object_is_a_parsing_error(name: str) -> None:
    shape = SHAPES[name]
    for method in METHODS:
        chain = asked(shape.schema, shape.bad, method, include_raw=True)
        found = chain.invoke("Go")
        assert found["parsed"] is None
        assert isinstance(found["parsing_error"], OutputParserException)
        with pytest.raises(OutputParserException):
            list((asked(shape.schema, shape.bad, method)).stream("Go"))


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if shape.good is None])
def test_a_senseless_schema_is_refused_where_it_is_given(name: str) -> None:
    schema = SHAPES[name].schema
    function = {"name": "t", "description": "", "parameters": schema}
    with pytest.raises(InvalidToolError, match="'t'"):
        chat("").bind_tools([function])
    for method, error in zip(METHODS, (InvalidConstraintError, InvalidToolError), strict=True):
        with pytest.raises(error):
            chat("").with_structured_output(schema, method=method)  # type: ignore[arg-type]
    with pytest.raises(InvalidConstraintError):
        chat("").bind_tools([], response_format={**schema, "title": "t"})


def test_one_odd_tool_does_not_break_an_agent() -> None:
    ran: list[Any] = []

    @tool
    def tag(labels: set[str]) -> str:
        """Set labels."""
        ran.append(labels)
        return "done"

    def script(request: Any, response: str) -> str:
        last = request.messages[-1]
        if last.role == "user":
            text = write_call("tag", {"labels": ["a", "a"]})
        elif "non-unique" in last.content:
            text = write_call("tag", {"labels": ["a"]})
        else:
            text = "Done." if ran else "Sorry."
        return text[len(response) :]

    state = create_agent(chat(script), [tag]).invoke({"messages": [HumanMessage("Go")]})
    first = state["messages"][1]
    assert (first.tool_calls, ran) == ([], [])
    (call,) = first.invalid_tool_calls
    assert call["error"] == (
        "the arguments are not valid under the schema of the tool: at '/labels', ['a', 'a'] has "
        "non-unique elements."
    )


def test_recursion_is_kept_in_tools() -> None:
    @tool
    def plant(tree: Tree) -> str:
        """Plant a tree."""
        return str(tree)

    def grow(tree: Tree) -> str:
        """Grow a tree."""
        return str(tree)

    wrong = {"tree": {"value": 1, "children": [True]}}
    right = {"tree": {"value": 1, "children": [{"value": 2, "children": []}]}}
    for made in (plant, grow, StructuredTool.from_function(grow)):
        name = convert_to_openai_tool(made)["function"]["name"]
        for arguments, whole in ((right, True), (wrong, False)):
            model = chat(write_call(name, arguments)).bind_tools([made])
            calls = model.invoke("Go").tool_calls
            assert ([call["args"] for call in calls] == [arguments]) is whole


def test_nested_objects_are_closed_in_tools() -> None:
    def feed(dog: Dog) -> str:
        """Feed a dog."""
        return dog.name

    dog = {"kind": "dog", "name": "Rex"}
    script = write_call("feed", {"dog": {**dog, "invented": 1}})
    answer = chat(script).bind_tools([feed], parallel_tool_calls=False).invoke("Go")
    assert [call["args"] for call in answer.tool_calls] == [{"dog": dog}]


class _Kind(enum.Enum):
    A = "a"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "schema", [_Kind, list[int], int | str, Literal["a"], {"type": True}, 5], ids=repr
)
def test_what_is_no_object_is_refused(schema: Any, method: Any) -> None:
    with pytest.raises(FusionError):
        chat("").with_structured_output(schema, method=method)


def test_schemas_without_a_title() -> None:
    schema = {"type": ["object"], "properties": {"a": {"type": "integer"}}}
    for method in METHODS:
        assert asked(schema, {"a": 1}, method).invoke("Go") == {"a": 1}
        assert asked({}, {}, method).invoke("Go") == {}


def test_structured_answers_beside_tools() -> None:
    class Person(BaseModel):
        name: str

    def look(where: str) -> str:
        """Look."""
        return where

    options: dict[str, Any] = {"tools": [look], "include_raw": True}
    call = write_call("look", {"where": "x"})
    found = chat(call).with_structured_output(Person, **options).invoke("Go")
    assert [each["name"] for each in found["raw"].tool_calls] == ["look"]
    assert (found["parsed"], found["parsing_error"]) == (None, None)
    found = chat('{"name": "Anna"}').with_structured_output(Person, **options).invoke("Go")
    assert found["parsed"] == Person(name="Anna")
    for odd in ({"include_raw": False}, {"method": "function_calling"}):
        with pytest.raises(InvalidOptionError, match="tools need include_raw=True"):
            chat("").with_structured_output(Person, **{**options, **odd})


def test_a_strict_schema_is_refused_where_it_is_given() -> None:
    def tag(labels: set[str]) -> str:
        """Set labels."""
        return ""

    with pytest.raises(InvalidToolError, match="uniqueItems"):
        chat("", strict_schema=True).bind_tools([tag])
    with pytest.raises(InvalidToolError, match="uniqueItems"):
        chat("").bind_tools([tag], strict_schema=True)
