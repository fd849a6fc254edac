"""Drops what llguidance refuses from a schema, found by compiling its parts.

It works on schemas that ``relaxing`` has translated. Dropping a keyword always allows more values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from llguidance import LLTokenizer

from specfuse_core.grammar.matching import fault_of, vocabulary_of

__all__ = ["mend"]

#: Called with a schema and a keyword that is dropped from it.
Drop = Callable[[dict[str, Any], str], None]

#: Keywords in the order in which dropping them is tried. A keyword that is void without another one
#: stands with it.
_DROPS = (
    ("format",),
    ("pattern",),
    ("patternProperties", "additionalProperties"),
    ("multipleOf",),
    ("minProperties",),
    ("maxProperties",),
    ("exclusiveMinimum", "exclusiveMaximum", "minimum", "maximum"),
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("prefixItems", "items"),
    ("enum",),
    ("const",),
    ("allOf",),
    ("anyOf",),
    ("properties", "additionalProperties"),
    ("additionalProperties",),
    ("items",),
    ("required",),
    ("$ref",),
)
_UNSATISFIABLE = "nsatisfiable"


@lru_cache(1)
def _no_tokens() -> LLTokenizer:
    return vocabulary_of((), slices=[])


def _fault(schema: Mapping[str, Any]) -> str:
    return fault_of(_no_tokens(), f"start: %json {json.dumps(schema, ensure_ascii=False)}\n")


def _supported(schema: Mapping[str, Any]) -> bool:
    fault = _fault(schema)
    return not fault or _UNSATISFIABLE in fault


def mend(schema: dict[str, Any], drop: Drop) -> str:
    """Drop keywords of ``schema``, and of schemas within it, until it is supported.

    Args:
        schema: the schema. References are only to its ``$defs``.
        drop: is told of each keyword before it is dropped.

    Returns:
        Why no value satisfies the schema; empty if there is no such reason.
    """
    fault = _fault(schema)
    if fault and _UNSATISFIABLE not in fault:
        defs = schema.pop("$defs", {})
        for part in (schema, *(each for each in defs.values() if isinstance(each, dict))):
            _mend_alone(part, drop)
        if defs:
            schema["$defs"] = defs
        _drop([*_all_schemas(schema)], lambda: _supported(schema), drop)
        if not _supported(schema):
            for key in schema:
                drop(schema, key)
            schema.clear()
        fault = _fault(schema)
    return fault


def _mend_alone(schema: dict[str, Any], drop: Drop) -> None:
    """Mend a schema as if each reference in it allowed any value."""

    def supported() -> bool:
        return _supported(_without_references(schema))

    if supported():
        return
    for each in _inner_schemas(schema):
        _mend_alone(each, drop)
    _drop([schema], supported, drop)


def _drop(schemas: Sequence[dict[str, Any]], supported: Callable[[], bool], drop: Drop) -> None:
    """Drop keywords from all ``schemas`` until they are supported: one if it suffices, or many."""
    if supported():
        return
    _loosen(schemas, drop)
    for keywords in _DROPS:
        if supported():
            return
        removed = [
            (schema, {key: schema.pop(key) for key in keywords if key in schema})
            for schema in schemas
        ]
        if supported():
            for schema, gone in removed:
                for key in gone:
                    drop(schema, key)
            return
        for schema, gone in removed:
            schema.update(gone)
    for keywords in _DROPS:
        for schema in schemas:
            for key in keywords:
                if key in schema:
                    drop(schema, key)
                    del schema[key]
        if supported():
            return


def _loosen(schemas: Sequence[dict[str, Any]], drop: Drop) -> None:
    """Replace ``oneOf``, which llguidance supports only if one alternative excludes the others."""
    for schema in schemas:
        if "oneOf" in schema and not _supported(_without_references({"oneOf": schema["oneOf"]})):
            drop(schema, "oneOf")
            either = schema.pop("oneOf")
            if "anyOf" in schema:
                schema.setdefault("allOf", []).append({"anyOf": either})
            else:
                schema["anyOf"] = either


def _without_references(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_references(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value if key in ("enum", "const") else _without_references(value)
        for key, value in schema.items()
        if key != "$ref" or not isinstance(value, str)
    }


def _all_schemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for each in _inner_schemas(schema):
        yield from _all_schemas(each)


def _inner_schemas(schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schemas directly within a schema."""
    for key, value in schema.items():
        if key in ("properties", "patternProperties", "$defs"):
            values: Sequence[Any] = list(value.values())
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            values = value
        else:
            values = [value] if key in ("items", "additionalProperties") else []
        yield from (each for each in values if isinstance(each, dict))
