"""Converts tool choices and response formats of hosted models' interfaces to the engine's.

Frameworks pass these forms on unchanged, so both integrations use this module. It knows nothing of
messages, and no framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from specfuse_core.errors import InvalidConstraintError, InvalidOptionError
from specfuse_core.grammar.constraints import Constraint, JsonObject, JsonSchema
from specfuse_core.grammar.tools import Tool, check_tools
from specfuse_core.values import check_json, shown

__all__ = ["choice_of", "closed", "constraint_of"]


def choice_of(choice: Any, tools: Sequence[Tool]) -> str:
    """Convert a tool choice in any form that frameworks and providers know.

    Args:
        choice: ``auto``, ``none``, ``any``, ``required``, a tool's name, True (``required``),
            False (``none``), OpenAI's or Anthropic's mapping, or None (``auto``).
        tools: the tools on offer.

    Raises:
        InvalidOptionError: if the form is unknown.
        UnknownToolError: if no tool has that name.
    """
    given = choice
    if isinstance(choice, Mapping):
        function = choice.get("function")
        named = function.get("name") if isinstance(function, Mapping) else choice.get("name")
        choice = named or choice.get("type")
        if not choice:
            raise InvalidOptionError.of(
                "tool_choice",
                "must contain the name of a tool, for example "
                f'{{"type": "function", "function": {{"name": "add"}}}}, got {shown(given)}.',
            )
    if choice is None or isinstance(choice, bool):
        choice = {None: "auto", True: "required", False: "none"}[choice]
    word = "required" if choice == "any" else choice
    if not isinstance(word, str):
        raise InvalidOptionError.of(
            "tool_choice",
            "must be 'auto', 'none', 'any', 'required', the name of a tool, a mapping or a bool, "
            f"got {shown(choice)}.",
        )
    # Tools of the same name are refused later.
    check_tools(list({tool.name: tool for tool in tools}.values()), word)
    return word


def constraint_of(response_format: Any) -> Constraint | None:
    """Convert a response format to a constraint.

    Args:
        response_format: OpenAI's mapping (``json_schema``, ``json_object`` or ``text``), or None.

    Raises:
        InvalidConstraintError: if the form is unknown.
    """
    if response_format is None:
        return None
    if isinstance(response_format, Mapping):
        check_json(dict(response_format), "response_format", InvalidConstraintError)
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return JsonObject()
    if kind == "json_schema":
        inner = response_format.get("json_schema")
        schema = (inner if isinstance(inner, Mapping) else response_format).get("schema")
        if isinstance(schema, Mapping):
            return JsonSchema(closed(schema))
    raise InvalidConstraintError(
        "response_format must be "
        '{"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}, '
        f'{{"type": "json_object"}} or {{"type": "text"}}, got {shown(response_format)}.'
    )


#: Keywords that may define other properties of the same object.
_JOINT = {"allOf", "anyOf", "oneOf", "if", "$ref", "$dynamicRef", "not", "patternProperties"}
_INNER = ("properties", "$defs", "definitions")


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``schema`` with ``additionalProperties: false`` where it does not set it.

    Any valid value is also valid under ``schema``. Models write endless properties if additional
    ones are allowed.
    """
    if _mentions(schema, "allOf"):
        # The object combines several schemas. Closing one excludes properties of the others.
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
