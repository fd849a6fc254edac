"""Whether a schema has a value that ends, although it contains itself.

It reads schemas that ``relaxing`` has translated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["is_finite"]

_REFERENCE = "#/$defs/"


def is_finite(schema: Mapping[str, Any]) -> bool:
    """Whether a value of ``schema`` exists that needs no endless nesting."""
    definitions = schema.get("$defs", {})
    known: set[str] = set()
    while True:
        more = {name for name, each in definitions.items() if _ends(each, known)}
        if more == known:
            return _ends(schema, known)
        known = more


def _ends(schema: Any, known: set[str]) -> bool:
    """Whether a schema has such a value if the definitions in ``known`` have one."""
    if not isinstance(schema, Mapping):
        return schema is not False
    reference = schema.get("$ref")
    if reference is not None and reference.removeprefix(_REFERENCE) not in known:
        return False
    if not all(_ends(each, known) for each in schema.get("allOf", ())):
        return False
    for key in ("anyOf", "oneOf"):
        if key in schema and not any(_ends(each, known) for each in schema[key]):
            return False
    kind = schema.get("type")
    if kind == "object":
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        needed = [properties.get(name, others) for name in schema.get("required", ())]
        return all(_ends(each, known) for each in needed)
    if kind == "array":
        first, others = schema.get("prefixItems", []), schema.get("items", True)
        least = schema.get("minItems", 0)
        needed = [*first[:least], *([others] if least > len(first) else [])]
        return all(_ends(each, known) for each in needed)
    return True
