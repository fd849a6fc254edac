"""Draws random JSON schemas with every feature that constraints support."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

_WORDS = (
    "name", "city", "größe", "数量", "is_open", "notes", "a", "email address", "x-y", "Straße",
    "emoji 🎉", "kind", "items", "owner", "опция", "price",
)  # fmt: skip
_LONG = (
    "What the caller wants, in full sentences, with every condition, exception and deadline that "
    "was mentioned; leave it empty if nothing was said about it. "
)


def draw_schema(rng: random.Random, depth: int = 2) -> Schema:
    """Draw a satisfiable schema that is nested at most ``depth`` deep."""
    leaves: tuple[Callable[..., Schema], ...] = (
        _string, _pattern, _format, _integer, _number, _enum, _const, _plain,
    )  # fmt: skip
    nested = (_object, _object, _array, _tuple, _any_of, _either_type, _all_of)
    kind = rng.choice(leaves if depth == 0 or rng.random() < 0.35 else nested)
    schema = kind(rng, depth - 1)
    if rng.random() < 0.2:
        schema["description"] = _LONG * rng.randint(1, 3)
    return schema


def draw_root(rng: random.Random, depth: int = 2) -> Schema:
    """Draw a schema as in requests: often of an object, sometimes with definitions."""
    if rng.random() < 0.3:
        return _with_definitions(rng, depth)
    return _object(rng, depth) if rng.random() < 0.6 else draw_schema(rng, depth)


def agent_schema(rng: random.Random, fields: int) -> Schema:
    """Draw the parameters of a large tool: many fields, nested objects, arrays and enums."""
    properties = {
        f"{rng.choice(string.ascii_lowercase)}_field_{index}": {
            **draw_schema(rng, rng.choice((0, 0, 1, 2))),
            "description": _LONG,
        }
        for index in range(fields)
    }
    required = sorted(rng.sample(sorted(properties), fields // 2))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Arguments",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _string(rng: random.Random, _: int) -> Schema:
    schema: Schema = {"type": "string"}
    if rng.random() < 0.5:
        low = rng.randint(0, 5)
        schema |= {"minLength": low, "maxLength": low + rng.randint(0, 12)}
    return schema


def _pattern(rng: random.Random, _: int) -> Schema:
    patterns = (
        r"^[A-Z]{2}-\d{3}$",
        r"^(yes|no)$",
        r"^\d{1,4}$",
        r"^[a-zäöü ]+$",
        r"^#[0-9a-f]{6}$",
    )
    return {"type": "string", "pattern": rng.choice(patterns)}


def _format(rng: random.Random, _: int) -> Schema:
    formats = ("date", "time", "date-time", "uuid", "ipv4", "email")
    return {"type": "string", "format": rng.choice(formats)}


def _integer(rng: random.Random, _: int) -> Schema:
    schema: Schema = {"type": "integer"}
    if rng.random() < 0.6:
        low = rng.randint(-50, 500)
        schema |= {"minimum": low, "maximum": low + rng.randint(0, 10_000)}
    elif rng.random() < 0.3:
        schema["multipleOf"] = rng.choice((2, 5, 10))
    return schema


def _number(rng: random.Random, _: int) -> Schema:
    schema: Schema = {"type": "number"}
    if rng.random() < 0.5:
        schema |= {"exclusiveMinimum": rng.randint(-5, 0), "maximum": rng.randint(1, 100) / 4}
    return schema


def _enum(rng: random.Random, _: int) -> Schema:
    values: list[Any] = [
        *rng.sample(_WORDS, 3),
        rng.randint(0, 9),
        None,
        True,
        1.5,
        ["a"],
        {"b": 1},
    ]
    return {"enum": rng.sample(values, rng.randint(1, 5))}


def _const(rng: random.Random, _: int) -> Schema:
    return {"const": rng.choice((*_WORDS, 7, None, False, {"a": [1, "é"]}))}


def _plain(rng: random.Random, _: int) -> Schema:
    return {
        "type": rng.choice(("boolean", "null", "integer", "string", "number", "array", "object"))
    }


def _array(rng: random.Random, depth: int) -> Schema:
    schema: Schema = {"type": "array", "items": draw_schema(rng, max(depth, 0))}
    if rng.random() < 0.6:
        low = rng.randint(0, 2)
        schema |= {"minItems": low, "maxItems": low + rng.randint(0, 3)}
    return schema


def _tuple(rng: random.Random, depth: int) -> Schema:
    items = [draw_schema(rng, max(depth, 0)) for _ in range(rng.randint(1, 3))]
    return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}


def _object(rng: random.Random, depth: int) -> Schema:
    names = rng.sample(_WORDS, rng.randint(1, 4))
    schema: Schema = {
        "type": "object",
        "properties": {name: draw_schema(rng, max(depth, 0)) for name in names},
        "required": [name for name in names if rng.random() < 0.6],
    }
    extra = rng.choice((None, False, False, True, {"type": "integer"}))
    if extra is not None:
        schema["additionalProperties"] = extra
    return schema


def _any_of(rng: random.Random, depth: int) -> Schema:
    return {"anyOf": [draw_schema(rng, max(depth, 0)) for _ in range(rng.randint(2, 3))]}


def _either_type(rng: random.Random, _: int) -> Schema:
    kinds = ("string", "integer", "boolean", "null", "array")
    return {"type": rng.sample(kinds, 2)}


def _all_of(rng: random.Random, depth: int) -> Schema:
    first, second = _object(rng, depth), _object(rng, depth)
    # Two schemas of the same property may contradict each other.
    for schema in (first, second):
        schema.pop("additionalProperties", None)
    for name in set(first["properties"]) & set(second["properties"]):
        del second["properties"][name]
        second["required"] = [each for each in second["required"] if each != name]
    return {"allOf": [first, second]}


def _with_definitions(rng: random.Random, depth: int) -> Schema:
    """Draw a schema with a recursive tree and a shared part, both by reference."""
    node = {
        "type": "object",
        "properties": {
            "value": draw_schema(rng, 0),
            "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
        },
        "required": ["value"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/node"}, "shared": {"$ref": "#/$defs/shared"}},
        "required": ["tree"],
        "additionalProperties": False,
        "$defs": {"node": node, "shared": draw_schema(rng, max(depth - 1, 0))},
    }
