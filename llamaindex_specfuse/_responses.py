"""Converts the engine's segments to LlamaIndex responses.

A response has the text so far, and the new text as its delta. The arguments of a call grow in the
responses of a stream; they are a string until the call is complete. The fusion metadata are in
``raw``, which never becomes part of a later prompt. The last response of a stream adds no text. It
has the summary, the usage and the calls that must not be run, and its message leaves these out.
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

from specfuse_core import Segment, Usage
from specfuse_core.frameworks.aliases import renamed_options
from specfuse_core.frameworks.cut import Cut
from specfuse_core.trace import answer_summary
from specfuse_core.types import CallDelta, FinishReason

__all__ = ["Answer", "as_completion", "call_errors", "cut_off", "finish_reason", "invalid", "whole"]


class Answer:
    """Collects the segments of one answer.

    Args:
        request_id: the id that its events and responses share.
        model_name: names of the base models.
        cut: what a limit cuts from the answer.
    """

    def __init__(self, request_id: str, model_name: str, cut: Cut) -> None:
        self._request = {"request_id": request_id, "model": model_name}
        self._text = ""
        self._thought = ""
        self._cut = cut
        self._calls: list[ToolCallBlock] = []
        self._invalid: list[dict[str, Any]] = []
        self._segments: list[dict[str, Any]] = []

    def feed(self, segment: Segment) -> list[ChatResponse]:
        """Return the responses of one segment; none if the segment has no text to show yet."""
        return list(self._responses(segment))

    def _responses(self, segment: Segment) -> Iterator[ChatResponse]:
        segment = self._cut.watched(segment)
        delta = segment.call
        if delta is not None:
            self._call(delta)
        if segment.text or delta is not None:
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
            else:
                yield self._response("", raw)
        if segment.finish_reason is not None and segment.usage is not None:
            yield self._response("", self._account(segment.finish_reason, segment.usage))

    def _call(self, delta: CallDelta) -> None:
        if delta.name is not None:
            block = ToolCallBlock(tool_call_id=delta.id, tool_name=delta.name, tool_kwargs="")
            self._calls.append(block)
        block = self._calls.pop()
        if delta.call is None:
            grown = f"{block.tool_kwargs}{delta.arguments}"
            self._calls.append(block.model_copy(update={"tool_kwargs": grown}))
        elif delta.call.error is None:
            whole = {"tool_kwargs": dict(delta.call.arguments)}
            self._calls.append(block.model_copy(update=whole))
        else:
            self._invalid.append(
                {
                    "id": delta.id,
                    "name": delta.call.name,
                    "arguments": block.tool_kwargs,
                    "error": renamed_options(delta.call.error),
                }
            )

    def _account(self, finish: FinishReason, usage: Usage) -> dict[str, Any]:
        summary = {
            **self._request,
            **answer_summary(finish, usage),
            "closed_by_force": self._cut.closed_by_force,
            "cut_off": self._cut.reason,
            "invalid": self._cut.invalid,
            "invalid_tool_calls": self._invalid,
            "segments": self._segments,
        }
        return {
            "specfuse": summary,
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
                "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
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
        blocks += self._calls
        # LlamaIndex's programs only look for calls here (program/utils.py).
        extra = {"tool_calls": [_openai(call) for call in self._calls]} if self._calls else {}
        return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=extra)


def _openai(call: ToolCallBlock) -> dict[str, Any]:
    arguments = call.tool_kwargs
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "id": call.tool_call_id,
        "type": "function",
        "function": {"name": call.tool_name, "arguments": arguments},
    }


def whole(response: ChatResponse) -> ChatResponse:
    """Convert the last response of a stream to that of a blocking call."""
    return response.model_copy(update={"delta": None})


def finish_reason(response: ChatResponse) -> str | None:
    """Return why the answer ended; None if it has not ended, or if another model wrote it."""
    return _summary(response).get("finish_reason")


def cut_off(response: ChatResponse) -> str | None:
    """Return why the answer must not be used; None if it may be used."""
    return _summary(response).get("cut_off")


def invalid(response: ChatResponse) -> str | None:
    """Return why the text is not valid under the schema of a structured answer."""
    return _summary(response).get("invalid")


def call_errors(response: ChatResponse) -> list[str]:
    """Return what is wrong with each call that must not be run."""
    calls = _summary(response).get("invalid_tool_calls") or ()
    return [f"{call['name']!r}: {call['error']}" for call in calls]


def _summary(response: ChatResponse) -> dict[str, Any]:
    told = response.raw.get("specfuse") if isinstance(response.raw, dict) else None
    return told or {}


def as_completion(response: ChatResponse) -> CompletionResponse:
    """Convert a chat response to a completion response, without calls and thinking."""
    return CompletionResponse(
        text=response.message.content or "",
        delta=response.delta,
        raw=response.raw,
        additional_kwargs=response.additional_kwargs,
    )
