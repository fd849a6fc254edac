"""Converts LangChain messages to the engine's messages.

Content that is not text is refused and never dropped silently. Earlier reasoning is left out, as
chat templates do. This module knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from specfuse_core import Message, ToolCall
from specfuse_core.errors import InvalidMessageError
from specfuse_core.request import Role

__all__ = ["turns_of"]

_ROLES = {"human": "user", "ai": "assistant", "developer": "system", "function": "tool"}
#: Types of blocks whose text is part of the message.
_TEXTS = ("text", "input_text", "output_text", "text-plain")
#: Types of blocks that repeat ``tool_calls``, or that are not sent to a model again.
_SILENT = (
    "thinking",
    "redacted_thinking",
    "reasoning",
    "reasoning_content",
    "tool_call",
    "tool_call_chunk",
    "invalid_tool_call",
)


def turns_of(messages: Sequence[BaseMessage]) -> tuple[Message, ...]:
    """Convert a conversation.

    Raises:
        InvalidMessageError: if a message has images or other media, or an unknown type.
    """
    return tuple(turn for message in messages for turn in _turns(message))


def _turns(message: BaseMessage) -> list[Message]:
    name = message.name or None
    if isinstance(message, AIMessage):
        return [Message("assistant", _text(message), _calls(message), name=name)]
    if isinstance(message, ToolMessage):
        said = _text(message)
        if message.status == "error" and not said.lower().startswith("error"):
            said = f"Error: {said}"
        return [Message("tool", said, tool_call_id=message.tool_call_id, name=name)]
    if isinstance(message, FunctionMessage):
        return [Message("tool", _text(message), name=name)]
    if isinstance(message, SystemMessage):
        return [Message("system", _text(message), name=name)]
    if isinstance(message, HumanMessage):
        # In Anthropic's form, tool results are in a user message.
        results = [_result(block) for block in _blocks(message, "tool_result")]
        said = _text(message)
        return [*results, Message("user", said, name=name)] if said or not results else results
    if isinstance(message, ChatMessage):
        role = _ROLES.get(message.role, message.role)
        if role in get_args(Role):
            return [Message(cast("Role", role), _text(message), name=name)]
        raise InvalidMessageError(
            f"a ChatMessage has the unknown role {message.role!r}. Use one of "
            f"{', '.join(get_args(Role))}."
        )
    raise InvalidMessageError(
        f"a {type(message).__name__} cannot be part of a conversation. Leave it out."
    )


def _blocks(message: BaseMessage, kind: str) -> list[Mapping[str, Any]]:
    if isinstance(message.content, str):
        return []
    return [
        block
        for block in message.content
        if isinstance(block, Mapping) and block.get("type") == kind
    ]


def _text(message: BaseMessage) -> str:
    return _said(message.content, type(message).__name__)


def _said(content: Any, where: str) -> str:
    """Return the text of a message's content, which is a string or a list of blocks."""
    if isinstance(content, str):
        return content
    parts = [_part(block, where) for block in content]
    return "\n\n".join(part for part in parts if part)


def _part(block: Any, where: str) -> str:
    if isinstance(block, str):
        return block
    kind = block.get("type") if isinstance(block, Mapping) else None
    if kind in _TEXTS or (kind is None and isinstance(block, Mapping) and "text" in block):
        return str(block.get("text") or "")
    if kind in (*_SILENT, "tool_use", "tool_result"):
        return ""
    if kind == "json":
        return str(block.get("json"))
    raise InvalidMessageError(
        f"a {where} has a content block of type {kind!r}, but only text is supported. Describe the "
        "content in words, or leave it out."
    )


def _result(block: Mapping[str, Any]) -> Message:
    said = _said(block.get("content") or "", "tool_result")
    if block.get("is_error") and not said.lower().startswith("error"):
        said = f"Error: {said}"
    return Message("tool", said, tool_call_id=block.get("tool_use_id"))


def _calls(message: AIMessage) -> tuple[ToolCall, ...]:
    calls = [ToolCall(call["name"], call["args"], call["id"] or "") for call in message.tool_calls]
    # An incomplete call stays in the history, without its unreadable arguments.
    calls += [
        ToolCall(call["name"], {}, call["id"] or "")
        for call in message.invalid_tool_calls
        if call["name"]
    ]
    known = {call.id for call in calls}
    for block in _blocks(message, "tool_use"):
        if block.get("id") not in known and isinstance(block.get("input"), Mapping):
            calls.append(ToolCall(block["name"], block["input"], block.get("id") or ""))
    return tuple(calls)
