"""Converts LangChain messages to the engine's messages.

Media in the messages of users are refused. Messages of models and results of tools may come from
other providers, and a conversation with them must not fail: their media become placeholders.
Earlier reasoning is left out, as chat templates do. This module knows nothing of models.
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

from langchain_specfuse._blocks import Reader, calls_in, typed
from specfuse_core import Message, ToolCall
from specfuse_core.errors import InvalidMessageError
from specfuse_core.frameworks.content import warn_of_hidden
from specfuse_core.request import Role

__all__ = ["turns_of"]

_ROLES = {"human": "user", "ai": "assistant", "developer": "system", "function": "tool"}


def turns_of(messages: Sequence[BaseMessage]) -> tuple[Message, ...]:
    """Convert a conversation.

    Raises:
        InvalidMessageError: if the message of a user has images or other media, or a message has an
            unknown type.
    """
    hidden: list[str] = []
    turns = tuple(turn for message in messages for turn in _turns(message, hidden))
    warn_of_hidden(hidden)
    return turns


def _turns(message: BaseMessage, hidden: list[str]) -> list[Message]:
    name = message.name or None
    role = _ROLES.get(message.role, message.role) if isinstance(message, ChatMessage) else None
    tolerant = role in ("assistant", "tool") or isinstance(
        message, AIMessage | ToolMessage | FunctionMessage
    )
    reader = Reader(f"a {type(message).__name__}", tolerant, hidden)
    said = reader.text(message.content)
    if isinstance(message, AIMessage):
        return [Message("assistant", said, _calls(message), name=name)]
    if isinstance(message, ToolMessage):
        if message.status == "error":
            said = _failed(said)
        return [Message("tool", said, tool_call_id=message.tool_call_id, name=name)]
    if isinstance(message, FunctionMessage):
        return [Message("tool", said, name=name)]
    if isinstance(message, SystemMessage):
        return [Message("system", said, name=name)]
    if isinstance(message, HumanMessage):
        # In Anthropic's form, tool results are in a user message.
        results = [
            _result(block, hidden)
            for kind, block in typed(message.content)
            if kind == "tool_result"
        ]
        return [*results, Message("user", said, name=name)] if said or not results else results
    if isinstance(message, ChatMessage):
        if role in get_args(Role):
            return [Message(cast("Role", role), said, name=name)]
        raise InvalidMessageError(
            f"a ChatMessage has the unknown role {message.role!r}. Use one of "
            f"{', '.join(get_args(Role))}."
        )
    raise InvalidMessageError(
        f"a {type(message).__name__} cannot be part of a conversation. Leave it out."
    )


def _result(block: Mapping[str, Any], hidden: list[str]) -> Message:
    said = Reader("a tool_result", True, hidden).text(block.get("content") or "")
    if block.get("is_error"):
        said = _failed(said)
    return Message("tool", said, tool_call_id=block.get("tool_use_id"))


def _failed(said: str) -> str:
    return said if said.lower().startswith("error") else f"Error: {said}"


def _calls(message: AIMessage) -> tuple[ToolCall, ...]:
    calls = [ToolCall(call["name"], call["args"], call["id"] or "") for call in message.tool_calls]
    # An incomplete call stays in the history, without its unreadable arguments.
    calls += [
        ToolCall(call["name"], {}, call["id"] or "")
        for call in message.invalid_tool_calls
        if call["name"]
    ]
    # Blocks repeat the calls of ``tool_calls``.
    known = {call.id for call in calls}
    for call in calls_in(message.content):
        if call.id not in known and (call.id or not known):
            calls.append(call)
    return tuple(calls)
