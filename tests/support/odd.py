"""Values of the wrong type or form, for tests of what an entry does with a bad argument."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["ODD", "nested"]


def nested(depth: int, key: str = "items") -> dict[str, Any]:
    """A JSON schema of arrays in arrays."""
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", key: schema}
    return schema


def _deep_list() -> list[Any]:
    found: list[Any] = []
    for _ in range(5_000):
        found = [found]
    return found


class _Hostile:
    """An object that compares and converts to nothing."""

    __slots__ = ()


#: Values by the name that a test shows.
ODD: dict[str, Any] = {
    "None": None,
    "list": [],
    "list of None": [None],
    "list of int": [1],
    "list of lists": [[]],
    "dict": {},
    "dict of type": {"type": ["object"]},
    "dict of bool": {"type": True},
    "dict of int": {1: 2},
    "object": _Hostile(),
    "empty": "",
    "text": "odd",
    "surrogate": "\ud800",
    "list of surrogates": ["\ud800"],
    "dict of surrogates": {"type": "string", "const": "\ud800"},
    "long": "x" * 5_000,
    "negative": -1,
    "zero": 0,
    "zero float": 0.0,
    "five": 5,
    "huge": 10**400,
    "nan": math.nan,
    "inf": math.inf,
    "true": True,
    "false": False,
    "bytes": b"x",
    "deep dict": nested(5_000),
    "deep list": _deep_list(),
    "set": {1},
    "type": int,
    "lambda": len,
}
