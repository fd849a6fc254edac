"""What an answer must look like: a schema, a pattern, a choice, a grammar, or calls of tools.

Constraints are compiled to one grammar in llguidance's Lark dialect; ``follower`` and the backends
follow it. This module knows nothing of tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specfuse_core.errors import InvalidConstraintError
from specfuse_core.grammar.calls import CALL_CLOSE, CALL_OPEN
from specfuse_core.grammar.tools import Tool, ToolChoice

__all__ = ["Choice", "Constraint", "Grammar", "JsonObject", "JsonSchema", "Regex", "grammar_of"]

# JSON as json.dumps writes it: one way to write a value, so that models need not agree on one,
# and no white space without end.
_STYLE = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    # Without \u a free key cannot be another spelling of a key that the schema names.
    "json_allowed_escapes": 'nrbtf\\"',
}


#: What stands between a bound that is excluded and one that is not.
_HAIR = 1e-6


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that is valid under a JSON schema (draft 2020-12, as far as llguidance goes).

    Characters are written as they are; control characters that have no short escape cannot be.
    """

    schema: Mapping[str, Any] | bool

    def __post_init__(self) -> None:
        if not isinstance(self.schema, Mapping | bool):
            raise InvalidConstraintError(
                f"JsonSchema: a schema is a mapping, got {type(self.schema).__name__}."
            )

    def _rules(self) -> str:
        return f"start: {_json(self.schema)}\n"


@dataclass(frozen=True, slots=True)
class JsonObject:
    """Any JSON object."""

    def _rules(self) -> str:
        return f"start: {_json({'type': 'object'})}\n"


@dataclass(frozen=True, slots=True)
class Regex:
    """Text that a regular expression (Rust's, without look-around) matches as a whole."""

    pattern: str

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str):
            raise InvalidConstraintError(f"Regex: a pattern is text, got {self.pattern!r}.")

    def _rules(self) -> str:
        return f"start: PATTERN\nPATTERN: /{_escaped(self.pattern)}/\n"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several texts."""

    options: tuple[str, ...]

    def __init__(self, options: Sequence[str]) -> None:
        if isinstance(options, str) or not all(isinstance(option, str) for option in options):
            raise InvalidConstraintError(f"Choice: the options are texts, got {options!r}.")
        if not options or not all(options):
            raise InvalidConstraintError("Choice: give at least one option, and no empty one.")
        object.__setattr__(self, "options", tuple(options))

    def _rules(self) -> str:
        return f"start: {' | '.join(map(_quoted, self.options))}\n"


@dataclass(frozen=True, slots=True)
class Grammar:
    """Text of a context-free grammar in llguidance's dialect of Lark, with a rule ``start``."""

    lark: str

    def __post_init__(self) -> None:
        if not isinstance(self.lark, str):
            raise InvalidConstraintError(f"Grammar: a grammar is text, got {self.lark!r}.")

    def _rules(self) -> str:
        return self.lark


Constraint = JsonSchema | JsonObject | Regex | Choice | Grammar

# Free text up to a call, lazily: the first mark begins the call, whatever stands before it.
_FREE = (
    f"free: FREE\nFREE: /(?s:.*)/ & ~/(?s:.*){CALL_OPEN}(?s:.*)/\n"
    f"opened[lazy]: /(?s:.*){CALL_OPEN}/\n"
)
_AGAIN = f"again[lazy]: /[ \\n]{{0,2}}{CALL_OPEN}/\n"


def grammar_of(
    constraint: Constraint | None,
    tools: Sequence[Tool] = (),
    choice: ToolChoice = "auto",
    *,
    parallel: bool = True,
) -> str | None:
    """The grammar of the whole answer; None if everything is allowed.

    Args:
        constraint: what the answer must look like if it calls nothing.
        tools: what it may call.
        choice: whether it must call, and which tool.
        parallel: whether it may make several calls.

    Raises:
        InvalidConstraintError: for a constraint and a forced call at once.
    """
    if not tools or choice == "none":
        return constraint._rules() if constraint else None
    forced = choice not in ("auto",)
    if forced and constraint is not None:
        raise InvalidConstraintError(
            f"tool_choice={choice!r} and a constraint on the answer exclude each other; "
            "use tool_choice='auto', or leave the constraint out."
        )
    called = [tool for tool in tools if choice in ("auto", "required", tool.name)]
    bodies, rules = [], ""
    for number, tool in enumerate(called):
        opening = f'\n{{"name": {json.dumps(tool.name)}, "arguments": '
        bodies.append(f"{_quoted(opening)} args{number}")
        rules += f"args{number}: {_json(tool.schema)}\n"
    rules += f"body: ({' | '.join(bodies)}) {_quoted('}' + chr(10) + CALL_CLOSE)}\n"
    calls = "body (again body)*" if parallel else "body"
    rules += _AGAIN if parallel else ""
    if constraint is not None:
        if isinstance(constraint, Grammar):
            raise InvalidConstraintError(
                "a Grammar cannot stand beside tools; write the calls into the grammar, or give a "
                "JsonSchema, Regex or Choice."
            )
        answer = constraint._rules().replace("start:", "answer:", 1)
        return f"start: answer | {_quoted(CALL_OPEN)} {calls}\n{answer}{rules}"
    if forced:
        return f"start: {_quoted(CALL_OPEN)} {calls}\n{rules}"
    return f"start: free | opened {calls}\n{_FREE}{rules}"


def _json(schema: Mapping[str, Any] | bool) -> str:
    if isinstance(schema, bool):
        schema = {} if schema else {"enum": []}
    try:
        return f"%json {json.dumps({**_exact(schema), 'x-guidance': _STYLE}, ensure_ascii=False)}"
    except (TypeError, ValueError) as error:
        raise InvalidConstraintError(f"a schema is not JSON: {error}.") from None


def _exact(schema: Any) -> Any:
    """``schema``, with bounds that llguidance follows to the letter.

    It takes an excluded whole number for an included one where the other bound is a fraction
    within 1 of it (1.9.1).
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
    """Refuse a number of keys that only distinct keys would reach: free ones may come twice."""
    least, required = schema.get("minProperties", 0), schema.get("required", ())
    known = isinstance(least, int) and isinstance(required, list | tuple)
    if known and least > len(set(required)):
        raise InvalidConstraintError(
            f"minProperties={least} cannot be followed beyond the keys that are required; name the "
            "keys in 'required'."
        )


def _within_one(low: Any, high: Any) -> bool:
    numbers = isinstance(low, int | float) and isinstance(high, int | float)
    return numbers and 0 < high - low < 1


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _escaped(pattern: str) -> str:
    """A pattern between slashes, on one line."""
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
