"""Calls and objects with values of every kind, for tests that cut them at every token."""

from __future__ import annotations

from typing import Any

from specfuse_core import FusionEngine, Request
from specfuse_core.grammar.calls import write_call
from specfuse_core.testing import ScriptedBackend

__all__ = ["KINDS", "PARAMETERS", "call_text", "writer"]

#: The schema of the argument ``value``, and a value, by the kind of the value.
KINDS: dict[str, tuple[dict[str, Any], Any]] = {
    "string": ({"type": "string"}, "/srv/data/old backups of 2019 from the east office"),
    "number": ({"type": "number"}, 123456.789),
    "integer": ({"type": "integer"}, 123456789),
    "array": ({"type": "array", "items": {"type": "string"}}, ["one", "two", "three", "four"]),
    "numbers": ({"type": "array", "items": {"type": "integer"}}, [10, 200, 3000, 40000]),
    "object": (
        {
            "type": "object",
            "properties": {"to": {"type": "string"}, "copies": {"type": "integer"}},
            "additionalProperties": False,
        },
        {"to": "the north office", "copies": 12},
    ),
    "enum": ({"enum": ["old", "old and new", "old and new and broken"]}, "old and new and broken"),
    "escapes": ({"type": "string"}, 'a "quoted" path \\ with \n lines } and ] brackets'),
}
PARAMETERS = {
    kind: {
        "type": "object",
        "properties": {"value": schema, "sure": {"type": "boolean"}},
        "required": ["value"],
        "additionalProperties": False,
    }
    for kind, (schema, _) in KINDS.items()
}


class Letters(ScriptedBackend):
    """A scripted model for which the limits of an answer count characters."""

    def count_tokens(self, text: str) -> int:
        return len(text)


def call_text(kind: str) -> str:
    """A call of the tool ``delete`` with a value of this kind."""
    return write_call("delete", {"value": KINDS[kind][1]})


def writer(text: str, *, letters: bool = False, window: int = 4096) -> FusionEngine:
    """An engine whose model writes ``text``, and ``Done.`` after the result of a tool.

    Args:
        text: the answer.
        letters: whether limits count characters instead of words.
        window: the context window in words.
    """

    def rest(request: Request, response: str) -> str:
        done = request.messages[-1].role == "tool"
        return ("Done." if done else text)[len(response) :]

    made = Letters if letters else ScriptedBackend
    return FusionEngine([made("a", rest, context_window=window)])
