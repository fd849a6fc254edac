"""Converts the engine's segments to LangChain chunks that merge to the same answer everywhere.

Chunks are merged by rules that differ between ``invoke``, ``stream`` and the v3 events: strings are
joined, integers are added, different floats are an error, and the last value of a metadata key may
win. So only the first chunk has the model's name, and only the last chunk has the usage. The data
of a round are in a list in ``additional_kwargs``.
"""

from __future__ import annotations

from typing import Any, Literal

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from specfuse_core import Segment, Usage
from specfuse_core.trace import answer_summary, round_summary
from specfuse_core.types import FinishReason

__all__ = ["PROVIDER", "Chunks", "Detail"]

PROVIDER = "specfuse"
Detail = Literal["off", "summary", "rounds"]

#: Blocks 0 and 1 of an answer are its reasoning and its text. Calls must not merge with them.
_FIRST_CALL = 2
#: Makes incomplete arguments unreadable. langchain-core would complete them to a valid call.
_CUT_OFF = "cut off: "

_FINISH: dict[FinishReason, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "context": "length",
    "cancelled": "cancelled",
}


class Chunks:
    """Converts the segments of one answer.

    Args:
        model_name: the name of the ensemble.
        detail: how much fusion metadata the chunks have.
    """

    def __init__(self, model_name: str, detail: Detail) -> None:
        self._metadata: dict[str, Any] = {"model_name": model_name, "model_provider": PROVIDER}
        self._detail = detail
        self._recorded = 0  # index of the last round in the metadata
        self._calls = 0
        self._open: tuple[str, str] | None = None  # name and id of the current call
        self._arguments = ""

    def feed(self, segment: Segment) -> list[ChatGenerationChunk]:
        """Return the chunks of one segment. No chunk has both text and a call."""
        chunks = []
        extra = self._rounds(segment)
        if segment.channel == "text" and (segment.text or extra):
            chunks.append(self._chunk(segment.text, extra))
        elif segment.channel == "reasoning" and (segment.text or extra):
            thought = {"reasoning_content": segment.text} if segment.text else {}
            chunks.append(self._chunk("", {**extra, **thought}))
        elif segment.call is not None:
            if extra:
                chunks.append(self._chunk("", extra))
            chunks += self._call(segment)
        if segment.finish_reason is not None and segment.usage is not None:
            chunks += self._last(segment.finish_reason, segment.usage)
        return chunks

    def _rounds(self, segment: Segment) -> dict[str, Any]:
        played = segment.round
        if self._detail != "rounds" or played is None or played.index <= self._recorded:
            return {}
        self._recorded = played.index
        return {"specfuse_rounds": [round_summary(played)]}

    def _call(self, segment: Segment) -> list[ChatGenerationChunk]:
        delta = segment.call
        if delta is None:
            return []
        if delta.name is not None:
            self._open, self._arguments = (delta.name, delta.id), ""
        self._arguments += delta.arguments
        return [self._called(self._arguments)] if delta.call is not None else []

    def _called(self, arguments: str) -> ChatGenerationChunk:
        name, id_ = self._open or ("", "")
        call = tool_call_chunk(name=name, args=arguments, id=id_, index=_FIRST_CALL + self._calls)
        self._calls += 1
        self._open = None
        return self._chunk("", {}, tool_call_chunks=[call])

    def _last(self, finish: FinishReason, usage: Usage) -> list[ChatGenerationChunk]:
        cut = [self._called(_CUT_OFF + self._arguments)] if self._open else []
        complete = finish == "stop" and self._calls > 0
        reason = "tool_calls" if complete else _FINISH[finish]
        last = self._chunk(
            "",
            {},
            usage_metadata=UsageMetadata(
                input_tokens=usage.prompt_tokens,
                output_tokens=usage.completion_tokens,
                total_tokens=usage.prompt_tokens + usage.completion_tokens,
            ),
            chunk_position="last",
        )
        last.message.response_metadata["finish_reason"] = reason
        last.generation_info = {"finish_reason": reason}
        if self._detail != "off":
            last.message.response_metadata["specfuse"] = answer_summary(finish, usage)
        return [*cut, last]

    def _chunk(self, text: str, extra: dict[str, Any], **fields: Any) -> ChatGenerationChunk:
        metadata, self._metadata = self._metadata, {}
        message = AIMessageChunk(
            content=text, additional_kwargs=extra, response_metadata=metadata, **fields
        )
        return ChatGenerationChunk(message=message)
