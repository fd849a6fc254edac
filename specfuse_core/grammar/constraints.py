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
from specfuse_core.grammar.relaxing import Relaxed, relaxed
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


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that is valid under a JSON schema.

    Keywords that the grammar cannot enforce, such as ``uniqueItems``, are checked in the finished
    answer (see ``Generation.invalid``). Characters are not escaped. Control characters that have no
    short escape cannot occur.

    Args:
        schema: the JSON schema, in any version. References must lead to places within it.
        closed: whether objects may only have the properties that the schema names, where it does
            not allow or forbid others itself. Models write endless properties if they may.

    Raises:
        InvalidConstraintError: if the schema is neither a mapping nor a bool.
    """

    schema: Mapping[str, Any] | bool
    closed: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.schema, Mapping | bool):
            raise InvalidConstraintError(
                f"JsonSchema: the schema must be a mapping, got {type(self.schema).__name__}."
            )
        if not isinstance(self.schema, bool):
            check_json(dict(self.schema), "the schema", InvalidConstraintError)

    @property
    def relaxed(self) -> Relaxed:
        """The schema that the grammar enforces, and what it does not enforce.

        Raises:
            InvalidConstraintError: if it is not a JSON schema, or no value satisfies it.
        """
        return relaxed(self.schema, closed=self.closed)

    def _rules(self) -> str:
        return f"start: {_json(self.relaxed.schema)}\n"


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


def json_rule(schema: Mapping[str, Any]) -> str:
    """Return the right side of a rule for JSON that is valid under a relaxed ``schema``."""
    return _json(schema)


def quoted(text: str) -> str:
    """Return ``text`` as a string of llguidance's Lark."""
    return json.dumps(text, ensure_ascii=False)


def _json(schema: Mapping[str, Any]) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': _STYLE}, ensure_ascii=False)}"


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
