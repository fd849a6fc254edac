"""Tools that an answer may call: their definitions and checks.

This module knows nothing of grammars or chat templates. The format of a call is in ``calls``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from specfuse_core.errors import InvalidConstraintError, InvalidToolError, UnknownToolError
from specfuse_core.grammar.calls import CALL_CLOSE, CALL_OPEN
from specfuse_core.grammar.relaxing import Relaxed, relaxed
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

#: Characters that a name cannot have, because chat templates and native calls use them as marks.
_MARKS = set('<>"\\`')
_LONGEST = 128
#: Keywords of a schema that say which properties an object may have.
_SHAPING = {
    *("properties", "patternProperties", "additionalProperties", "propertyNames", "required"),
    *("unevaluatedProperties", "$ref", "$dynamicRef", "anyOf", "oneOf", "allOf", "if"),
}


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the answer may call.

    Args:
        name: name of at most 128 printable characters, without ``<``, ``>``, quotation marks,
            backslashes and backticks.
        description: description of the tool, which the models read.
        parameters: JSON schema of the arguments, which are an object. Keywords that the grammar
            cannot enforce are checked in the finished call.

    Raises:
        InvalidToolError: if the name is invalid or the parameters are not a schema of an object.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = self.name
        if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST):
            raise InvalidToolError(
                f"the name of a tool must be 1 to {_LONGEST} printable characters, got "
                f"{shown(name)}."
            )
        if _MARKS & set(name) or name != name.strip():
            raise InvalidToolError(
                "the name of a tool must not begin or end with a space, nor have any of "
                f"{' '.join(sorted(_MARKS))}, got {shown(name)}."
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
        kind = self.parameters.get("type")
        if kind not in (None, "object") and not (isinstance(kind, list) and "object" in kind):
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
    def relaxed(self) -> Relaxed:
        """The schema of the arguments that the grammar enforces, and what it does not enforce.

        Objects may only have the properties that ``parameters`` names, where it does not allow
        others.

        Raises:
            InvalidToolError: if the parameters are not a JSON schema, or no object satisfies them.
        """
        empty: dict[str, Any] = {} if _SHAPING & set(self.parameters) else {"properties": {}}
        try:
            return relaxed({**self.parameters, **empty, "type": "object"}, closed=True)
        except InvalidConstraintError as error:
            raise InvalidToolError(f"parameters of the tool {self.name!r}: {error}") from error

    @property
    def schema(self) -> dict[str, Any]:
        """The schema of the arguments that the grammar enforces. It has the type ``"object"``.

        Raises:
            InvalidToolError: as for :attr:`relaxed`.
        """
        return self.relaxed.schema

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
