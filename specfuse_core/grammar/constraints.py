"""Constraints on an answer: a JSON schema, a pattern, a choice, a grammar, or tool calls.

A constraint is translated to a grammar in llguidance's dialect of Lark; ``answers`` makes it a part
of the grammar of the whole answer, which ``answer.follower`` and the backends enforce.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specfuse_core.errors import InvalidConstraintError
from specfuse_core.values import check_json, check_text, shown

__all__ = [
    "Choice",
    "Constraint",
    "Grammar",
    "JsonObject",
    "JsonSchema",
    "Regex",
    "json_rule",
    "quoted",
    "rules_of",
]

# JSON in the format of json.dumps. There is only one way to write a value, so that models need not
# agree on one, and white space cannot go on forever.
_STYLE = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    # Without \u, a key that the schema does not name cannot be another spelling of one it names.
    "json_allowed_escapes": 'nrbtf\\"',
}


#: Distance between an exclusive bound and the inclusive one that replaces it.
_HAIR = 1e-6


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that is valid under a JSON schema.

    Characters are not escaped. Control characters that have no short escape cannot occur.

    Args:
        schema: the JSON schema (the subset of draft 2020-12 that llguidance supports).

    Raises:
        InvalidConstraintError: if the schema is neither a mapping nor a bool.
    """

    schema: Mapping[str, Any] | bool

    def __post_init__(self) -> None:
        if not isinstance(self.schema, Mapping | bool):
            raise InvalidConstraintError(
                f"JsonSchema: the schema must be a mapping, got {type(self.schema).__name__}."
            )
        if not isinstance(self.schema, bool):
            check_json(dict(self.schema), "the schema", InvalidConstraintError)

    def _rules(self) -> str:
        return f"start: {_json(self.schema)}\n"


@dataclass(frozen=True, slots=True)
class JsonObject:
    """Any JSON object."""

    def _rules(self) -> str:
        return f"start: {_json({'type': 'object'})}\n"


@dataclass(frozen=True, slots=True)
class Regex:
    """Text that a regular expression matches as a whole.

    Args:
        pattern: the expression, in the syntax of Rust's regex crate (without look-around).

    Raises:
        InvalidConstraintError: if the pattern is not a string.
    """

    pattern: str

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str):
            raise InvalidConstraintError(
                f"Regex: the pattern must be a string, got {shown(self.pattern)}."
            )
        check_text(self.pattern, "the pattern", InvalidConstraintError)

    def _rules(self) -> str:
        return f"start: PATTERN\nPATTERN: /{_escaped(self.pattern)}/\n"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several texts.

    Args:
        options: the texts.

    Raises:
        InvalidConstraintError: if there is no option, or an option is empty or not a string.
    """

    options: tuple[str, ...]

    def __init__(self, options: Sequence[str]) -> None:
        several = isinstance(options, Iterable) and not isinstance(options, str | Mapping | type)
        texts = tuple(options) if several else ()
        if not several or not all(isinstance(option, str) for option in texts):
            raise InvalidConstraintError(
                f"Choice: the options must be a list of strings, got {shown(options)}."
            )
        if not texts or not all(texts):
            raise InvalidConstraintError(
                f"Choice: give at least one option and no empty one, got {shown(options)}."
            )
        check_text("".join(texts), "an option of Choice", InvalidConstraintError)
        object.__setattr__(self, "options", texts)

    def _rules(self) -> str:
        # One terminal: llguidance limits the number of alternatives of a rule.
        return f"start: CHOICE\nCHOICE: {' | '.join(map(quoted, self.options))}\n"


@dataclass(frozen=True, slots=True)
class Grammar:
    """Text that a context-free grammar generates.

    Args:
        lark: the grammar in llguidance's dialect of Lark, with a rule ``start``.

    Raises:
        InvalidConstraintError: if the grammar is not a string.
    """

    lark: str

    def __post_init__(self) -> None:
        if not isinstance(self.lark, str):
            raise InvalidConstraintError(
                f"Grammar: the grammar must be a string, got {shown(self.lark)}."
            )
        check_text(self.lark, "the grammar", InvalidConstraintError)

    def _rules(self) -> str:
        return self.lark


Constraint = JsonSchema | JsonObject | Regex | Choice | Grammar


def rules_of(constraint: Constraint) -> str:
    """Return the grammar of an answer that follows ``constraint``, in llguidance's Lark.

    Raises:
        InvalidConstraintError: if a schema is not JSON.
    """
    return constraint._rules()


def json_rule(schema: Mapping[str, Any] | bool) -> str:
    """Return the right side of a rule for JSON that is valid under ``schema``.

    Raises:
        InvalidConstraintError: if the schema is not JSON.
    """
    return _json(schema)


def quoted(text: str) -> str:
    """Return ``text`` as a string of llguidance's Lark."""
    return json.dumps(text, ensure_ascii=False)


def _json(schema: Mapping[str, Any] | bool) -> str:
    if isinstance(schema, bool):
        schema = {} if schema else {"enum": []}
    try:
        return f"%json {json.dumps({**_exact(schema), 'x-guidance': _STYLE}, ensure_ascii=False)}"
    except (TypeError, ValueError) as error:
        raise InvalidConstraintError(
            f"the schema cannot be written as JSON ({error}); use only JSON values."
        ) from error


def _exact(schema: Any) -> Any:
    """Replace bounds in ``schema`` that llguidance does not follow exactly.

    llguidance 1.9.1 treats an exclusive whole-number bound as inclusive if the other bound is a
    fraction less than 1 away.
    """
    if isinstance(schema, list | tuple):
        return [_exact(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    exact = {
        key: value if key in ("const", "enum", "default", "examples") else _exact(value)
        for key, value in schema.items()
    }
    _check_least(exact)
    low, high = exact.get("exclusiveMinimum"), exact.get("exclusiveMaximum")
    below, above = exact.get("minimum", low), exact.get("maximum", high)
    if _within_one(low, above):
        exact["minimum"] = max(exact.pop("exclusiveMinimum") + _HAIR, below)
    if _within_one(below, high):
        exact["maximum"] = min(exact.pop("exclusiveMaximum") - _HAIR, above)
    return exact


def _check_least(schema: Mapping[str, Any]) -> None:
    """Check ``minProperties``: keys that the schema does not name may occur twice.

    Raises:
        InvalidConstraintError: if the required keys alone do not reach it.
    """
    least, required = schema.get("minProperties", 0), schema.get("required", ())
    known = isinstance(least, int) and isinstance(required, list | tuple)
    if known and least > len(set(required)):
        raise InvalidConstraintError(
            f"minProperties={least} is larger than the number of required keys, which is not "
            "supported; list the keys in 'required'."
        )


def _within_one(low: Any, high: Any) -> bool:
    numbers = isinstance(low, int | float) and isinstance(high, int | float)
    return numbers and 0 < high - low < 1


def _escaped(pattern: str) -> str:
    """Escape a pattern so that it can stand between slashes on one line."""
    escaped, backslash = "", False
    for character in pattern:
        if character == "/" and not backslash:
            escaped += "\\/"
        elif character == "\n":
            escaped += "n" if backslash else "\\n"
        else:
            escaped += character
        backslash = character == "\\" and not backslash
    return escaped
