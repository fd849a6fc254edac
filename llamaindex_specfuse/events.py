"""Rounds as events of LlamaIndex's instrumentation, and traces made of them.

Query and chat engines drop what a model's response has beside its text; events are the way by
which the fusion can be seen there. Handlers run between rounds, on the way of the answer: a slow
one slows it.
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
    """A round was won.

    ``span_id`` is that of the model's span, ``tags`` are those in force when it was called.

    Args:
        request_id: of the answer that the round belongs to; it is in the responses' ``raw`` too.
        round: 1 for the answer's first.
        model: name of the base model whose candidate won.
        text: the winning candidate.
        candidates: what each base model drafted, by its name.
        votes: of each candidate, by its drafter; None where nobody could score it.
        scores: by verifier, then by drafter; None where void.
        weights: voting weight of each verifier.
        exited: names of the models that leave after this round.
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

    @classmethod
    def class_name(cls) -> str:
        """Name of the event's class, for handlers that look at names."""
        return "FusionRoundEvent"


class FusionEndEvent(BaseEvent):
    """An answer is complete.

    Args:
        request_id: of the answer.
        summary: what the last response has in ``raw["specfuse"]``: who wrote what, the finish
            reason, the seed, and what each base model did and spent.
    """

    request_id: str
    summary: dict[str, Any]

    @classmethod
    def class_name(cls) -> str:
        """Name of the event's class, for handlers that look at names."""
        return "FusionEndEvent"


@dataclass(slots=True)
class FusionRun:
    """The trace of one answer.

    Args:
        request_id: as in the responses' ``raw["specfuse"]``.
        span_id: of the model's span.
        tags: in force when the model was called.
        rounds: so far.
        summary: of the whole; None while the answer is not complete, and if it never was.
    """

    request_id: str
    span_id: str | None
    tags: dict[str, Any]
    rounds: list[FusionRoundEvent] = field(default_factory=list)
    summary: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """What was said; of an answer that is not complete, what has won so far."""
        if self.summary is None:
            return "".join(event.text for event in self.rounds)
        segments = self.summary["segments"]
        return "".join(each["text"] for each in segments if each["channel"] == "text")


class FusionTrace:
    """The answers of a run, in the order in which their first rounds ended."""

    def __init__(self) -> None:
        self._runs: dict[str, FusionRun] = {}
        self._lock = threading.Lock()

    @property
    def runs(self) -> list[FusionRun]:
        """One for each answer."""
        with self._lock:
            return list(self._runs.values())

    @property
    def rounds(self) -> list[FusionRoundEvent]:
        """All rounds of all answers, answer by answer."""
        return [event for run in self.runs for event in run.rounds]

    def add(self, event: BaseEvent) -> None:
        """Keep what an event tells; other events than those of this module are none."""
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
    """Keeps the trace of everything that the dispatcher it is added to is told of.

    ``get_dispatcher().add_event_handler(FusionTraceHandler())`` sees the whole process;
    :func:`capture` sees one run.
    """

    _trace: FusionTrace = PrivateAttr(default_factory=FusionTrace)

    @classmethod
    def class_name(cls) -> str:
        """Name of the handler's class."""
        return "FusionTraceHandler"

    @property
    def trace(self) -> FusionTrace:
        """What was seen so far."""
        return self._trace

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Keep the event if it is one of this module's."""
        self._trace.add(event)


_captures: ContextVar[tuple[FusionTrace, ...]] = ContextVar("specfuse_captures", default=())


@contextmanager
def capture() -> Iterator[FusionTrace]:
    """The trace of all answers for which models are called within, and of no others.

    What is started within belongs to it, in tasks and LlamaIndex's threads too, and an answer that
    is streamed on after the block goes on being traced. A streaming query engine calls the model
    only when the first piece is asked for: read its answer within.
    """
    trace = FusionTrace()
    token = _captures.set((*_captures.get(), trace))
    try:
        yield trace
    finally:
        _captures.reset(token)


class RunWatch:
    """Tells of one answer; made where the model is called, so that its span is known."""

    def __init__(self) -> None:
        self.request_id = uuid4().hex
        self._span = active_span_id.get()
        self._tags = dict(active_instrument_tags.get())
        self._traces = _captures.get()
        self._told = 0

    def tell(self, segment: Segment) -> None:
        """Dispatch the segment's round, once."""
        played = segment.round
        if played is not None and played.index > self._told:
            self._told = played.index
            drafts = zip(played.drafters, played.candidates, strict=True)
            summary = round_summary(played)
            summary.pop("chars")
            self._send(
                FusionRoundEvent(
                    **self._where,
                    **summary,
                    text=played.candidate.text,
                    candidates={name: candidate.text for name, candidate in drafts},
                )
            )

    def end(self, summary: dict[str, Any]) -> None:
        """Dispatch that the answer is complete."""
        self._send(FusionEndEvent(**self._where, summary=summary))

    @property
    def _where(self) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "span_id": self._span,
            "tags": dict(self._tags),
        }

    def _send(self, event: BaseEvent) -> None:
        _dispatcher.event(event)
        for trace in self._traces:
            trace.add(event)
