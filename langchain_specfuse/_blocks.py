"""Reads the content blocks of messages, in LangChain's forms and in those of providers.

A block is text, a call, media, or bookkeeping of a provider: thoughts, ids, citations, and calls
that ran on its servers. This module knows nothing of whole messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from specfuse_core import ToolCall
from specfuse_core.errors import InvalidMessageError
from specfuse_core.frameworks.content import placeholder, plain_text, unsupported
from specfuse_core.values import shown

__all__ = ["Reader", "calls_in", "typed"]

#: Types of blocks with text, and the keys under which it may be.
_TEXTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("text", "input_text", "output_text"), ("text",)),
    "refusal": ("refusal",),
    "executable_code": ("executable_code", "code"),
    "code_execution_result": ("code_execution_result", "output", "stdout"),
    "compaction": ("content",),
}
#: Types of blocks that hold a file, which may be text.
_FILES = ("document", "file", "input_file", "text-plain")
#: Types of blocks whose content is text or blocks.
_NESTED = ("search_result", "server_tool_result", "mcp_tool_result")
#: Types of blocks that no answer depends on: thoughts, which are not sent to a model again, calls,
#: of which ``tool_calls`` has those that an application runs, and marks for a provider.
_SILENT = frozenset(
    [
        "annotations",
        "cachePoint",
        "cache_point",
        "cache_control",
        "citation",
        "container_upload",
        "guard_content",
        "guardContent",
        "non_standard_annotation",
        "signature",
        "thought_signature",
        "tool_reference",
        "reasoning",
        "reasoning_content",
        "reasoningContent",
        "redacted_thinking",
        "thinking",
        "custom_tool_call",
        "function_call",
        "invalid_tool_call",
        "tool_call",
        "tool_call_chunk",
        "tool_use",
        "toolUse",
        "tool_result",
        "toolResult",
        "code_interpreter_call",
        "computer_call",
        "file_search_call",
        "image_generation_call",
        "local_shell_call",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "mcp_list_tools",
        "mcp_tool_use",
        "server_tool_call",
        "server_tool_call_chunk",
        "server_tool_use",
        "shell_call",
        "tool_search_call",
        "web_search_call",
    ]
)
#: Ends of the types of results of a provider's own tools, whose content is encrypted or structured.
_RESULTS = ("_tool_result", "_call_output", "_call_result")
#: Keys of the places of a file's content within its block.
_PLACES = ("source", "file", "document")
_NAMED_TYPES = {"txt": "text/plain", "md": "text/markdown", "csv": "text/csv", "html": "text/html"}


def typed(content: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the type of each block of a message's content that is a mapping, with the block."""
    if isinstance(content, str) or not isinstance(content, Sequence):
        return
    for block in content:
        if isinstance(block, Mapping):
            yield _kind(block), block


def _kind(block: Mapping[str, Any]) -> str:
    kind = block.get("type")
    if kind is None and len(block) == 1:
        # Blocks of Bedrock's API have their type as the only key.
        kind = next(iter(block))
    return "text" if kind is None and "text" in block else str(kind)


@dataclass(slots=True)
class Reader:
    """Reads the text of one message's content.

    Args:
        where: the message, for errors.
        tolerant: whether the models can answer without content that is not text. Media then become
            placeholders. In all other messages they are errors.
        hidden: the types of media that became placeholders.
    """

    where: str
    tolerant: bool = False
    hidden: list[str] = field(default_factory=list)

    def text(self, content: Any) -> str:
        """Return the text of a content, which is a string or a list of blocks.

        Raises:
            InvalidMessageError: if a block is not text.
        """
        if isinstance(content, str):
            return content
        if not isinstance(content, Sequence):
            raise unsupported(self.where, type(content).__name__)
        parts = [self._part(block) for block in content]
        return "\n\n".join(part for part in parts if part)

    def _part(self, block: Any) -> str:
        if isinstance(block, str):
            return block
        if not isinstance(block, Mapping):
            raise unsupported(self.where, type(block).__name__)
        kind = _kind(block)
        if kind in _SILENT:
            return ""
        if kind in _TEXTS:
            return self._string(block, kind)
        if kind == "json":
            return str(block.get("json"))
        if kind == "non_standard":
            inner = block.get("value")
            return self._part(inner) if isinstance(inner, Mapping) and "type" in inner else ""
        if kind in _NESTED:
            return self._inner(block)
        if kind.endswith(_RESULTS):
            return ""
        read = self._file(block) if kind in _FILES else None
        if read is not None:
            return read
        if not self.tolerant:
            raise unsupported(self.where, block.get("type", kind))
        self.hidden.append(kind)
        return placeholder(kind)

    def _string(self, block: Mapping[str, Any], kind: str) -> str:
        for key in _TEXTS[kind]:
            text = block.get(key)
            if isinstance(text, str):
                return text
            if kind in ("text", "input_text", "output_text") and text is not None:
                raise InvalidMessageError(
                    f"{self.where} has a content block whose 'text' is {shown(text)}. Give a "
                    "string."
                )
        return ""

    def _inner(self, block: Mapping[str, Any]) -> str:
        """The title and the text of a block that has other blocks."""
        content = block.get("content", block.get("output"))
        if isinstance(content, Mapping):
            content = [content]
        said = content if isinstance(content, str) else ""
        if isinstance(content, Sequence) and not isinstance(content, str):
            # What is encrypted or structured is for the provider only.
            said = self.text([each for kind, each in typed(content) if kind in _TEXTS])
        title = block.get("title")
        return f"{title}\n{said}" if isinstance(title, str) and title and said else said

    def _file(self, block: Mapping[str, Any]) -> str | None:
        """The text of a file, with its title; None if it is not text."""
        places = [block, *(block.get(place) for place in _PLACES)]
        places += [each.get("source") for each in places if isinstance(each, Mapping)]
        found = next(
            (
                text
                for place in places
                if isinstance(place, Mapping) and (text := self._plain(place)) is not None
            ),
            None,
        )
        title = block.get("title")
        titled = isinstance(title, str) and title and found is not None
        return f"{title}\n{found}" if titled else found

    def _plain(self, place: Mapping[str, Any]) -> str | None:
        kind = place.get("mime_type") or place.get("media_type")
        kind = kind or _NAMED_TYPES.get(str(place.get("format")))
        if isinstance(place.get("text"), str):
            return str(place["text"])
        content = place.get("content")
        if place.get("type") == "text" and isinstance(place.get("data"), str):
            return str(place["data"])
        if place.get("type") == "content" and content is not None:
            return self.text(content)
        for key in ("base64", "data", "file_data", "bytes"):
            data = place.get(key)
            if isinstance(data, str) and data.startswith("data:"):
                header, _, data = data.partition(",")
                kind = header.removeprefix("data:").partition(";")[0]
            if isinstance(data, bytes) or (isinstance(data, str) and kind):
                return plain_text(data, kind)
        return None


def calls_in(content: Any) -> Iterator[ToolCall]:
    """Yield the calls of a message's content.

    Raises:
        InvalidMessageError: if a call has no name.
    """
    for kind, block in typed(content):
        if kind == "tool_use":
            arguments, id_ = block.get("input"), block.get("id")
        elif kind == "tool_call":
            arguments, id_ = block.get("args"), block.get("id")
        elif kind == "function_call":
            arguments, id_ = block.get("arguments"), block.get("call_id") or block.get("id")
        else:
            continue
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except ValueError:
                arguments = {}
        if isinstance(arguments, Mapping):
            yield ToolCall(block.get("name") or "", arguments, id_ or "")
