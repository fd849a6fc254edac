"""Converts LlamaIndex messages to the engine's messages.

Media in the messages of users are refused. In messages of models and tools, which a conversation
cannot do without, they become placeholders. Earlier thinking is left out, as chat templates do.
This module knows nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from specfuse_core import Message, ToolCall
from specfuse_core.errors import InvalidMessageError
from specfuse_core.frameworks.content import (
    placeholder,
    plain_text,
    unsupported,
    warn_of_hidden,
)
from specfuse_core.request import Role
from specfuse_core.values import shown

__all__ = ["arguments_of", "calls_of", "check_messages", "turns_of"]

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


def turns_of(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Convert a conversation.

    Raises:
        InvalidMessageError: if the message of a user has images or other media, or an object is not
            a message.
    """
    check_messages(messages)
    hidden: list[str] = []
    turns = tuple(_turn(message, hidden) for message in messages)
    warn_of_hidden(hidden)
    return turns


def check_messages(messages: Any) -> None:
    """Check that a conversation is a list of messages.

    Raises:
        InvalidMessageError: if it is not.
    """
    several = isinstance(messages, Sequence) and not isinstance(messages, str | bytes)
    if not several or not all(isinstance(message, ChatMessage) for message in messages):
        raise InvalidMessageError(
            "chat needs a list of ChatMessage. Use complete() for a single question."
        )


def _turn(message: ChatMessage, hidden: list[str]) -> Message:
    role = _ROLES[message.role]
    extra = message.additional_kwargs
    tolerated = hidden if role in ("assistant", "tool") else None
    return Message(
        role,
        "\n".join(_texts(message.blocks, f"a {message.role.value} message", tolerated)),
        tuple(calls_of(message)) if role == "assistant" else (),
        tool_call_id=extra.get("tool_call_id") if role == "tool" else None,
        name=extra.get("name"),
    )


def _texts(blocks: Sequence[Any], where: str, hidden: list[str] | None) -> Iterator[str]:
    """Yield the texts of blocks.

    Args:
        blocks: the blocks of a message.
        where: the message, for errors.
        hidden: the types of media that became placeholders; None to refuse media.
    """
    for block in blocks:
        if isinstance(block, TextBlock):
            yield block.text
        elif isinstance(block, CitableBlock):
            yield from _texts(block.content, where, hidden)
        elif isinstance(block, CitationBlock):
            yield from _texts([block.cited_content], where, hidden)
        elif isinstance(block, DocumentBlock) and (read := _document(block)) is not None:
            yield read
        elif not isinstance(block, ThinkingBlock | ToolCallBlock | CachePoint):
            if hidden is None:
                raise unsupported(where, block.block_type)
            hidden.append(block.block_type)
            yield placeholder(block.block_type)


def _document(block: DocumentBlock) -> str | None:
    """Return the text of a document; None if it is not text, or would have to be downloaded."""
    if isinstance(block.data, bytes):
        # LlamaIndex stores the data as base64.
        return plain_text(block.data.decode(errors="replace"), block.document_mimetype)
    if block.path is None:
        return None
    try:
        return plain_text(Path(block.path).read_bytes(), block.document_mimetype)
    except OSError as error:
        raise InvalidMessageError(
            f"the document {str(block.path)!r} cannot be read: {error.strerror}."
        ) from error


def calls_of(message: ChatMessage) -> list[ToolCall]:
    """Return the calls of a message, from its blocks or from ``additional_kwargs``."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if blocks:
        return [
            ToolCall(block.tool_name, arguments_of(block.tool_kwargs), block.tool_call_id or "")
            for block in blocks
        ]
    kept = message.additional_kwargs.get("tool_calls") or ()
    if not isinstance(kept, list | tuple):
        raise InvalidMessageError(
            f"the tool_calls of a message must be a list of tool calls, got {shown(kept)}."
        )
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
