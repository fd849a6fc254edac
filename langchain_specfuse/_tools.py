"""Converts the tools that LangChain binds to a model to the engine's tools.

The forms of providers are in ``specfuse_core.frameworks.providers``. This module knows nothing of
messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.utils.function_calling import convert_to_openai_tool

from specfuse_core import Tool
from specfuse_core.errors import InvalidToolError
from specfuse_core.frameworks.providers import choice_of, closed, constraint_of
from specfuse_core.values import listed, reason, shown

__all__ = ["choice_of", "closed", "constraint_of", "described", "tools_of"]


def described(tools: Sequence[Any], *, strict: bool | None = None) -> list[dict[str, Any]]:
    """Convert tools to OpenAI's form.

    Args:
        tools: functions, pydantic classes, ``TypedDict`` classes, ``BaseTool``\\ s, the engine's
            own ``Tool``\\ s, or schemas.
        strict: True forbids additional arguments and makes all arguments required, as OpenAI does.

    Raises:
        InvalidToolError: if an object does not describe a tool.
    """
    return [_described(tool, strict) for tool in listed(tools, "tools", "tools")]


def _described(tool: Any, strict: bool | None) -> dict[str, Any]:
    if isinstance(tool, Tool):
        return tool.as_dict()
    try:
        form = convert_to_openai_tool(tool, strict=strict)
    # Schemas of users' classes can raise any error.
    except Exception as error:
        raise InvalidToolError(
            f"{shown(tool)} cannot be used as a tool ({reason(error)}). Use a function, a pydantic "
            "or TypedDict class, a BaseTool, or a schema with 'title' or 'name'."
        ) from error
    if "function" not in form:
        raise InvalidToolError(
            f"a tool of type {form.get('type')!r} runs on the servers of its provider. Use a "
            "function instead."
        )
    return form


def tools_of(forms: Sequence[Any]) -> tuple[Tool, ...]:
    """Convert anything that :func:`described` takes to the engine's tools."""
    return tuple(
        Tool.of(form if isinstance(form, Tool | Mapping) else _described(form, None))
        for form in listed(forms, "tools", "tools")
    )
