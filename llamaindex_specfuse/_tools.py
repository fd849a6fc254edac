"""Converts LlamaIndex tools to the engine's tools, and calls to tool selections.

This module knows nothing of the text of messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import ToolSelection

from llamaindex_specfuse._messages import calls_of
from specfuse_core import Tool
from specfuse_core.errors import InvalidToolError
from specfuse_core.frameworks.schemas import as_argument, is_object
from specfuse_core.values import listed, reason, shown

__all__ = ["described", "selections", "tools_of"]


def described(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Convert tools to OpenAI's form, as plain values, since they are part of events.

    Args:
        tools: LlamaIndex's tools, ``Tool`` objects of the engine, or mappings in OpenAI's form.

    Raises:
        InvalidToolError: if an object does not describe a tool.
    """
    return [_tool(tool).as_dict() for tool in listed(tools, "tools", "tools")]


def tools_of(forms: Sequence[Any]) -> tuple[Tool, ...]:
    """Convert anything that :func:`described` takes to the engine's tools."""
    return tuple(_tool(form) for form in listed(forms, "tools", "tools"))


def _tool(tool: Any) -> Tool:
    if isinstance(tool, Tool | Mapping):
        return Tool.of(tool)
    metadata: Any = getattr(tool, "metadata", None)
    if not hasattr(metadata, "get_parameters_dict"):
        raise InvalidToolError(
            f"{shown(tool)} cannot be used as a tool. Use a FunctionTool, a QueryEngineTool or "
            "another BaseTool."
        )
    try:
        parameters = _parameters(metadata)
    # Schemas of users' classes can raise any error.
    except Exception as error:
        raise InvalidToolError(
            f"the arguments of the tool {shown(metadata.name)} have no JSON schema "
            f"({reason(error)}). Use types that have one."
        ) from error
    return Tool(metadata.name, metadata.description or "", parameters)


def _parameters(metadata: Any) -> dict[str, Any]:
    """Return the schema of a tool's arguments.

    ``get_parameters_dict`` leaves out everything but the properties, as a reference at the top of a
    recursive class.
    """
    model = metadata.fn_schema
    own: dict[str, Any] = model.model_json_schema() if hasattr(model, "model_json_schema") else {}
    if not own or "properties" in own:
        return dict(metadata.get_parameters_dict())
    return own if is_object(own) else as_argument(own)


def selections(message: ChatMessage) -> list[ToolSelection]:
    """Return the calls of a message as tool selections, each with its own id."""
    return [
        ToolSelection(
            tool_id=call.id or f"call_{uuid4().hex[:24]}",
            tool_name=call.name,
            tool_kwargs=dict(call.arguments),
        )
        for call in calls_of(message)
    ]
