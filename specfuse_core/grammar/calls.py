"""Finds the beginning and the end of tool calls in an answer, in the common format of all models.

A tool call is one segment. If models voted on parts of it, one model's tool name could be combined
with another model's arguments. These are pure functions on text; tools are in ``tools``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from specfuse_core.grammar.boundaries import complete_words, overlap

__all__ = [
    "CALL_CLOSE",
    "CALL_OPEN",
    "begins_call",
    "complete_segment",
    "in_call",
    "write_call",
]

CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"


def write_call(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a tool call in the common format.

    Args:
        name: name of the tool.
        arguments: the arguments; they must be JSON values.
    """
    body = json.dumps({"name": name, "arguments": dict(arguments)}, ensure_ascii=False)
    return f"{CALL_OPEN}\n{body}\n{CALL_CLOSE}"


def in_call(text: str) -> bool:
    """Whether ``text`` ends inside a tool call."""
    return text.rfind(CALL_OPEN) > text.rfind(CALL_CLOSE)


def begins_call(text: str) -> bool:
    """Whether ``text`` is an incomplete tool call, or the beginning of its opening marker."""
    begun = text.lstrip()
    opens = CALL_OPEN.startswith(begun) or begun.startswith(CALL_OPEN)
    return bool(begun) and opens and CALL_CLOSE not in begun


def complete_segment(before: str, text: str, *, free: bool = True) -> str:
    """Cut a draft back to a complete segment: a tool call, or complete words before one.

    Args:
        before: text of the answer before the draft.
        text: the drafted text; not empty.
        free: whether the text outside of tool calls is unconstrained. Under a grammar, a segment
            may end inside a word.

    Returns:
        The segment, which is never empty.
    """
    if free and not in_call(before):
        said, called, _ = text.partition(CALL_OPEN)
        if called and said.strip():
            return said.rstrip(" ")
        if not called:
            said = text[: len(text) - overlap(text, CALL_OPEN)]
            return complete_words(said if said.strip() else text)
    call, closed, _ = text.partition(CALL_CLOSE)
    return call + closed
