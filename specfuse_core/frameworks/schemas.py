"""What frameworks need to know of the schemas of classes, and their checks before any call.

This module knows no framework. What the engine makes of a schema is in ``grammar.relaxing``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from specfuse_core.answer.follower import follow
from specfuse_core.frameworks.arguments import request_options
from specfuse_core.grammar.tools import Tool
from specfuse_core.request import Request

__all__ = ["ROOT", "as_argument", "check_forms", "is_object", "is_recursive"]

#: Name of the argument that is the whole value, if the value is not an object.
ROOT = "root"
_DEFS = "#/$defs/"


def check_forms(values: Mapping[str, Any], tools: Sequence[Tool]) -> None:
    """Check tools and the form of the answer as a call with these arguments does.

    Args:
        values: the fields of the model and the arguments of the call.
        tools: the tools that the answer may call.

    Raises:
        InvalidToolError: if the schema of a tool cannot be followed.
        InvalidConstraintError: if the form of the answer cannot be followed.
        UnknownToolError: if a call of an unknown tool is required.
    """
    # A call refuses tools of the same name; langchain's own tests bind such tools.
    unique = list({tool.name: tool for tool in tools}.values())
    follow(Request.of("-", **request_options(values, None, unique)))


def is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a definition of the schema contains itself."""
    definitions = schema.get("$defs", {})
    inner = {name: set(_references(each)) for name, each in definitions.items()}
    for _ in inner:
        inner = {
            name: each.union(*(inner.get(other, ()) for other in each))
            for name, each in inner.items()
        }
    return any(name in each for name, each in inner.items())


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith(_DEFS):
            yield reference.removeprefix(_DEFS)
        for each in schema.values():
            yield from _references(each)
    elif isinstance(schema, list | tuple):
        for each in schema:
            yield from _references(each)


def is_object(schema: Any, whole: Mapping[str, Any] | None = None) -> bool:
    """Whether every valid value of a class's schema is an object.

    Args:
        schema: the schema, or a part of it.
        whole: the schema with the definitions; ``schema`` by default.
    """
    if not isinstance(schema, Mapping):
        return False
    whole = schema if whole is None else whole
    if schema.get("type") == "object":
        return True
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith(_DEFS):
        return is_object(whole.get("$defs", {}).get(reference.removeprefix(_DEFS)), whole)
    either = schema.get("anyOf") or schema.get("oneOf") or ()
    return bool(either) and all(is_object(each, whole) for each in either)


def as_argument(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object whose only property, :data:`ROOT`, is the value."""
    value = {key: each for key, each in schema.items() if key not in ("$defs", "description")}
    definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    return {"type": "object", "properties": {ROOT: value}, "required": [ROOT], **definitions}
