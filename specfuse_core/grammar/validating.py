"""Checks JSON schemas, and validates values against them with jsonschema.

Only references within the schema, and to the official meta-schemas, are followed; nothing is
downloaded. This module knows nothing of grammars.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import lru_cache
from typing import Any

from jsonschema import Draft4Validator, Draft7Validator, Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from jsonschema_specifications import REGISTRY as SPECIFICATIONS
from referencing.exceptions import Unresolvable

from specfuse_core.errors import InvalidConstraintError
from specfuse_core.values import check_json, reason, shown

__all__ = ["dialect_of", "pointer", "problem_of", "text_of"]

#: Keywords that contain schemas: by name, as a list, and alone.
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLES = (
    "items",
    "additionalItems",
    "additionalProperties",
    "contains",
    "else",
    "if",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
#: Keywords whose value may be null.
_NULLABLE = ("const", "default", "example")
#: Keywords that a pattern which Python cannot read, or an unknown reference, makes impossible to
#: check.
_FRAGILE = (
    "$dynamicRef",
    "$ref",
    "additionalProperties",
    "pattern",
    "patternProperties",
    "unevaluatedProperties",
)
_NO_FORMATS = FormatChecker(formats=())
_FORMATS = FormatChecker(formats=("ipv4", "ipv6", "uuid"))


def _is_date(value: object) -> bool:
    return not isinstance(value, str) or bool(date.fromisoformat(value[:10]))


for _format in ("date", "date-time"):
    _FORMATS.checks(_format, raises=ValueError)(_is_date)


def text_of(schema: Mapping[str, Any] | bool) -> str:
    """Return the text of a schema, without keywords whose value is null.

    Raises:
        InvalidConstraintError: if it is not JSON.
    """
    plain = schema if isinstance(schema, bool) else dict(schema)
    check_json(plain, "the schema", InvalidConstraintError)
    return json.dumps(_without_nulls(plain), ensure_ascii=False, default=dict)


def _without_nulls(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if value is None and key not in _NULLABLE:
            continue
        if key in _MAPS and isinstance(value, Mapping):
            value = {name: _without_nulls(each) for name, each in value.items()}
        elif isinstance(value, list | tuple) and key in (*_LISTS, "items"):
            value = [_without_nulls(each) for each in value]
        elif key in _SINGLES:
            value = _without_nulls(value)
        kept[key] = value
    return kept


@lru_cache(256)
def dialect_of(text: str) -> type[Validator]:
    """Return the class of jsonschema for the version of JSON schema in which ``text`` is written.

    A schema that does not name its version may also be written in an older one.

    Raises:
        InvalidConstraintError: if it is not a JSON schema.
    """
    schema = json.loads(text)
    named = isinstance(schema, dict) and "$schema" in schema
    newest: type[Validator] = validator_for(schema, default=Draft202012Validator)
    dialects = [newest] if named else [newest, Draft7Validator, Draft4Validator]
    errors = [_schema_error(dialect, schema) for dialect in dialects]
    for dialect, error in zip(dialects, errors, strict=True):
        if error is None:
            return dialect
    assert errors[0] is not None
    place = pointer(errors[0].absolute_path)
    raise InvalidConstraintError(
        f"the schema is not a JSON schema: at {place!r}, {shown(errors[0].instance)} is invalid "
        f"({reason(errors[0].message)}); correct it."
    )


def _schema_error(dialect: type[Validator], schema: Any) -> SchemaError | None:
    try:
        # The patterns of a schema may be written for other languages than Python.
        dialect.check_schema(schema, format_checker=_NO_FORMATS)
    except SchemaError as error:
        return error
    return None


def problem_of(schema: Mapping[str, Any] | bool, value: Any) -> str | None:
    """Return why ``value`` is not valid under ``schema``; None if it is valid.

    Raises:
        InvalidConstraintError: if it is not a JSON schema.
    """
    try:
        found = best_match(_validator(text_of(schema)).iter_errors(value))
    except RecursionError:
        # A reference leads to itself without a value in between.
        return None
    if found is None:
        return None
    place = pointer(found.absolute_path)
    return f"at {place!r}, {reason(found.message)}" if place else reason(found.message)


@lru_cache(256)
def _validator(text: str) -> Validator:
    dialect = dialect_of(text)
    checks = {
        name: _tolerant(check) for name, check in dialect.VALIDATORS.items() if name in _FRAGILE
    }
    tolerant: Any = extend(dialect, checks)
    made: Validator = tolerant(json.loads(text), registry=SPECIFICATIONS, format_checker=_FORMATS)
    return made


_Check = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


def _tolerant(check: _Check) -> _Check:
    def tolerant(
        validator: Any, value: Any, instance: Any, schema: Any
    ) -> Iterator[ValidationError]:
        try:
            yield from check(validator, value, instance, schema) or ()
        except (re.error, Unresolvable):
            return

    return tolerant


def pointer(keys: Any) -> str:
    """Return the JSON pointer of a path of keys."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)
