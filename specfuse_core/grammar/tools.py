"""Tools that an answer may call: their definitions and checks.

This module knows nothing of grammars or chat templates. The format of a call is in ``calls``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from specfuse_core.errors import InvalidToolError, UnknownToolError
from specfuse_core.grammar.calls import CALL_CLOSE, CALL_OPEN
from specfuse_core.values import check_json, check_text, shown

__all__ = [
    "Tool",
    "ToolChoice",
    "called_tools",
    "check_tools",
    "describe",
    "instruct",
]

#: ``"auto"``, ``"none"``, ``"required"``, or the name of the tool that must be called.
ToolChoice = Literal["auto", "none", "required"] | str

# Function names that providers and chat templates accept.
_NAME = re.compile(r"[\w.\-]{1,128}")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the answer may call.

    Args:
        name: name of at most 128 letters, digits, ``_``, ``-`` and ``.``.
        description: description of the tool, which the models read.
        parameters: JSON schema of the arguments; its type must be ``"object"``.

    Raises:
        InvalidToolError: if the name is invalid or the parameters are not a schema of an object.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise InvalidToolError(
                f"the name of a tool must be 1 to 128 letters, digits, '_', '-' and '.', got "
                f"{shown(self.name)}."
            )
        if not isinstance(self.description, str):
            raise InvalidToolError(
                f"the description of the tool {self.name!r} must be a string, got "
                f"{shown(self.description)}."
            )
        what = f"the description of the tool {self.name!r}"
        check_text(self.description, what, InvalidToolError)
        if not isinstance(self.parameters, Mapping):
            raise InvalidToolError(
                f"the parameters of the tool {self.name!r} must be a JSON schema, got "
                f"{shown(self.parameters)}."
            )
        what = f"the schema of the tool {self.name!r}"
        check_json(dict(self.parameters), what, InvalidToolError)
        kind = self.parameters.get("type", "object")
        if kind != "object":
            raise InvalidToolError(
                f"the parameters of the tool {self.name!r} must be a schema of type 'object', got "
                f"{shown(kind)}."
            )

    @classmethod
    def of(cls, tool: Tool | Mapping[str, Any]) -> Tool:
        """Return ``tool`` itself, or make one from a mapping in OpenAI's format.

        The mapping may be ``{"type": "function", "function": {...}}`` or only the inner part.

        Raises:
            InvalidToolError: if the value is not a tool.
        """
        if isinstance(tool, Tool):
            return tool
        if not isinstance(tool, Mapping):
            raise InvalidToolError(
                "a tool must be a Tool or a mapping with 'name', 'description' and 'parameters', "
                f"got {type(tool).__name__}."
            )
        function = tool.get("function", tool)
        if not isinstance(function, Mapping) or not function.get("name"):
            raise InvalidToolError(f"a tool has no name: {shown(dict(tool))}; add a 'name'.")
        return cls(
            function["name"], function.get("description") or "", function.get("parameters") or {}
        )

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the arguments. It has the type ``"object"``.

        Additional properties are forbidden unless ``parameters`` allows them.
        """
        closed = {"type": "object", "properties": {}, "additionalProperties": False}
        return {**closed, **self.parameters}

    def as_dict(self) -> dict[str, Any]:
        """Return the tool in OpenAI's format, which chat templates expect."""
        parameters = dict(self.parameters) or {"type": "object", "properties": {}}
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": parameters,
        }
        return {"type": "function", "function": function}


def check_tools(tools: Sequence[Tool], choice: ToolChoice) -> None:
    """Check that tool names are unique and that ``choice`` is possible.

    Raises:
        InvalidToolError: if two tools have the same name.
        UnknownToolError: if ``choice`` requires a call, but no such tool was given.
    """
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise InvalidToolError(f"two tools are named {name!r}; rename one of them.")
    if choice in ("auto", "none"):
        return
    if not tools:
        raise UnknownToolError(
            f"tool_choice={shown(choice)} requires a call, but no tools were given; pass tools."
        )
    if choice != "required" and choice not in names:
        raise UnknownToolError(
            f"tool_choice names the tool {shown(choice)}, which was not given; use one of: "
            f"{', '.join(names)}, 'auto', 'none', 'required'."
        )


def called_tools(tools: Sequence[Tool], choice: ToolChoice) -> tuple[Tool, ...]:
    """Return the tools that an answer may call under ``choice``."""
    if choice == "none":
        return ()
    return tuple(tool for tool in tools if choice in ("auto", "required", tool.name))


def describe(tools: Sequence[Mapping[str, Any]], example: str | None = None) -> str:
    """Return a description of the tools for a system message.

    It is used if a chat template does not describe tools itself.

    Args:
        tools: the tools in OpenAI's format.
        example: a call in the model's form; None for the common form.
    """
    lines = "".join(f"{json.dumps(tool, ensure_ascii=False)}\n" for tool in tools)
    return f"You can call these tools:\n{lines}{instruct('one', example)}"


def instruct(tool: str = "a tool", example: str | None = None) -> str:
    """How to call a tool, for a system text.

    Args:
        tool: what the text calls the tool.
        example: a call in the model's form; None for the common form.
    """
    if example is not None:
        return f"To call {tool}, write this with its name and arguments:\n{example}"
    return (
        f"To call {tool}, write:\n"
        f'{CALL_OPEN}\n{{"name": "...", "arguments": {{...}}}}\n{CALL_CLOSE}'
    )
