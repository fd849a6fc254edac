"""Converts the engine's segments to LlamaIndex responses.

A response has the text so far, and the new text as its delta. The fusion metadata are in ``raw``,
which never becomes part of a later prompt. The last response of a stream adds no text. It has the
summary and the usage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from specfuse_core import Segment, ToolCall, Usage
from specfuse_core.trace import answer_summary
from specfuse_core.types import FinishReason

__all__ = ["Answer", "as_completion", "finish_reason", "whole"]


class Answer:
    """Collects the segments of one answer.

    Args:
        request_id: the id that its events and responses share.
        model_name: names of the base models.
    """

    def __init__(self, request_id: str, model_name: str) -> None:
        self._request = {"request_id": request_id, "model": model_name}
        self._text = ""
        self._thought = ""
        self._calls: list[ToolCall] = []
        self._segments: list[dict[str, Any]] = []

    def feed(self, segment: Segment) -> list[ChatResponse]:
        """Return the responses of one segment; none if the segment has no text to show yet."""
        return list(self._responses(segment))

    def _responses(self, segment: Segment) -> Iterator[ChatResponse]:
        called = segment.call.call if segment.call else None
        if called is not None:
            self._calls.append(called)
        if segment.text or called is not None:
            record: dict[str, Any] = {
                "model": segment.author,
                "text": segment.text,
                "channel": segment.channel,
            }
            if segment.round is not None:
                record["round"] = segment.round.index
            self._segments.append(record)
            raw = {"specfuse": {**self._request, "segment": record}}
            if segment.channel == "text":
                self._text += segment.text
                yield self._response(segment.text, raw)
            elif segment.channel == "reasoning":
                self._thought += segment.text
                yield self._response("", raw, thinking_delta=segment.text)
            elif called is not None:
                yield self._response("", raw)
        if segment.finish_reason is not None and segment.usage is not None:
            yield self._response("", self._account(segment.finish_reason, segment.usage))

    def _account(self, finish: FinishReason, usage: Usage) -> dict[str, Any]:
        summary = {**self._request, **answer_summary(finish, usage), "segments": self._segments}
        return {
            "specfuse": summary,
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
        }

    def _response(self, delta: str, raw: dict[str, Any], **extra: Any) -> ChatResponse:
        return ChatResponse(message=self._message(), delta=delta, raw=raw, additional_kwargs=extra)

    def _message(self) -> ChatMessage:
        blocks: list[Any] = []
        if self._thought:
            blocks.append(ThinkingBlock(content=self._thought))
        if self._text or not self._calls:
            blocks.append(TextBlock(text=self._text))
        blocks += [
            ToolCallBlock(
                tool_call_id=call.id, tool_name=call.name, tool_kwargs=dict(call.arguments)
            )
            for call in self._calls
        ]
        # LlamaIndex's programs only look for calls here (program/utils.py).
        extra = {"tool_calls": [_openai(call) for call in self._calls]} if self._calls else {}
        return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=extra)


def _openai(call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def whole(response: ChatResponse) -> ChatResponse:
    """Convert the last response of a stream to that of a blocking call."""
    return response.model_copy(update={"delta": None})


def finish_reason(response: ChatResponse) -> str | None:
    """Return why the answer ended; None if it has not ended, or if another model wrote it."""
    told = response.raw.get("specfuse") if isinstance(response.raw, dict) else None
    return told.get("finish_reason") if told else None


def as_completion(response: ChatResponse) -> CompletionResponse:
    """Convert a chat response to a completion response, without calls and thinking."""
    return CompletionResponse(
        text=response.message.content or "",
        delta=response.delta,
        raw=response.raw,
        additional_kwargs=response.additional_kwargs,
    )
