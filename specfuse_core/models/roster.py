"""The base models of an ensemble, with their roles (drafter, verifier) and prior voting weights.

This module checks names and weights. It does not load or run models.
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
    InvalidOptionError,
    UnknownModelError,
)
from specfuse_core.values import listed, shown

__all__ = ["Loader", "Roster", "load_quietly"]

Loader = Callable[[Sequence[Backend]], None]


def load_quietly(backends: Sequence[Backend]) -> None:
    """Load each backend, one after the other."""
    for backend in backends:
        backend.load()


@dataclass(frozen=True, slots=True)
class Roster:
    """Base models with unique names, their roles and their prior voting weights.

    Args:
        backends: the base models, in ensemble order.
        drafters: names of the models that draft.
        verifiers: names of the models that verify.
        weights: prior voting weights by model name; a model that is not listed has 1.0.
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
        """Check the arguments and make a roster.

        Args:
            backends: the base models, in ensemble order.
            drafters: names of the models that draft; None for all.
            verifiers: names of the models that verify; None for all.
            weights: prior voting weights by model name; None for equal weights.

        Raises:
            EmptyEnsembleError: if there is no model, no drafter or no verifier.
            DuplicateNameError: if two models share a name.
            UnknownModelError: if no model has one of the names.
            InvalidLimitError: if a weight is not a positive number.
        """
        backends = listed(backends, "backends", "base models")
        if not backends:
            raise EmptyEnsembleError("no base model was given; name at least one.")
        for backend in backends:
            if not hasattr(backend, "start"):
                raise InvalidOptionError.of("backends", f"must be Backends, got {shown(backend)}.")
        names = [backend.name for backend in backends]
        for name in names:
            if names.count(name) > 1:
                raise DuplicateNameError(
                    f"two base models are named {name!r}; give each its own name, for example with "
                    "ModelConfig(name=...)."
                )
        if not isinstance(weights or {}, Mapping):
            raise InvalidOptionError.of(
                "weights", f"must be a mapping of names to numbers, got {shown(weights)}."
            )
        everyone = cls(tuple(backends), tuple(names), tuple(names), dict(weights or {}))
        everyone.known(tuple(everyone.weights) or None, "weights")
        for name, weight in everyone.weights.items():
            if not isinstance(weight, int | float) or not 0 < weight < math.inf:
                raise InvalidLimitError(
                    f"the weight of {name!r} must be a positive number, got {shown(weight)}. To "
                    "leave a model out, use drafters= and verifiers=."
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
        """The smallest context window that is known without loading; None if none is known."""
        known = [backend.declared_window for backend in self.backends]
        return min((window for window in known if window is not None), default=None)

    def backend(self, name: str) -> Backend:
        """Return the base model named ``name``."""
        return self.backends[self.names.index(name)]

    def subset(self, names: Sequence[str]) -> Roster:
        """Return a roster of some of the base models, in the order of ``names``.

        Each keeps its role and its weight.

        Raises:
            UnknownModelError: if no model has one of the names.
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
        """Return ``names`` without duplicates, or the names of all models if it is None.

        Args:
            names: names of base models.
            what: the option that ``names`` belongs to, for error messages.

        Raises:
            EmptyEnsembleError: if ``names`` is empty.
            UnknownModelError: if no model has one of the names.
        """
        if names is None:
            return self.names
        names = listed(names, what, "names")
        if not names:
            raise EmptyEnsembleError(f"{what}: no base model is named; name at least one.")
        for name in names:
            if name not in self.names:
                raise UnknownModelError(
                    f"{what}: no base model is named {shown(name)}; use one of: "
                    f"{', '.join(self.names)}."
                )
        return tuple(dict.fromkeys(names))
