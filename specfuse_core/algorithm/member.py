"""A base model in one answer: its session, its weight, and what it has done so far."""

from __future__ import annotations

from dataclasses import dataclass

from specfuse_core.backend import Session
from specfuse_core.types import ModelUsage

__all__ = ["Member"]


@dataclass(slots=True)
class Member:
    """One base model's part in one answer.

    Args:
        name: the model's name.
        session: its view of the request.
        drafts: whether it drafts.
        verifies: whether it verifies.
        weight: its voting weight; those of the active members sum to one.
        quality: Q_i, the sum of its vote shares so far.
    """

    name: str
    session: Session
    drafts: bool
    verifies: bool
    weight: float
    quality: float = 0.0
    rounds: int = 0
    segments: int = 0
    characters: int = 0
    exited: int | None = None
    seconds: float = 0.0

    def usage(self) -> ModelUsage:
        """What the model did and spent so far."""
        return ModelUsage(
            self.name,
            self.rounds,
            self.segments,
            self.characters,
            self.exited,
            self.session.cost,
            self.seconds,
        )
