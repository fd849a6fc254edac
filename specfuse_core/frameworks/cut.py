"""Answers that a limit cut inside a constraint or a tool call, as the integrations deliver them.

This module knows no framework. What the engine does at a limit is in ``answer.budget``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from specfuse_core.answer.limits import ENDED
from specfuse_core.frameworks.aliases import renamed_options
from specfuse_core.types import Segment

__all__ = ["Cut"]


class Cut:
    """What a limit cut from one answer, and whether its text is valid.

    Args:
        values: the fields of the model, replaced by the arguments of the call.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._tolerated = values["on_limit"] == "close"
        # Only the parsers of the integrations know that a completed object is an error. Any other
        # parser must see that the object is not complete.
        self._bare = not self._tolerated and values.get("response_format") is not None
        #: Whether a limit cut the answer inside a constraint or a tool call.
        self.closed_by_force = False
        #: Why the answer must not be used; None if it may be used.
        self.reason: str | None = None
        #: Why a structured answer is not valid under its schema; None if it is valid.
        self.invalid: str | None = None

    def watched(self, segment: Segment) -> Segment:
        """Return the segment to deliver."""
        self.closed_by_force |= segment.closed_by_force
        self.invalid = self.invalid or segment.invalid
        if segment.finish_reason and self.closed_by_force and not self._tolerated:
            limit = segment.usage.limit if segment.usage else None
            self.reason = renamed_options(ENDED[segment.finish_reason].format(limit))
        if segment.closed_by_force and segment.channel == "text" and self._bare:
            return replace(segment, text="")
        return segment
