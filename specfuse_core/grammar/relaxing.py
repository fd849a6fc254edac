"""Translates a JSON schema to one that llguidance enforces.

Keywords that llguidance does not support are dropped or replaced, so that the translation allows
every value that is valid, and perhaps more. ``validating`` checks the finished value. Annotations
and unknown formats are left out. All references lead to ``$defs``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from jsonschema import Draft4Validator, Draft6Validator, Draft7Validator
from jsonschema_specifications import REGISTRY as SPECIFICATIONS
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

from specfuse_core.errors import InvalidConstraintError
from specfuse_core.grammar.dates import enforce_dates
from specfuse_core.grammar.finite import is_finite
from specfuse_core.grammar.mending import mend
from specfuse_core.grammar.numbers import enforced_bounds, is_exact, kinds_of
from specfuse_core.grammar.validating import dialect_of, pointer, text_of

__all__ = ["Relaxed", "Unenforced", "relaxed"]

#: Formats that llguidance enforces. Any other format is an annotation.
_FORMATS = {
    *("date", "date-time", "duration", "email", "hostname"),
    *("ipv4", "ipv6", "time", "unknown", "uri", "uuid"),
}
#: Keywords of one value, which llguidance enforces.
_PLAIN = (
    *("type", "enum", "const", "minLength", "maxLength", "pattern", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minItems", "maxItems", "required", "minProperties", "maxProperties"),
)
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
#: A larger count is not enforced.
_LARGEST_COUNT = 2**31
#: Keywords that are only validated.
_VALIDATED = (
    *("$dynamicRef", "$recursiveRef", "contains", "dependencies", "dependentRequired"),
    *("dependentSchemas", "if", "not", "propertyNames", "unevaluatedItems"),
    *("unevaluatedProperties", "uniqueItems"),
)
#: Values with which such a keyword demands nothing.
_VOID: Mapping[str, tuple[Any, ...]] = {
    "dependencies": ({},),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "not": (False,),
    "propertyNames": (True, {}, {"type": "string"}),
    "unevaluatedItems": (True, {}),
    "unevaluatedProperties": (True, {}),
    "uniqueItems": (False,),
}
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_COMBINED = ("anyOf", "oneOf", "allOf")
#: Keywords that name properties of an object.
_NAMING = {"properties", "patternProperties", "additionalProperties", "propertyNames", "if"}
#: Keywords of ``propertyNames`` beside which its ``enum`` or ``const`` is exact.
_EXACT_NAMES = {"enum", "const", "type", "title", "description", "default", "deprecated"}

#: Which further properties an object may have: those that the schema allows, only those that it
#: names, or those that the schema allows of which it is a part.
_Mode = Literal["open", "closed", "part"]


@dataclass(frozen=True, slots=True)
class Unenforced:
    """A keyword that is only validated.

    Args:
        place: JSON pointer to the schema that has the keyword; empty for the whole schema.
        keyword: the keyword.
    """

    place: str
    keyword: str

    def __str__(self) -> str:
        return f"{self.keyword!r} at {self.place!r}" if self.place else repr(self.keyword)


@dataclass(frozen=True, slots=True)
class Relaxed:
    """A schema that llguidance enforces.

    Args:
        schema: the schema.
        unenforced: what it does not enforce of the original schema.
    """

    schema: dict[str, Any]
    unenforced: tuple[Unenforced, ...]


def relaxed(schema: Mapping[str, Any] | bool, *, closed: bool = False) -> Relaxed:
    """Translate a schema.

    Args:
        schema: the schema, in any version of JSON schema.
        closed: whether an object may only have the properties that the schema names, where the
            schema does not allow or forbid others.

    Raises:
        InvalidConstraintError: if it is not a JSON schema, or no value satisfies it.
    """
    return _relaxed(text_of(schema), closed)


@lru_cache(256)
def _relaxed(text: str, closed: bool) -> Relaxed:
    translation = _Translation(text)
    found = translation.translated("closed" if closed else "open")
    fault = mend(found, translation.drop)
    if fault:
        raise InvalidConstraintError(
            f"no value satisfies the schema ({fault}); make it less strict."
        )
    if not is_finite(found):
        raise InvalidConstraintError(
            "no value satisfies the schema, because it demands itself without an end; make a "
            "property on the way optional."
        )
    return Relaxed(found, tuple(translation.unenforced))


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a schema stands: its JSON pointer, how references resolve there, and its mode."""

    place: str
    resolver: Any
    mode: _Mode

    def inner(self, *keys: str | int, mode: _Mode | None = None) -> _Spot:
        return replace(self, place=self.place + pointer(keys), mode=mode or self.mode)


