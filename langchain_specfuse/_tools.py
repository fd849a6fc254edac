"""Converts the tools that LangChain binds to a model to the engine's tools.

The forms of providers are in ``specfuse_core.frameworks.providers``. This module knows nothing of
messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from types import FunctionType, MethodType
from typing import Any

from langchain_core.tools import BaseTool, create_schema_from_function
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, RootModel

from specfuse_core import Tool
from specfuse_core.errors import InvalidToolError
from specfuse_core.frameworks.providers import choice_of, constraint_of
from specfuse_core.frameworks.schemas import as_argument, is_object, is_recursive
from specfuse_core.values import listed, reason, shown

__all__ = ["choice_of", "constraint_of", "described", "tools_of"]


def described(tools: Sequence[Any], *, strict: bool | None = None) -> list[dict[str, Any]]:
    """Convert tools to OpenAI's form.

    Args:
        tools: functions, pydantic classes, ``TypedDict`` classes, ``BaseTool``\\ s, the engine's
            own ``Tool``\\ s, or schemas.
        strict: True forbids additional arguments and makes all arguments required, as OpenAI does.

    Raises:
        InvalidToolError: if an object does not describe a tool.
    """
    return [_described(tool, strict) for tool in listed(tools, "tools", "tools")]


def _described(tool: Any, strict: bool | None) -> dict[str, Any]:
    if isinstance(tool, Tool):
        return tool.as_dict()
    if isinstance(tool, type) and issubclass(tool, Enum):
        raise InvalidToolError(
            f"{shown(tool)} is an Enum, which is no object with arguments. Use it as the type of a "
            "field of a pydantic class."
        )
    try:
        form = convert_to_openai_tool(_of_schema(tool), strict=strict)
        parameters = _own_schema(tool)
        if parameters is not None and "function" in form:
            function = {**form["function"], "parameters": parameters}
            form = convert_to_openai_tool(function, strict=strict)
    # Schemas of users' classes can raise any error.
    except Exception as error:
        raise InvalidToolError(
            f"{shown(tool)} cannot be used as a tool ({reason(error)}). Use a function, a pydantic "
            "or TypedDict class, a BaseTool, or a schema with 'title' or 'name'."
        ) from error
    if "function" not in form:
        raise InvalidToolError(
            f"a tool of type {form.get('type')!r} runs on the servers of its provider. Use a "
            "function instead."
        )
    return form


def _of_schema(tool: Any) -> Any:
    """Return a JSON schema with a title as a tool, and anything else unchanged.

    langchain-core leaves out the parameters of a schema without ``properties``.
    """
    if not isinstance(tool, dict) or "title" not in tool or "name" in tool or "function" in tool:
        return tool
    schema = {key: value for key, value in tool.items() if key not in ("title", "description")}
    described = str(tool.get("description") or "")
    return {"name": tool["title"], "description": described, "parameters": schema}


def _own_schema(tool: Any) -> dict[str, Any] | None:
    """Return the schema of a tool if langchain-core would change its meaning.

    langchain-core replaces references by what they lead to, which loses recursion. The root of a
    ``RootModel`` that is not an object becomes an argument.
    """
    model = tool.tool_call_schema if isinstance(tool, BaseTool) else tool
    if isinstance(model, FunctionType | MethodType):
        model = create_schema_from_function(
            model.__name__, model, parse_docstring=True, error_on_invalid_docstring=False
        )
    schema: dict[str, Any]
    if isinstance(model, type) and issubclass(model, BaseModel):
        schema = model.model_json_schema()
        if issubclass(model, RootModel) and not is_object(schema):
            return as_argument(schema)
    elif isinstance(tool, BaseTool) and isinstance(model, dict):
        schema = model
    else:
        return None
    return schema if is_recursive(schema) or "properties" not in schema else None


def tools_of(forms: Sequence[Any]) -> tuple[Tool, ...]:
    """Convert anything that :func:`described` takes to the engine's tools."""
    return tuple(
        Tool.of(form if isinstance(form, Tool | Mapping) else _described(form, None))
        for form in listed(forms, "tools", "tools")
    )
