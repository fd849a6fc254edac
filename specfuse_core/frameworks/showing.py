"""Shows the models the schema of a structured answer.

The grammar enforces the schema, but descriptions of fields say what their values mean. This module
knows no framework.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from specfuse_core.grammar.constraints import JsonSchema
from specfuse_core.message import Message

__all__ = ["with_schema"]

#: Keywords that say nothing to a model, with the values that they then have.
_SILENT: tuple[tuple[str, tuple[type, ...] | bool | None], ...] = (
    ("title", (str,)),
    ("additionalProperties", False),
    ("default", None),
)


def with_schema(turns: Sequence[Message], constraint: Any) -> tuple[Message, ...]:
    """Return a conversation whose system message ends with the schema of the answer.

    Args:
        turns: the conversation.
        constraint: the constraint of the answer. If it is no JSON schema, nothing is added.
    """
    if not isinstance(constraint, JsonSchema) or not isinstance(constraint.schema, Mapping):
        return tuple(turns)
    schema = json.dumps(_brief(constraint.schema), ensure_ascii=False, separators=(", ", ": "))
    text = f"Answer with JSON of this JSON schema:\n{schema}"
    if turns and turns[0].role == "system":
        first = replace(turns[0], content=f"{turns[0].content}\n\n{text}")
        return (first, *turns[1:])
    return (Message("system", text), *turns)


def _brief(schema: Any) -> Any:
    """``schema`` without keywords that say nothing to a model."""
    if isinstance(schema, list | tuple):
        return [_brief(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {name: _brief(each) for name, each in schema.items() if not _says_nothing(name, each)}


def _says_nothing(name: str, value: Any) -> bool:
    for keyword, silent in _SILENT:
        if name == keyword:
            return isinstance(value, silent) if isinstance(silent, tuple) else value is silent
    return False
