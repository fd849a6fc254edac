"""The state of one base model in one answer: its session, its weight and its usage so far.

This module only stores values; ``round`` updates them.
"""

from __future__ import annotations

from dataclasses import dataclass

from specfuse_core.backend import Session
from specfuse_core.types import ModelUsage

__all__ = ["Member"]


@dataclass(slots=True)
class Member:
    """One base model that takes part in one answer.

    Args:
        name: name of the model.
        session: the model's session for the request.
        drafts: whether the model drafts.
        verifies: whether the model verifies.
        weight: voting weight; the weights of the active members sum to 1.
        method: name of the method that stores the model's state; see :class:`ModelUsage`.
        quality: Q_i, the sum of the model's vote shares so far.
        rounds: number of rounds in which the model took part.
        segments: number of rounds that its candidate won.
        characters: number of characters of its winning candidates.
        exited: index of the round after which the model left; None if it is active.
        seconds: wall time in seconds of its drafting, verification and commits.
    """

    name: str
    session: Session
    drafts: bool
    verifies: bool
    weight: float
    method: str | None = None
    quality: float = 0.0
    rounds: int = 0
    segments: int = 0
    characters: int = 0
    exited: int | None = None
    seconds: float = 0.0

    def usage(self) -> ModelUsage:
        """Return the model's contribution and cost so far."""
        return ModelUsage(
            self.name,
            self.rounds,
            self.segments,
            self.characters,
            self.exited,
            self.session.cost,
            self.seconds,
            self.method,
        )
