"""Tools: what a model may call.

How calls are written is in ``calls``; this module knows nothing of grammars or templates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from specfuse_core.errors import InvalidToolError, UnknownToolError
from specfuse_core.grammar.calls import CALL_CLOSE, CALL_OPEN

__all__ = [
    "Tool",
    "ToolChoice",
    "check_tools",
    "describe",
]

#: ``"auto"``, ``"none"``, ``"required"``, or the name of the tool that must be called.
ToolChoice = Literal["auto", "none", "required"] | str

# What providers and chat templates take for a function's name.
_NAME = re.compile(r"[\w.\-]{1,128}")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the answer may call.

    Args:
        name: letters, digits, ``_``, ``-`` and ``.``, at most 128.
        description: what it does, for the models.
        parameters: JSON schema of its arguments, an object's.

    Raises:
        InvalidToolError: for a tool without a name, or with parameters that are no object schema.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise InvalidToolError(
                f"a tool needs a name of letters, digits, '_', '-' and '.', got {self.name!r}."
            )
        if not isinstance(self.parameters, Mapping):
            raise InvalidToolError(
                f"the parameters of the tool {self.name!r} are no JSON schema: {self.parameters!r}."
            )
        kind = self.parameters.get("type", "object")
        if kind != "object":
            raise InvalidToolError(
                f"the parameters of the tool {self.name!r} must be an object's schema, got the "
                f"type {kind!r}."
            )

    @classmethod
    def of(cls, tool: Tool | Mapping[str, Any]) -> Tool:
        """``tool`` itself, or one from OpenAI's form, with or without the ``function`` around.

        Raises:
            InvalidToolError: for anything else.
        """
        if isinstance(tool, Tool):
            return tool
        if not isinstance(tool, Mapping):
            raise InvalidToolError(
                f"a tool is a Tool or a mapping with 'name', 'description' and 'parameters', "
                f"got {type(tool).__name__}."
            )
        function = tool.get("function", tool)
        if not isinstance(function, Mapping) or not function.get("name"):
            raise InvalidToolError(f"a tool has no name: {dict(tool)!r}; give it a 'name'.")
        return cls(
            function["name"], function.get("description") or "", function.get("parameters") or {}
        )

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the arguments: always an object's, closed where nothing says otherwise."""
        closed = {"type": "object", "properties": {}, "additionalProperties": False}
        return {**closed, **self.parameters}

    def as_dict(self) -> dict[str, Any]:
        """OpenAI's form, which chat templates take."""
        parameters = dict(self.parameters) or {"type": "object", "properties": {}}
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": parameters,
        }
        return {"type": "function", "function": function}


def check_tools(tools: Sequence[Tool], choice: ToolChoice) -> None:
    """Refuse two tools of one name, and a choice that names none.

    Raises:
        InvalidToolError: for two tools of one name.
        UnknownToolError: if ``choice`` asks for a call that no tool can answer.
    """
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise InvalidToolError(f"two tools are named {name!r}; rename one of them.")
    if choice in ("auto", "none"):
        return
    if not tools:
        raise UnknownToolError(f"tool_choice={choice!r}, but no tools were given.")
    if choice != "required" and choice not in names:
        raise UnknownToolError(
            f"tool_choice names {choice!r}, which is no tool; there are {', '.join(names)} "
            "(and 'auto', 'none', 'required')."
        )


def describe(tools: Sequence[Mapping[str, Any]]) -> str:
    """The tools for a system text, where a chat template has no place of its own for them.

    Args:
        tools: in OpenAI's form.
    """
    lines = "".join(f"{json.dumps(tool, ensure_ascii=False)}\n" for tool in tools)
    return (
        f"You can call these tools:\n{lines}To call one, write:\n"
        f'{CALL_OPEN}\n{{"name": "...", "arguments": {{...}}}}\n{CALL_CLOSE}'
    )
