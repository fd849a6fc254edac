"""The numbers in a schema that llguidance enforces exactly.

llguidance reads numbers as 64-bit floats, which represent whole numbers up to 2**53.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["enforced_bounds", "is_exact", "kinds_of"]

_LARGEST = 2**53
#: Distance between an exclusive bound and the inclusive one that replaces it.
_HAIR = 1e-6
_LOW, _HIGH = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")


def is_exact(value: Any) -> bool:
    """Whether all numbers in a value are small enough."""
    if isinstance(value, Mapping):
        return all(map(is_exact, value.values()))
    if isinstance(value, list):
        return all(map(is_exact, value))
    return not isinstance(value, int | float) or abs(value) <= _LARGEST


def kinds_of(values: Iterable[Any]) -> list[str]:
    """Return the types of the values."""
    return list(dict.fromkeys(map(_kind, values)))


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, float) and value.is_integer():
        return "integer"
    kinds = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "number")


def enforced_bounds(schema: dict[str, Any]) -> list[str]:
    """Replace the bounds of numbers in ``schema`` by ones that llguidance enforces exactly.

    Returns:
        The keywords that are weaker now.
    """
    _plain_exclusive(schema)
    weaker = []
    for key in (*_LOW, *_HIGH, "multipleOf"):
        bound = schema.get(key)
        if bound is None or abs(bound) <= _LARGEST:
            continue
        weaker.append(key)
        del schema[key]
        if (key in _LOW and bound > 0) or (key in _HIGH and bound < 0):
            nearest = _LOW[0] if key in _LOW else _HIGH[0]
            schema[nearest] = _LARGEST if bound > 0 else -_LARGEST
    _apart(schema)
    return weaker


def _plain_exclusive(schema: dict[str, Any]) -> None:
    """Replace the exclusive bounds of draft 4, which are bools."""
    for bound, exclusive in (_LOW, _HIGH):
        if isinstance(schema.get(exclusive), bool):
            excludes = schema.pop(exclusive)
            if excludes and bound in schema:
                schema[exclusive] = schema.pop(bound)


def _apart(schema: dict[str, Any]) -> None:
    """Replace exclusive bounds that are close to the other bound.

    llguidance 1.9.1 treats an exclusive whole-number bound as inclusive if the other bound is a
    fraction less than 1 away.
    """
    low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    below, above = schema.get("minimum", low), schema.get("maximum", high)
    if _within_one(low, above):
        schema["minimum"] = max(schema.pop("exclusiveMinimum") + _HAIR, below)
    if _within_one(below, high):
        schema["maximum"] = min(schema.pop("exclusiveMaximum") - _HAIR, above)


def _within_one(low: Any, high: Any) -> bool:
    return low is not None and high is not None and 0 < high - low < 1
