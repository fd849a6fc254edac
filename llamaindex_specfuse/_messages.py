"""Converts LlamaIndex messages to the engine's messages.

Content that is not text is refused and never dropped silently. Earlier thinking is left out, as
chat templates do. This module knows nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from specfuse_core import Message, ToolCall
from specfuse_core.errors import InvalidMessageError
from specfuse_core.request import Role

__all__ = ["arguments_of", "calls_of", "is_react", "turns_of"]

_ROLES: dict[MessageRole, Role] = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}
#: Labels that every ReAct prompt has.
_REACT = ("Thought:", "Action:", "Action Input:", "Observation:")


def turns_of(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Convert a conversation.

    Raises:
        InvalidMessageError: if there are images or other media, or objects that are not messages.
    """
    if isinstance(messages, str | ChatMessage) or not all(
        isinstance(message, ChatMessage) for message in messages
    ):
        raise InvalidMessageError(
            "chat needs a list of ChatMessage. Use complete() for a single question."
        )
    return tuple(_turn(message) for message in messages)


def is_react(turns: Sequence[Message]) -> bool:
    """Whether the system message is a ReAct prompt.

    The application writes the observations of ReAct, and LlamaIndex gives no stop string for them.
    """
    taught = "\n".join(turn.content for turn in turns if turn.role == "system")
    return all(mark in taught for mark in _REACT)


def _turn(message: ChatMessage) -> Message:
    role = _ROLES[message.role]
    extra = message.additional_kwargs
    return Message(
        role,
        "\n".join(_texts(message.blocks, message.role.value)),
        tuple(calls_of(message)) if role == "assistant" else (),
        tool_call_id=extra.get("tool_call_id") if role == "tool" else None,
        name=extra.get("name"),
    )


def _texts(blocks: Sequence[Any], where: str) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, TextBlock):
            yield block.text
        elif isinstance(block, CitableBlock):
            yield from _texts(block.content, where)
        elif isinstance(block, CitationBlock):
            yield from _texts([block.cited_content], where)
        elif not isinstance(block, ThinkingBlock | ToolCallBlock | CachePoint):
            raise InvalidMessageError(
                f"a {where} message has a content block of type {block.block_type!r}, but only "
                "text is supported. Describe the content in words, or leave it out."
            )


def calls_of(message: ChatMessage) -> list[ToolCall]:
    """Return the calls of a message, from its blocks or from ``additional_kwargs``."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if blocks:
        return [
            ToolCall(block.tool_name, arguments_of(block.tool_kwargs), block.tool_call_id or "")
            for block in blocks
        ]
    kept = message.additional_kwargs.get("tool_calls") or ()
    return [call for each in kept if (call := _kept(each)) is not None]


def _kept(call: Any) -> ToolCall | None:
    """Convert a call in OpenAI's form, which is a mapping or an object of OpenAI's client."""
    function = _get(call, "function") or call
    name = _get(function, "name")
    if not isinstance(name, str):
        return None
    return ToolCall(name, arguments_of(_get(function, "arguments")), _get(call, "id") or "")


def _get(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def arguments_of(arguments: Any) -> dict[str, Any]:
    """Parse arguments to a mapping, which is empty if they are unreadable."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return {}
    return dict(arguments) if isinstance(arguments, Mapping) else {}
