"""Schemas of tools and structured answers, in LlamaIndex."""

from __future__ import annotations

import json
from typing import Any

import pytest
from classes import CLASSES, Numbers, Tree
from llama_index.core import PromptTemplate
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.tools import FunctionTool
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, Field, create_model

from llamaindex_specfuse import SpecFuseLLM
from llamaindex_specfuse.errors import StructuredAnswerError, ToolCallError
from specfuse_core import FusionEngine
from specfuse_core.errors import InvalidConstraintError, InvalidToolError
from specfuse_core.grammar.calls import write_call
from specfuse_core.testing import ScriptedBackend

pytestmark = pytest.mark.filterwarnings("ignore::specfuse_core.errors.RelaxedSchemaWarning")

MODES = (PydanticProgramMode.DEFAULT, PydanticProgramMode.FUNCTION)
GO = PromptTemplate("Go")
PYDANTIC = [
    name
    for name, (kind, _) in CLASSES.items()
    if isinstance(kind, type) and issubclass(kind, BaseModel)
]


def llm(value: Any, **fields: Any) -> SpecFuseLLM:
    """A model that wants to answer, or call its first tool, with ``value``."""

    def script(request: Any, response: str) -> str:
        text = json.dumps(value, ensure_ascii=False)
        text = write_call(request.tools[0].name, value) if request.tools else text
        return text[len(response) :]

    return SpecFuseLLM(engine=FusionEngine([ScriptedBackend("a", script)]), **fields)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PYDANTIC)
def test_objects_of_any_class(name: str, mode: PydanticProgramMode) -> None:
    kind, value = CLASSES[name]
    wanted = kind.model_validate_json(json.dumps(value))
    model = llm(value, pydantic_program_mode=mode)
    assert model.structured_predict(kind, GO) == wanted
    *_, streamed = model.stream_structured_predict(kind, GO)
    assert streamed == wanted


def test_a_root_that_is_no_object_is_an_argument() -> None:
    assert llm([1, 2]).structured_predict(Numbers, GO) == Numbers([1, 2])
    model = llm({"root": [1, 2]}, pydantic_program_mode=PydanticProgramMode.FUNCTION)
    assert model.structured_predict(Numbers, GO) == Numbers([1, 2])
    *_, streamed = model.stream_structured_predict(Numbers, GO)
    assert streamed == Numbers([1, 2])


class Tags(BaseModel):
    labels: set[str]


class Never(BaseModel):
    number: int = Field(ge=3, le=2)


@pytest.mark.parametrize("mode", MODES)
def test_an_invalid_object_is_an_error(mode: PydanticProgramMode) -> None:
    model = llm({"labels": ["a", "a"]}, pydantic_program_mode=mode)
    with pytest.raises(StructuredAnswerError, match="non-unique"):
        model.structured_predict(Tags, GO)
    with pytest.raises(StructuredAnswerError, match="non-unique"):
        list(model.stream_structured_predict(Tags, GO))


@pytest.mark.parametrize("mode", MODES)
def test_a_class_without_objects_is_refused_where_it_is_given(mode: PydanticProgramMode) -> None:
    with pytest.raises((InvalidConstraintError, InvalidToolError), match="no value satisfies"):
        llm({}, pydantic_program_mode=mode).as_structured_llm(Never)
    with pytest.raises((InvalidConstraintError, InvalidToolError), match="uniqueItems"):
        llm({}, pydantic_program_mode=mode, strict_schema=True).as_structured_llm(Tags)


def test_tools_keep_recursion() -> None:
    def plant(**arguments: Any) -> str:
        return "done"

    tree = {"value": 1, "children": [{"value": 2, "children": []}]}
    argument = create_model("Plant", tree=(Tree, ...))
    for kind, wanted in ((Tree, tree), (argument, {"tree": tree})):
        tool = FunctionTool.from_defaults(plant, description="Plant a tree.", fn_schema=kind)
        model = llm(wanted)
        response = model.chat_with_tools([tool], user_msg="Go", tool_required=True)
        (call,) = model.get_tool_calls_from_response(response)
        assert call.tool_kwargs == wanted


def test_an_invalid_call_is_no_call() -> None:
    def tag(labels: set[str]) -> str:
        """Set labels."""
        return "done"

    tool = FunctionTool.from_defaults(tag)
    model = llm({"labels": ["a", "a"]})
    response = model.chat_with_tools([tool], user_msg="Go", tool_required=True)
    assert model.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(ToolCallError, match="non-unique"):
        model.get_tool_calls_from_response(response)


async def test_one_odd_tool_does_not_break_an_agent() -> None:
    def tag(labels: set[str]) -> str:
        """Set labels."""
        return "done"

    def script(request: Any, response: str) -> str:
        return "Hello."[len(response) :]

    model = SpecFuseLLM(engine=FusionEngine([ScriptedBackend("a", script)]))
    agent = FunctionAgent(tools=[FunctionTool.from_defaults(tag)], llm=model)
    assert str(await agent.run("Hi")) == "Hello."
