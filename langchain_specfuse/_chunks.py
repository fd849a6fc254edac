"""Converts the engine's segments to LangChain chunks that merge to the same answer everywhere.

Chunks are merged by rules that differ between ``invoke``, ``stream`` and the v3 events: strings are
joined, integers are added, different floats are an error, and the last value of a metadata key may
win. So only the first chunk has the model's name, and only the last chunk has the usage. The data
of a round are in a list in ``additional_kwargs``.

langchain-core completes incomplete JSON when it merges the chunks of a call. The arguments of an
invalid call therefore end with a bracket that closes nothing, which every parser refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from specfuse_core import Segment, Usage
from specfuse_core.frameworks.aliases import renamed_options
from specfuse_core.frameworks.cut import Cut
from specfuse_core.trace import answer_summary, round_summary
from specfuse_core.types import CallDelta, FinishReason

__all__ = ["CUT_OFF", "INVALID", "PROVIDER", "Chunks", "Detail", "with_errors"]

PROVIDER = "specfuse"
Detail = Literal["off", "summary", "rounds"]

#: Blocks 0 and 1 of an answer are its reasoning and its text. Calls must not merge with them.
_FIRST_CALL = 2
#: Arguments are streamed in pieces of words with about so many characters.
_PIECE = re.compile(r"(?s).{1,32}\S*\s*")

#: Keys of the response metadata: why the answer must not be used because a limit cut it, why its
#: text is not valid under the schema of a structured answer, and the error of each invalid
#: call by the id of the call. Merged chunks have no other place for them.
CUT_OFF = "cut_off"
INVALID = "invalid"
_ERRORS = "tool_call_errors"

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
        cut: what a limit cuts from the answer.
    """

    def __init__(self, model_name: str, detail: Detail, cut: Cut) -> None:
        self._metadata: dict[str, Any] = {"model_name": model_name, "model_provider": PROVIDER}
        self._detail = detail
        self._cut = cut
        self._recorded = 0  # index of the last round in the metadata
        self._arguments = ""
        self._valid = 0
        self._errors: dict[str, str] = {}

    def feed(self, segment: Segment) -> list[ChatGenerationChunk]:
        """Return the chunks of one segment. No chunk has both text and a call."""
        chunks = []
        segment = self._cut.watched(segment)
        extra = self._rounds(segment)
        if segment.channel == "text" and (segment.text or extra):
            chunks.append(self._chunk(segment.text, extra))
        elif segment.channel == "reasoning" and (segment.text or extra):
            thought = {"reasoning_content": segment.text} if segment.text else {}
            chunks.append(self._chunk("", {**extra, **thought}))
        elif segment.call is not None:
            if extra:
                chunks.append(self._chunk("", extra))
            chunks += self._call(segment.call)
        if segment.finish_reason is not None and segment.usage is not None:
            chunks.append(self._last(segment.finish_reason, segment.usage))
        return chunks

    def _rounds(self, segment: Segment) -> dict[str, Any]:
        played = segment.round
        if self._detail != "rounds" or played is None or played.index <= self._recorded:
            return {}
        self._recorded = played.index
        return {"specfuse_rounds": [round_summary(played)]}

    def _call(self, delta: CallDelta) -> Iterator[ChatGenerationChunk]:
        index = _FIRST_CALL + delta.index
        if delta.name is not None:
            self._arguments = ""
            call = tool_call_chunk(name=delta.name, args="", id=delta.id, index=index)
            yield self._chunk("", {}, tool_call_chunks=[call])
        self._arguments += delta.arguments
        for piece in _PIECE.findall(delta.arguments):
            yield self._chunk("", {}, tool_call_chunks=[tool_call_chunk(args=piece, index=index)])
        if delta.call is not None and delta.call.error is None:
            self._valid += 1
        elif delta.call is not None and delta.call.error is not None:
            self._errors[delta.id] = renamed_options(delta.call.error)
            spoiled = tool_call_chunk(args=_spoiling(self._arguments), index=index)
            yield self._chunk("", {}, tool_call_chunks=[spoiled])

    def _last(self, finish: FinishReason, usage: Usage) -> ChatGenerationChunk:
        complete = finish == "stop" and self._valid > 0 and not self._errors
        reason = "tool_calls" if complete else _FINISH[finish]
        counts = UsageMetadata(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
        )
        if usage.reasoning_tokens:
            counts["output_token_details"] = OutputTokenDetails(reasoning=usage.reasoning_tokens)
        last = self._chunk(
            "",
            {},
            usage_metadata=counts,
            chunk_position="last",
        )
        metadata = last.message.response_metadata
        metadata["finish_reason"] = reason
        metadata["closed_by_force"] = self._cut.closed_by_force
        if self._cut.reason is not None:
            metadata[CUT_OFF] = self._cut.reason
        if self._cut.invalid is not None:
            metadata[INVALID] = self._cut.invalid
        if self._errors:
            metadata[_ERRORS] = self._errors
        last.generation_info = {"finish_reason": reason}
        if self._detail != "off":
            metadata["specfuse"] = answer_summary(finish, usage)
        return last

    def _chunk(self, text: str, extra: dict[str, Any], **fields: Any) -> ChatGenerationChunk:
        metadata, self._metadata = self._metadata, {}
        message = AIMessageChunk(
            content=text, additional_kwargs=extra, response_metadata=metadata, **fields
        )
        return ChatGenerationChunk(message=message)


def with_errors(result: ChatResult) -> ChatResult:
    """Set the errors of the invalid calls of an answer, which merging its chunks has dropped."""
    for generation in result.generations:
        message = generation.message
        if isinstance(message, AIMessage):
            errors = message.response_metadata.get(_ERRORS, {})
            for call in message.invalid_tool_calls:
                call["error"] = errors.get(call["id"], call["error"])
    return result


def _spoiling(arguments: str) -> str:
    """Return a text after which the JSON in ``arguments`` is invalid, whatever follows."""
    opened: list[str] = []
    quoted = escaped = False
    for character in arguments:
        if quoted:
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            quoted = True
        elif character in "{[":
            opened.append(character)
        elif character in "]}" and opened:
            opened.pop()
    ended = "\\" * escaped + '"' * quoted
    return ended + ("}" if opened and opened[-1] == "[" else "]")
