"""Schemas of the arguments of tools, as agents, servers and generators of code write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """A schema, an object that is valid, and one that is not.

    ``enforced`` says whether the grammar refuses the invalid object; otherwise it is found when the
    call is complete. A schema that no object satisfies has no ``good`` one.
    """

    schema: Schema
    good: Schema | None
    bad: Schema | None = None
    enforced: bool = True


def one(schema: Any, good: Any, *bad: Any, enforced: bool = True, **beside: Any) -> Shape:
    """An object with one required property, ``v``."""
    whole = {"type": "object", "properties": {"v": schema}, "required": ["v"], **beside}
    wrong = {"v": bad[0]} if bad else None
    return Shape(whole, {"v": good}, wrong, enforced)


_A = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
_B = {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}
_TREE = {
    "type": "object",
    "properties": {
        "value": {"type": "integer"},
        "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
    },
    "required": ["value"],
}
_LEAVES = {"value": 1, "children": [{"value": 2, "children": []}]}
_STRINGS = {"type": "array", "items": {"type": "string"}}

SHAPES: dict[str, Shape] = {
    # arrays
    "unique items": one({**_STRINGS, "uniqueItems": True}, ["a", "b"], ["a", "a"], enforced=False),
    "items that may repeat": one({**_STRINGS, "uniqueItems": False}, ["a", "a"], [1]),
    "contains": one(
        {"type": "array", "contains": {"type": "null"}}, [1, None], [1], enforced=False
    ),
    "contains twice": one(
        {"type": "array", "contains": {"const": 1}, "minContains": 2}, [1, 1], [1], enforced=False
    ),
    "tuple": one(
        {"type": "array", "prefixItems": [{"type": "string"}], "items": False}, ["a"], [1]
    ),
    "tuple of draft 7": one(
        {"type": "array", "items": [{"type": "string"}], "additionalItems": False}, ["a"], ["a", 1]
    ),
    "unevaluated items": one(
        {"type": "array", "prefixItems": [{"type": "string"}], "unevaluatedItems": False},
        ["a"],
        ["a", 1],
    ),
    "bounded array": one({**_STRINGS, "minItems": 1, "maxItems": 2}, ["a"], []),
    # objects
    "names of properties": one(
        {"type": "object", "propertyNames": {"pattern": "^a"}}, {"ab": 1}, {"b": 1}, enforced=False
    ),
    "names from an enum": one(
        {
            "type": "object",
            "propertyNames": {"enum": ["red", "green"]},
            "additionalProperties": {"type": "integer"},
        },
        {"green": 1},
        {"blue": 1},
    ),
    "names from a definition": one(
        {"type": "object", "propertyNames": {"$ref": "#/$defs/Color"}},
        {"red": 1},
        {"blue": 1},
        **{"$defs": {"Color": {"enum": ["red"], "type": "string", "title": "Color"}}},
    ),
    "one name": one({"type": "object", "propertyNames": {"const": "a"}}, {"a": 1}, {"b": 1}),
    "at least one property": one({"type": "object", "minProperties": 1}, {"a": 1}, {}),
    "two of three properties": Shape(
        {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "minProperties": 2},
        {"a": 1, "b": 1},
        {"a": 1},
        False,
    ),
    "at most one property": Shape(
        {"type": "object", "properties": {"a": {}, "b": {}}, "maxProperties": 1},
        {"b": 1},
        {"a": 1, "b": 1},
    ),
    "required beside others": Shape(
        {**_A, "dependentRequired": {"a": ["b"]}, "properties": {"a": {}, "b": {}}},
        {"a": 1, "b": 1},
        {"a": 1},
        False,
    ),
    "schemas beside others": Shape(
        {**_A, "dependentSchemas": {"a": _B}}, {"a": "x", "b": 1}, {"a": "x"}, False
    ),
    "dependencies of draft 7": Shape(
        {
            **_A,
            "$schema": "http://json-schema.org/draft-07/schema#",
            "dependencies": {"a": _B},
        },
        {"a": "x", "b": 1},
        {"a": "x"},
        False,
    ),
    "unevaluated properties": Shape(
        {**_A, "unevaluatedProperties": False}, {"a": "x"}, {"a": "x", "c": 1}
    ),
    "unevaluated properties of parts": Shape(
        {"type": "object", "allOf": [_A, _B], "unevaluatedProperties": False},
        {"a": "x", "b": 1},
        {"a": "x", "b": 1, "c": 1},
    ),
    "patterns of names": one(
        {"type": "object", "patternProperties": {"^x-": {"type": "integer"}}},
        {"x-a": 1},
        {"x-a": ""},
    ),
    "two patterns of names": one(
        {
            "type": "object",
            "patternProperties": {"^x-": {"type": "integer"}, "-y$": {"minimum": 1}},
        },
        {"x-y": 1},
        {"x-y": ""},
        enforced=False,
    ),
    "open": one(
        {"type": "object", "additionalProperties": {"type": "integer"}}, {"k": 1}, {"k": ""}
    ),
    "nested and closed": one(_A, {"a": "x"}, None),
    "required without a property": Shape(
        {**_A, "required": ["a", "z"]}, {"a": "x", "z": 1}, {"a": ""}
    ),
    "only required": Shape({"type": "object", "required": ["z"]}, {"z": [1]}, {}),
    "null for properties": Shape({"type": "object", "properties": None, "required": None}, {}),
    "null for keywords": one({"type": "string", "pattern": None, "enum": None}, "a", 1),
    "no arguments": Shape({}, {}, {"a": 1}),
    "only a type": Shape({"type": "object"}, {}, {"a": 1}),
    "types in a list": Shape({**_A, "type": ["object"]}, {"a": "x"}, {}),
    "null or object": Shape({**_A, "type": ["object", "null"]}, {"a": "x"}, {}),
    "an empty class": one({"type": "object", "properties": {}}, {}, {"a": 1}),
    # combinations
    "any of": Shape({"type": "object", "anyOf": [_A, _B]}, {"b": 1}, {"c": 1}),
    "one of": Shape({"type": "object", "oneOf": [_A, _B]}, {"a": "x"}, {"c": 1}),
    "all of": Shape({"type": "object", "allOf": [_A, _B]}, {"a": "x", "b": 1}, {"a": "x"}),
    "any of the required": Shape(
        {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
            "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        {"b": 1},
        {},
    ),
    "common and alternative properties": Shape(
        {
            "type": "object",
            "properties": {"k": {}},
            "oneOf": [{"$ref": "#/$defs/A"}, _B],
            "required": ["k"],
            "$defs": {"A": _A},
        },
        {"k": 1, "b": 1},
        {"k": 1, "c": 1},
    ),
    "one of overlapping": one(
        {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 5}]}, 5.5, 7, enforced=False
    ),
    "exactly one of the factors": one(
        {"oneOf": [{"type": "integer", "multipleOf": 2}, {"type": "integer", "multipleOf": 3}]},
        2,
        6,
        enforced=False,
    ),
    "discriminated": one(
        {
            "oneOf": [
                {**_A, "properties": {"kind": {"const": "a"}, "a": {}}, "required": ["kind", "a"]},
                {**_B, "properties": {"kind": {"const": "b"}, "b": {}}, "required": ["kind", "b"]},
            ]
        },
        {"kind": "b", "b": 1},
        {"kind": "b", "a": 1},
    ),
    "not a type": one({"not": {"type": "string"}}, 1, "a", enforced=False),
    "not a value": one({"type": "string", "not": {"enum": ["a"]}}, "b", "a", enforced=False),
    "if, then": Shape(
        {
            "type": "object",
            "properties": {"kind": {"enum": ["a", "b"]}},
            "required": ["kind"],
            "if": {"properties": {"kind": {"const": "a"}}},
            "then": {"properties": {"size": {"type": "integer"}}, "required": ["size"]},
        },
        {"kind": "a", "size": 1},
        {"kind": "a"},
        False,
    ),
    "if, then, else": one(
        {"if": {"type": "integer"}, "then": {"minimum": 1}, "else": {"type": "string"}},
        "a",
        0,
        enforced=False,
    ),
    "if alone": one({"type": "string", "if": {"minLength": 1}}, "", 1),
    # references
    "reference at the top": Shape({"$ref": "#/$defs/A", "$defs": {"A": _A}}, {"a": "x"}, {}),
    "recursive": Shape(
        {"$ref": "#/$defs/Tree", "$defs": {"Tree": _TREE}},
        _LEAVES,
        {"value": 1, "children": [True]},
    ),
    "reference to the whole": Shape(
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
        {"next": {"next": {}}},
        {"next": 1},
    ),
    "reference to a property": Shape(
        {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"$ref": "#/properties/a"}},
        },
        {"a": "x", "b": "y"},
        {"b": 1},
    ),
    "anchor": one(
        {"$ref": "#part"}, "a", 1, **{"$defs": {"P": {"$anchor": "part", "type": "string"}}}
    ),
    "dynamic reference": one(
        {"$dynamicRef": "#part"},
        "a",
        1,
        **{"$defs": {"P": {"$dynamicAnchor": "part", "type": "string"}}},
    ),
    "reference by an id": one(
        {"$ref": "part.json"},
        "a",
        1,
        **{
            "$id": "https://example.com/whole.json",
            "$defs": {"P": {"$id": "part.json", "type": "string"}},
        },
    ),
    "reference to another address": one({"$ref": "https://example.com/other.json"}, "a"),
    "reference with other keywords": one(
        {"$ref": "#/$defs/P", "maxLength": 1}, "a", "ab", **{"$defs": {"P": {"type": "string"}}}
    ),
    # strings
    "path": one({"type": "string", "format": "path"}, "/tmp", 1),
    "binary": one({"type": "string", "format": "binary"}, "x", 1),
    "any format": one({"type": "string", "format": "color"}, "red", 1),
    "date": one({"type": "string", "format": "date"}, "2024-02-29", "2023-02-29"),
    "look-ahead": one({"type": "string", "pattern": "^(?=a)\\w+$"}, "ab", "b", enforced=False),
    "back reference": one({"type": "string", "pattern": "^(a|b)\\1$"}, "aa", "ab", enforced=False),
    "word boundaries": one(
        {"type": "string", "pattern": "\\bfoo\\b"}, "a foo", "food", enforced=False
    ),
    "pattern of another language": one({"type": "string", "pattern": "^\\p{L}+$"}, "é", "1"),
    # numbers
    "large bounds": one({"type": "integer", "minimum": 2**64}, 2**64, 2**63, enforced=False),
    "the largest 64-bit number": one(
        {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}, 2**64 - 1, 2**64, enforced=False
    ),
    "a large constant": one({"const": 2**64}, 2**64, 2**64 + 1, enforced=False),
    "the smallest 64-bit number": one({"const": -(2**63)}, -(2**63), 1, enforced=False),
    "large values": one({"enum": [2**64, "none"]}, "none", 2**65, enforced=False),
    "exclusive bounds of draft 4": one(
        {"type": "number", "minimum": 0, "exclusiveMinimum": True}, 1, 0
    ),
    # what no object satisfies, and what is no schema
    "an unknown type": Shape({"type": "object", "properties": {"a": {"type": "int"}}}, None),
    "a reference to nothing": Shape({"type": "object", "$ref": "#/$defs/Nothing"}, None),
    "contradictory bounds": Shape(
        one({"type": "integer", "minimum": 3, "maximum": 2}, 0).schema, None
    ),
    "required and forbidden": Shape({**_A, "properties": {"a": False}}, None),
    "endless": Shape(
        {"type": "object", "properties": {"v": {"$ref": "#"}}, "required": ["v"]}, None
    ),
}
