"""What LangChain binds to a model -> the engine's tools, tool choice and constraint.

This module knows the forms that agents and providers use; it knows nothing of messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.utils.function_calling import convert_to_openai_tool

from specfuse_core import JsonObject, JsonSchema, Tool
from specfuse_core.constraints import Constraint
from specfuse_core.errors import InvalidConstraintError, InvalidOptionError, InvalidToolError
from specfuse_core.tools import check_tools

__all__ = ["choice_of", "constraint_of", "described", "tools_of"]


def described(tools: Sequence[Any], *, strict: bool | None = None) -> list[dict[str, Any]]:
    """Tools in OpenAI's form.

    Args:
        tools: functions, pydantic classes, ``TypedDict`` classes, ``BaseTool``\\ s, the engine's
            own ``Tool``\\ s, or schemas.
        strict: True closes their schemas and makes all arguments required, as OpenAI does.

    Raises:
        InvalidToolError: for what describes no tool.
    """
    return [_described(tool, strict) for tool in tools]


def _described(tool: Any, strict: bool | None) -> dict[str, Any]:
    if isinstance(tool, Tool):
        return tool.as_dict()
    try:
        form = convert_to_openai_tool(tool, strict=strict)
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidToolError(
            f"{tool!r} describes no tool ({error}); give a function, a pydantic or TypedDict "
            "class, a BaseTool, or a schema with 'title' or 'name'."
        ) from error
    if "function" not in form:
        raise InvalidToolError(
            f"a tool of type {form.get('type')!r} runs at its provider, not here; give a function."
        )
    return form


def tools_of(forms: Sequence[Any]) -> tuple[Tool, ...]:
    """The engine's tools, from OpenAI's form or anything that :func:`described` takes."""
    return tuple(
        Tool.of(form if isinstance(form, Tool | Mapping) else _described(form, None))
        for form in forms
    )


def choice_of(choice: Any, tools: Sequence[Tool]) -> str:
    """The engine's tool choice, from all the forms that LangChain and the providers know.

    Args:
        choice: a word (``auto``, ``none``, ``any``, ``required``), a tool's name, True (a call),
            False (none), OpenAI's or Anthropic's mapping, or None (``auto``).
        tools: what there is to choose from.

    Raises:
        InvalidOptionError: for another form.
        UnknownToolError: for a name that no tool has.
    """
    if isinstance(choice, Mapping):
        function = choice.get("function")
        named = function.get("name") if isinstance(function, Mapping) else choice.get("name")
        choice = named or choice.get("type")
        if not choice:
            raise InvalidOptionError(
                "tool_choice names no tool; write 'any', a tool's name, or "
                '{"type": "function", "function": {"name": ...}}.'
            )
    word = {None: "auto", True: "required", False: "none", "any": "required"}.get(choice, choice)
    if not isinstance(word, str):
        raise InvalidOptionError(
            f"tool_choice is a word, a tool's name, a mapping or a bool, got {choice!r}."
        )
    # Two of one name are refused when they are used.
    check_tools(list({tool.name: tool for tool in tools}.values()), word)
    return word


def constraint_of(response_format: Any) -> Constraint | None:
    """What ``response_format`` asks of the answer.

    Args:
        response_format: OpenAI's mapping (``json_schema``, ``json_object`` or ``text``), or None.

    Raises:
        InvalidConstraintError: for anything else.
    """
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return JsonObject()
    if kind == "json_schema":
        inner = response_format.get("json_schema")
        schema = inner.get("schema") if isinstance(inner, Mapping) else response_format["schema"]
        if isinstance(schema, Mapping):
            return JsonSchema(closed(schema))
    raise InvalidConstraintError(
        'response_format is {"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}, '
        f'{{"type": "json_object"}} or {{"type": "text"}}, got {response_format!r}.'
    )


#: Keywords that may speak of further properties of the same object.
_JOINT = {"allOf", "anyOf", "oneOf", "if", "$ref", "$dynamicRef", "not", "patternProperties"}
_INNER = ("properties", "$defs", "definitions")


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """``schema``, with no properties but those it names where it leaves that open.

    What is valid under it is valid under ``schema``. An object that is left open invites models
    to write on and on.
    """
    if _mentions(schema, "allOf"):
        # An object that is put together from several: closing one part would exclude the others.
        return dict(schema)
    whole: dict[str, Any] = _closed(schema)
    return whole


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _INNER and isinstance(value, Mapping):
            inner[key] = {name: _closed(each) for name, each in value.items()}
        elif key in ("items", "prefixItems", "anyOf", "oneOf"):
            inner[key] = _closed(value)
        else:
            inner[key] = value
    if "properties" in inner and not _JOINT & set(inner):
        inner.setdefault("additionalProperties", False)
    return inner


def _mentions(schema: Any, keyword: str) -> bool:
    if isinstance(schema, Mapping):
        return keyword in schema or any(_mentions(value, keyword) for value in schema.values())
    return isinstance(schema, list) and any(_mentions(value, keyword) for value in schema)
