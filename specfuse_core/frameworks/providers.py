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

__all__ = ["choice_of", "constraint_of"]


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
            return JsonSchema(schema, closed=True)
    raise InvalidConstraintError(
        "response_format must be "
        '{"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}, '
        f'{{"type": "json_object"}} or {{"type": "text"}}, got {shown(response_format)}.'
    )
