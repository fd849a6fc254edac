"""Sends each round as a custom event, ``specfuse_round``, while the answer is generated.

They go to callback handlers and ``astream_events``, and to LangGraph's ``stream_mode="custom"``.
langchain-core's dispatchers raise outside of a run. Then no event is sent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config

from specfuse_core import Segment
from specfuse_core.trace import round_summary

__all__ = ["EVENT", "Rounds"]

EVENT = "specfuse_round"


class Rounds:
    """Sends one event for each round of one answer."""

    def __init__(self) -> None:
        self._sent = 0  # index of the last round that was sent

    def send(self, segment: Segment) -> None:
        """Send the segment's round, unless it was sent before or there is no run."""
        record = self._new(segment)
        if record is not None:
            dispatch_custom_event(EVENT, record)

    async def asend(self, segment: Segment) -> None:
        """Like :meth:`send`, also for asynchronous handlers."""
        record = self._new(segment)
        if record is not None:
            await adispatch_custom_event(EVENT, record)

    def _new(self, segment: Segment) -> dict[str, Any] | None:
        played = segment.round
        if played is None or played.index <= self._sent:
            return None
        self._sent = played.index
        if get_callback_manager_for_config(ensure_config()).parent_run_id is None:
            return None
        record = {**round_summary(played), "text": played.candidate.text}
        write = _graph_writer()
        if write is not None:
            write({"type": EVENT, **record})
        return record


def _graph_writer() -> Callable[[Any], None] | None:
    """Return the writer of the current LangGraph run's custom stream; None outside of a run."""
    langgraph = sys.modules.get("langgraph.config")
    if langgraph is None:
        return None
    try:
        writer: Callable[[Any], None] = langgraph.get_stream_writer()
    except (RuntimeError, KeyError):
        return None
    return writer
