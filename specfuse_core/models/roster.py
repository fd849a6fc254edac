"""The base models of an ensemble: who drafts, who verifies, and with which prior weight.

This module checks names and weights. It loads nothing and runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from specfuse_core.backend import Backend
from specfuse_core.errors import (
    DuplicateNameError,
    EmptyEnsembleError,
    InvalidLimitError,
    UnknownModelError,
)

__all__ = ["Loader", "Roster", "load_quietly"]

Loader = Callable[[Sequence[Backend]], None]


def load_quietly(backends: Sequence[Backend]) -> None:
    """Load each backend, one after the other."""
    for backend in backends:
        backend.load()


@dataclass(frozen=True, slots=True)
class Roster:
    """Base models with distinct names, and the part that each has in an answer.

    Args:
        backends: the base models, in ensemble order.
        drafters: names of the models that draft.
        verifiers: names of the models that verify.
        weights: prior voting weights by name; 1.0 where a name is missing.
    """

    backends: tuple[Backend, ...]
    drafters: tuple[str, ...]
    verifiers: tuple[str, ...]
    weights: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        backends: Sequence[Backend],
        drafters: Sequence[str] | None = None,
        verifiers: Sequence[str] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Self:
        """A checked roster; None stands for all models, and for equal weights.

        Raises:
            EmptyEnsembleError: if there is no model, no drafter or no verifier.
            DuplicateNameError: if two models share a name.
            UnknownModelError: if a name belongs to no model.
            InvalidLimitError: if a weight is not a positive number.
        """
        if not backends:
            raise EmptyEnsembleError("no base model was given; name at least one.")
        names = [backend.name for backend in backends]
        for name in names:
            if names.count(name) > 1:
                raise DuplicateNameError(
                    f"two base models are named {name!r}; give each its own ModelConfig(name=...)."
                )
        everyone = cls(tuple(backends), tuple(names), tuple(names), dict(weights or {}))
        everyone.known(tuple(everyone.weights) or None, "weights")
        for name, weight in everyone.weights.items():
            if not 0 < weight < math.inf:
                raise InvalidLimitError(
                    f"the weight of {name!r} must be a positive number, got {weight}; "
                    "leave a model out with drafters= and verifiers= instead."
                )
        return cls(
            everyone.backends,
            everyone.known(drafters, "drafters"),
            everyone.known(verifiers, "verifiers"),
            everyone.weights,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the base models, in ensemble order."""
        return tuple(backend.name for backend in self.backends)

    @property
    def context_window(self) -> int:
        """The smallest context window of the base models, in tokens. Loads them if needed."""
        return min(backend.context_window for backend in self.backends)

    @property
    def declared_window(self) -> int | None:
        """:attr:`context_window` as far as it is known without loading; None if it is not."""
        known = [backend.declared_window for backend in self.backends]
        return min((window for window in known if window is not None), default=None)

    def backend(self, name: str) -> Backend:
        """The base model of that name."""
        return self.backends[self.names.index(name)]

    def subset(self, names: Sequence[str]) -> Roster:
        """Some of the base models, in the order of ``names``, each in the part that it has here.

        Raises:
            UnknownModelError: if a name belongs to no model.
            EmptyEnsembleError: if no drafter or no verifier is left.
        """
        kept = self.known(names, "the subset")
        return Roster.of(
            [self.backend(name) for name in kept],
            [name for name in kept if name in self.drafters],
            [name for name in kept if name in self.verifiers],
            {name: weight for name, weight in self.weights.items() if name in kept},
        )

    def known(self, names: Sequence[str] | None, what: str) -> tuple[str, ...]:
        """``names`` without repetition, or all names where it is None.

        Args:
            names: names of base models.
            what: what they are for, as the error calls it.

        Raises:
            EmptyEnsembleError: if ``names`` is empty.
            UnknownModelError: if a name belongs to no model.
        """
        if names is None:
            return self.names
        if not names:
            raise EmptyEnsembleError(f"{what}: no base model is left; name at least one.")
        for name in names:
            if name not in self.names:
                raise UnknownModelError(
                    f"{what}: no base model is named {name!r}; there are {', '.join(self.names)}."
                )
        return tuple(dict.fromkeys(names))
