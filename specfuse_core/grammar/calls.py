"""Where a tool call begins and ends in an answer, in the one form of all models (DESIGN 6).

A call is one segment: were it voted on in parts, one model's name could be joined to another
model's arguments. Pure functions on text.
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
    """A call as every base model writes it."""
    body = json.dumps({"name": name, "arguments": dict(arguments)}, ensure_ascii=False)
    return f"{CALL_OPEN}\n{body}\n{CALL_CLOSE}"


def in_call(text: str) -> bool:
    """Whether ``text`` ends within a call."""
    return text.rfind(CALL_OPEN) > text.rfind(CALL_CLOSE)


def begins_call(text: str) -> bool:
    """Whether ``text`` is the beginning of a call, or of its mark, and no more."""
    begun = text.lstrip()
    opens = CALL_OPEN.startswith(begun) or begun.startswith(CALL_OPEN)
    return bool(begun) and opens and CALL_CLOSE not in begun


def complete_segment(before: str, text: str, *, free: bool = True) -> str:
    """How much of a draft is a segment: a call, or the complete words before one.

    Args:
        before: the answer before it.
        text: what was drafted, not empty; something of it is always left.
        free: whether the text outside of calls is free; if a grammar rules it, a segment may end
            within a word.
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
