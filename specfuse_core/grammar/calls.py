"""The common format of tool calls, which all models share (DESIGN section 6).

A tool call is one segment. If models voted on parts of it, one model's tool name could be combined
with another model's arguments. Where a call may open is decided in ``openings``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["ARGUMENT_KEYS", "CALL_CLOSE", "CALL_OPEN", "ObjectEnd", "write_call"]

CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"
#: The keys under which models write the arguments of a call.
ARGUMENT_KEYS = ("arguments", "parameters")


def write_call(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a tool call in the common format.

    Args:
        name: name of the tool.
        arguments: the arguments; they must be JSON values.
    """
    body = json.dumps({"name": name, "arguments": dict(arguments)}, ensure_ascii=False)
    return f"{CALL_OPEN}\n{body}\n{CALL_CLOSE}"


class ObjectEnd:
    """Finds the end of one JSON object in a text that arrives in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = self._escaped = False
        #: Whether the object has ended.
        self.closed = False

    def feed(self, text: str) -> int:
        """Return how many characters of ``text`` belong to the object."""
        for index, character in enumerate(text):
            if self.closed:
                return index
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped = character == "\\"
                self._quoted = character != '"'
            elif character == '"':
                self._quoted = True
            else:
                self._depth += (character in "{[") - (character in "}]")
                self.closed = self._depth == 0
        return len(text)
