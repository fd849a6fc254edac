"""LlamaIndex's tools -> the engine's, and calls -> what agents select tools by.

This module knows nothing of messages' text.
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

__all__ = ["described", "selections", "tools_of"]


def described(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Tools in OpenAI's form, as plain values: they go into events.

    Args:
        tools: LlamaIndex's tools, the engine's own ``Tool``\\ s, or mappings in OpenAI's form.

    Raises:
        InvalidToolError: for what describes no tool.
    """
    return [_tool(tool).as_dict() for tool in tools]


def tools_of(forms: Sequence[Any]) -> tuple[Tool, ...]:
    """The engine's tools, from anything that :func:`described` takes."""
    return tuple(_tool(form) for form in forms)


def _tool(tool: Any) -> Tool:
    if isinstance(tool, Tool | Mapping):
        return Tool.of(tool)
    metadata: Any = getattr(tool, "metadata", None)
    if not hasattr(metadata, "get_parameters_dict"):
        raise InvalidToolError(
            f"{tool!r} describes no tool; give a FunctionTool, a QueryEngineTool or another "
            "BaseTool."
        )
    return Tool(metadata.name, metadata.description or "", metadata.get_parameters_dict())


def selections(message: ChatMessage) -> list[ToolSelection]:
    """The calls of a message, each with an id of its own."""
    return [
        ToolSelection(
            tool_id=call.id or f"call_{uuid4().hex[:24]}",
            tool_name=call.name,
            tool_kwargs=dict(call.arguments),
        )
        for call in calls_of(message)
    ]
