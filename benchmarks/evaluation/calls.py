"""Extracts the tools of a generated question, and counts invalid tool calls in an answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from jsonschema import Draft202012Validator

from specfuse_core import Generation, Tool
from specfuse_core.grammar.calls import CALL_CLOSE, CALL_OPEN, write_call
from specfuse_core.grammar.tools import describe
from training.sample import Message

__all__ = ["invalid_calls", "take_tools", "written"]


def take_tools(turns: Sequence[Message]) -> tuple[list[Message], tuple[Tool, ...]]:
    """Return the conversation without the description of its tools, and the tools."""
    first, *rest = turns
    lines = first.content.splitlines()
    described = [json.loads(line) for line in lines if line.startswith('{"type": "function"')]
    if not described:
        return list(turns), ()
    before = first.content.removesuffix(describe(described)).rstrip()
    opened = [replace(first, content=before)] if before else []
    return [*opened, *rest], tuple(map(Tool.of, described))


def written(generation: Generation) -> str:
    """Return the text of an answer with its tool calls in the common format."""
    calls = [write_call(call.name, call.arguments) for call in generation.tool_calls]
    return "\n".join(filter(None, [generation.text, *calls]))


def invalid_calls(text: str, tools: Sequence[Tool]) -> int:
    """Count the invalid tool calls in an answer.

    A call is invalid if it is cut off, is not JSON, names an unknown tool, or has arguments that
    violate the tool's schema.
    """
    schemas = {tool.name: tool.schema for tool in tools}
    return sum(not _valid(part, schemas) for part in text.split(CALL_OPEN)[1:])


def _valid(part: str, schemas: dict[str, dict[str, object]]) -> bool:
    body, closed, _ = part.partition(CALL_CLOSE)
    try:
        call = json.loads(body)
        schema = schemas[call["name"]]
        return bool(closed) and Draft202012Validator(schema).is_valid(call["arguments"])
    except (ValueError, KeyError, TypeError):
        return False
