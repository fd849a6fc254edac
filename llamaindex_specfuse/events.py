"""Sends rounds as events of LlamaIndex's instrumentation, and collects them in traces.

Query and chat engines drop the metadata of a model's response, so events are the way to see the
fusion there. Handlers run between rounds, so a slow handler slows the answer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.span import active_span_id
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import active_instrument_tags

from specfuse_core import Segment
from specfuse_core.trace import round_summary

__all__ = [
    "FusionEndEvent",
    "FusionRoundEvent",
    "FusionRun",
    "FusionTrace",
    "FusionTraceHandler",
    "RunWatch",
    "capture",
]

_dispatcher = get_dispatcher(__name__)


class FusionRoundEvent(BaseEvent):
    """Event that is sent at the end of each round.

    ``span_id`` is the span of the call of the LLM, and ``tags`` are the tags at its start.

    Args:
        request_id: id of the answer. The responses have it in ``raw`` too.
        round: index of the round, from 1.
        model: name of the base model whose candidate won.
        text: the winning candidate.
        candidates: the candidate of each base model, by its name.
        votes: vote of each candidate, by its drafter; None if no verifier could score it.
        scores: score of each candidate, by verifier and drafter; None if the verifier could not
            score it.
        weights: voting weight of each verifier.
        exited: names of the models that left the answer after this round.
        recalled: names of the models that had left the answer and came back for this round.
    """

    request_id: str
    round: int
    model: str
    text: str
    candidates: dict[str, str]
    votes: dict[str, float | None]
    scores: dict[str, dict[str, float | None]]
    weights: dict[str, float]
    exited: list[str]
    recalled: list[str]

    @classmethod
    def class_name(cls) -> str:
        """The name of this class in serialized forms."""
        return "FusionRoundEvent"


class FusionEndEvent(BaseEvent):
    """The end of an answer.

    Args:
        request_id: id of the answer.
        summary: ``raw["specfuse"]`` of the last response: authors, finish reason, seed, and
            usage of each base model.
    """

    request_id: str
    summary: dict[str, Any]

    @classmethod
    def class_name(cls) -> str:
        """The name of this class in serialized forms."""
        return "FusionEndEvent"


@dataclass(slots=True)
class FusionRun:
    """The trace of one answer.

    Args:
        request_id: id of the answer, as in ``raw["specfuse"]``.
        span_id: id of the span of the model's call.
        tags: tags at the start of the call.
        rounds: the rounds so far.
        summary: summary of the answer; None if the answer is not complete.
    """

    request_id: str
    span_id: str | None
    tags: dict[str, Any]
    rounds: list[FusionRoundEvent] = field(default_factory=list)
    summary: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The text of the answer so far."""
        if self.summary is None:
            return "".join(event.text for event in self.rounds)
        segments = self.summary["segments"]
        return "".join(each["text"] for each in segments if each["channel"] == "text")


class FusionTrace:
    """The answers of a run, ordered by the end of their first rounds."""

    def __init__(self) -> None:
        self._runs: dict[str, FusionRun] = {}
        self._lock = threading.Lock()

    @property
    def runs(self) -> list[FusionRun]:
        """The answers."""
        with self._lock:
            return list(self._runs.values())

    @property
    def rounds(self) -> list[FusionRoundEvent]:
        """The rounds of all answers, in order."""
        return [event for run in self.runs for event in run.rounds]

    def add(self, event: BaseEvent) -> None:
        """Add an event. Other events than those of this module are ignored."""
        if not isinstance(event, FusionRoundEvent | FusionEndEvent):
            return
        with self._lock:
            run = self._runs.setdefault(
                event.request_id,
                FusionRun(event.request_id, event.span_id, dict(event.tags)),
            )
            if isinstance(event, FusionRoundEvent):
                run.rounds.append(event)
            else:
                run.summary = event.summary


class FusionTraceHandler(BaseEventHandler):
    """Collects the trace of all events of a dispatcher.

    ``get_dispatcher().add_event_handler(FusionTraceHandler())`` traces the whole process. Use
    :func:`capture` to trace only a part of it.
    """

    _trace: FusionTrace = PrivateAttr(default_factory=FusionTrace)

    @classmethod
    def class_name(cls) -> str:
        """The name of this class in serialized forms."""
        return "FusionTraceHandler"

    @property
    def trace(self) -> FusionTrace:
        """The trace so far."""
        return self._trace

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Add the event to the trace."""
        self._trace.add(event)


_captures: ContextVar[tuple[FusionTrace, ...]] = ContextVar("specfuse_captures", default=())


@contextmanager
def capture() -> Iterator[FusionTrace]:
    """Collect the rounds of the answers that are requested within a ``with`` block.

    Tasks and LlamaIndex threads that start within the block belong to it. An answer whose stream is
    read after the block is traced to its end. A streaming query engine calls the LLM when its
    answer is first read, so read the answer within the block.

    Example:
        >>> with capture() as trace:
        ...     response = llm.complete("How much is 12 plus 7?")
        >>> [(won.model, won.text) for won in trace.rounds]
        [('reckoner', '12 + 7 = 19.'), ('clerk', ' The answer is 19.')]

    Yields:
        The trace, with the attributes ``rounds`` (the events of all rounds, in order) and ``runs``
        (one entry per answer).
    """
    trace = FusionTrace()
    token = _captures.set((*_captures.get(), trace))
    try:
        yield trace
    finally:
        _captures.reset(token)


class RunWatch:
    """Sends the events of one answer. It is made in the model's call, where the span is known."""

    def __init__(self) -> None:
        self.request_id = uuid4().hex
        self._span = active_span_id.get()
        self._tags = dict(active_instrument_tags.get())
        self._traces = _captures.get()
        self._sent = 0  # index of the last round that was sent

    def send(self, segment: Segment) -> None:
        """Send the segment's round once."""
        played = segment.round
        if played is not None and played.index > self._sent:
            self._sent = played.index
            drafts = zip(played.drafters, played.candidates, strict=True)
            summary = round_summary(played)
            summary.pop("chars")
            self._dispatch(
                FusionRoundEvent(
                    **self._where,
                    **summary,
                    text=played.candidate.text,
                    candidates={name: candidate.text for name, candidate in drafts},
                )
            )

    def end(self, summary: dict[str, Any]) -> None:
        """Send the event that the answer is complete."""
        self._dispatch(FusionEndEvent(**self._where, summary=summary))

    @property
    def _where(self) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "span_id": self._span,
            "tags": dict(self._tags),
        }

    def _dispatch(self, event: BaseEvent) -> None:
        _dispatcher.event(event)
        for trace in self._traces:
            trace.add(event)
