"""Rounds as live events for whoever watches a run: ``specfuse_round``.

Core's own dispatchers refuse to work outside of a run; here nobody watches then, and that is fine.
"""

from __future__ import annotations

from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config

from langchain_specfuse._chunks import round_record
from specfuse_core import Segment

__all__ = ["EVENT", "Rounds"]

EVENT = "specfuse_round"


class Rounds:
    """Tells each round of one answer once."""

    def __init__(self) -> None:
        self._told = 0

    def tell(self, segment: Segment) -> None:
        """Dispatch the segment's round, unless it was told, or nobody watches."""
        if self._is_new(segment) and segment.round:
            record = {**round_record(segment.round), "text": segment.round.candidate.text}
            dispatch_custom_event(EVENT, record)

    async def atell(self, segment: Segment) -> None:
        """:meth:`tell`, to asynchronous watchers too."""
        if self._is_new(segment) and segment.round:
            record = {**round_record(segment.round), "text": segment.round.candidate.text}
            await adispatch_custom_event(EVENT, record)

    def _is_new(self, segment: Segment) -> bool:
        if segment.round is None or segment.round.index <= self._told:
            return False
        self._told = segment.round.index
        return get_callback_manager_for_config(ensure_config()).parent_run_id is not None