class _Translation:
    """The translation of one schema."""

    def __init__(self, text: str) -> None:
        self._document = json.loads(text)
        dialect = dialect_of(text)
        self._old = dialect in (Draft4Validator, Draft6Validator, Draft7Validator)
        named = dialect.META_SCHEMA.get("$schema", "")
        self._specification: Any = specification_with(str(named), default=DRAFT202012)
        self._defs: dict[str, Any] = {}
        # The name in _defs by the referenced object and the mode, and those not translated yet.
        self._names: dict[tuple[int, _Mode], str] = {}
        self._pending: list[tuple[str, Any, _Spot]] = []
        self._places: dict[int, str] = {}
        self.unenforced: dict[Unenforced, None] = {}

    def translated(self, mode: _Mode) -> dict[str, Any]:
        root = self._specification.create_resource(self._document)
        resolver = SPECIFICATIONS.resolver_with_root(root)
        found = self._schema(self._document, _Spot("", resolver, mode))
        while self._pending:
            name, contents, spot = self._pending.pop()
            self._defs[name] = self._schema(contents, spot)
        if isinstance(found, bool):
            found = {} if found else {"enum": []}
        return {**found, "$defs": self._defs} if self._defs else found

    def drop(self, schema: dict[str, Any], keyword: str) -> None:
        """Record that a keyword of a translated schema is dropped."""
        self._note(self._places.get(id(schema), ""), keyword)

    def _note(self, place: str, keyword: str) -> None:
        self.unenforced[Unenforced(place, keyword)] = None

    def _schema(self, schema: Any, spot: _Spot) -> Any:
        if not isinstance(schema, dict):
            return schema
        if "$id" in schema and spot.place:
            resource = self._specification.create_resource(schema)
            spot = replace(spot, resolver=spot.resolver.in_subresource(resource))
        if self._old and "$ref" in schema:
            # Until draft 7, other keywords beside a reference do not count.
            schema = {"$ref": schema["$ref"]}
        found = {key: schema[key] for key in _PLAIN if key in schema}
        self._places[id(found)] = spot.place
        self._values(found, spot)
        self._array(schema, found, spot)
        parts = [key for key in (*_REFERENCES, *_COMBINED) if key in schema]
        alone = len(parts) == 1 and not _NAMING & set(schema)
        if len(parts) == 1 and parts[0] == "allOf":
            alone = alone and len(schema["allOf"]) == 1
        inner = spot.mode if spot.mode == "open" or alone else "part"
        self._object(schema, found, spot, combined=bool(parts) and not alone)
        for key in parts:
            if key in _REFERENCES:
                self._reference(key, schema[key], found, replace(spot, mode=inner))
            else:
                found[key] = found.get(key, []) + [
                    self._schema(each, spot.inner(key, index, mode=inner))
                    for index, each in enumerate(schema[key])
                ]
        self._validated(schema, found, spot)
        return found

    def _values(self, found: dict[str, Any], spot: _Spot) -> None:
        """Translate the keywords of one value."""
        if isinstance(found.get("type"), list) and len(found["type"]) == 1:
            found["type"] = found["type"][0]
        if found.get("format", "unknown") not in _FORMATS:
            del found["format"]
        enforce_dates(found)
        for key in ("enum", "const"):
            values = [found[key]] if key == "const" and key in found else found.get(key, [])
            if not is_exact(values):
                self._note(spot.place, key)
                del found[key]
                found.setdefault("type", kinds_of(values))
        for key in _COUNTS:
            if found.get(key, 0) > _LARGEST_COUNT:
                self._note(spot.place, key)
                del found[key]
        for key in enforced_bounds(found):
            self._note(spot.place, key)

    def _array(self, schema: Mapping[str, Any], found: dict[str, Any], spot: _Spot) -> None:
        items, rest = schema.get("items"), schema.get("additionalItems")
        first, key = schema.get("prefixItems"), "prefixItems"
        if isinstance(items, list):  # before 2020-12
            first, key, items = items, "items", rest
        if first is not None:
            found["prefixItems"] = [
                self._schema(each, self._nested(spot, key, index))
                for index, each in enumerate(first)
            ]
        if items is None and schema.get("unevaluatedItems") is False:
            combined = any(key in schema for key in (*_REFERENCES, *_COMBINED))
            items = None if combined else False
        if items is not None:
            found["items"] = self._schema(items, self._nested(spot, "items"))

    def _object(
        self, schema: Mapping[str, Any], found: dict[str, Any], spot: _Spot, *, combined: bool
    ) -> None:
        named: dict[str, Any] = {
            name: self._schema(each, self._nested(spot, "properties", name))
            for name, each in schema.get("properties", {}).items()
        }
        patterned = {
            pattern: self._schema(each, self._nested(spot, "patternProperties", pattern))
            for pattern, each in schema.get("patternProperties", {}).items()
        }
        other = schema.get("additionalProperties")
        if other is not None:
            other = self._schema(other, self._nested(spot, "additionalProperties"))
        elif spot.mode == "closed" or schema.get("unevaluatedProperties") is False:
            named, other = self._shut(schema, named, patterned, spot, combined=combined)
        names = self._property_names(schema, spot)
        if names is not None and not patterned:
            further = True if other is None else other
            named, other = {name: named.get(name, further) for name in names}, False
        if named or ("properties" in schema and other is not None):
            found["properties"] = named
        if patterned:
            found["patternProperties"] = patterned
        if other is not None:
            found["additionalProperties"] = other
        required = set(found.get("required", ()))
        if found.get("minProperties", 0) <= len(required):
            found.pop("minProperties", None)
        elif other is not False or patterned:
            # Properties that the schema does not name may be written twice.
            self._note(spot.place, "minProperties")
        if other is False and not patterned and found.get("maxProperties", 0) >= len(named):
            found.pop("maxProperties", None)

    def _shut(
        self,
        schema: Mapping[str, Any],
        named: dict[str, Any],
        patterned: Mapping[str, Any],
        spot: _Spot,
        *,
        combined: bool,
    ) -> tuple[dict[str, Any], bool | None]:
        """Return the properties that an object may have, and False if it may have no others."""
        names = self._names_in(schema, spot.resolver, set())
        if names is None or patterned or not (names or "properties" in schema):
            return named, None
        if not (combined or "properties" in schema):
            return named, None
        return {name: named.get(name, True) for name in (*named, *names)}, False

    def _names_in(self, schema: Any, resolver: Any, seen: set[int]) -> list[str] | None:
        """Return the names of all properties that a schema defines; None if they are unknown."""
        if not isinstance(schema, Mapping) or id(schema) in seen:
            return []
        seen.add(id(schema))
        if "patternProperties" in schema or schema.get("additionalProperties") not in (None, False):
            return None
        names = [*schema.get("properties", {}), *schema.get("required", ())]
        parts = [(each, resolver) for key in _COMBINED for each in schema.get(key, ())]
        parts += [(schema[key], resolver) for key in ("if", "then", "else") if key in schema]
        for key in ("dependentSchemas", "dependencies"):
            parts += [(each, resolver) for each in schema.get(key, {}).values()]
        try:
            for key in _REFERENCES:
                if key in schema:
                    target = resolver.lookup(schema[key])
                    parts.append((target.contents, target.resolver))
        except Unresolvable:
            return None
        for part, at in parts:
            inner = self._names_in(part, at, seen)
            if inner is None:
                return None
            names += inner
        return names

    def _property_names(self, schema: Mapping[str, Any], spot: _Spot) -> list[str] | None:
        """Return the only names that the properties of an object may have; None if any."""
        names, resolver = schema.get("propertyNames"), spot.resolver
        while isinstance(names, Mapping) and isinstance(names.get("$ref"), str):
            try:
                target = resolver.lookup(names["$ref"])
            except Unresolvable:
                return None
            names, resolver = target.contents, target.resolver
        if not isinstance(names, Mapping):
            return None
        values = names.get("enum", [names["const"]] if "const" in names else None)
        if values is None or set(names) - _EXACT_NAMES:
            return None
        return [each for each in dict.fromkeys(map(str, values)) if each in values]

    def _reference(self, key: str, reference: str, found: dict[str, Any], spot: _Spot) -> None:
        try:
            target = spot.resolver.lookup(reference)
        except Unresolvable:
            if reference.startswith("#"):
                raise InvalidConstraintError(
                    f"the schema has the reference {reference!r} at {spot.place!r}, but nothing "
                    "is there; add it or correct the reference."
                ) from None
            self._note(spot.place, key)
            return
        if not isinstance(target.contents, Mapping | bool):
            raise InvalidConstraintError(
                f"the schema has the reference {reference!r} at {spot.place!r}, which does not "
                "lead to a schema; correct it."
            )
        if isinstance(target.contents, bool):
            found.update({} if target.contents else {"enum": []})
            return
        known = (id(target.contents), spot.mode)
        if known not in self._names:
            self._names[known] = f"s{len(self._names)}"
            place = reference[1:] if reference.startswith("#/") else f"{spot.place}/{key}"
            at = _Spot(place, target.resolver, spot.mode)
            self._pending.append((self._names[known], target.contents, at))
        goal = {"$ref": f"#/$defs/{self._names[known]}"}
        if "$ref" in found:
            found.setdefault("allOf", []).append(goal)
        else:
            found.update(goal)

    def _validated(self, schema: Mapping[str, Any], found: dict[str, Any], spot: _Spot) -> None:
        """Record the keywords that are only validated."""
        shut = found.get("additionalProperties") is False
        parts = any(key in schema for key in (*_REFERENCES, *_COMBINED, "if"))
        exact = {
            "contains": schema.get("minContains") == 0 and "maxContains" not in schema,
            "if": "then" not in schema and "else" not in schema,
            "propertyNames": shut and self._property_names(schema, spot) is not None,
            "unevaluatedItems": schema.get("unevaluatedItems") is False and "items" in found,
            "unevaluatedProperties": shut and not parts,
            "uniqueItems": found.get("maxItems", 2) < 2,
        }
        for key in _VALIDATED:
            if key in schema and schema[key] not in _VOID.get(key, ()) and not exact.get(key):
                self._note(spot.place, key)

    def _nested(self, spot: _Spot, *keys: str | int) -> _Spot:
        """Where the schema of a property or an item stands."""
        return spot.inner(*keys, mode="open" if spot.mode == "open" else "closed")
