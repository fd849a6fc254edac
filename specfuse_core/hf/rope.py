"""Rotary position encodings (RoPE) whose frequencies depend on the length of the sequence.

In each forward pass, transformers derives these frequencies from the largest position and keeps
them in the model. ``longrope`` (Phi) has one set of frequencies up to a boundary and another one
beyond it. ``dynamic`` (NTK scaling) has a set for each length beyond the boundary. Cached keys of
another set are wrong. This module knows nothing of caches or requests.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

__all__ = ["LengthRope"]


class LengthRope:
    """The parts of a model whose frequencies depend on the length.

    Args:
        model: the modules that are run.
    """

    #: Passes of one module exclude each other, because the frequencies are stored in the module.
    _locks: ClassVar[weakref.WeakKeyDictionary[nn.Module, threading.Lock]] = (
        weakref.WeakKeyDictionary()
    )
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, model: nn.Module) -> None:
        self._parts = [part for module in model.modules() for part in _parts(module)]
        #: Whether it was said that the model is slow beyond the boundary.
        self.told = False
        self._lock: AbstractContextManager[Any] = nullcontext()
        if self._parts:
            with self._guard:
                self._lock = self._locks.setdefault(self._parts[0].module, threading.Lock())

    @property
    def boundary(self) -> int | None:
        """Maximum length of a sequence that has the first frequencies; None if all have them."""
        return min((part.boundary for part in self._parts), default=None)

    @property
    def many(self) -> bool:
        """Whether beyond the boundary sequences of different lengths have different frequencies."""
        distinct = {part.boundary for part in self._parts}
        return len(distinct) > 1 or any(part.dynamic for part in self._parts)

    @property
    def stretch(self) -> float:
        """Factor by which dynamic scaling extends the context window; 1 without it."""
        return max((part.stretch for part in self._parts), default=1.0)

    @contextmanager
    def fresh(self) -> Iterator[None]:
        """Run one forward pass: its frequencies do not depend on passes before or beside it."""
        with self._lock:
            for part in self._parts:
                part.reset()
            yield

    @contextmanager
    def shrunk(self, boundary: int) -> Iterator[None]:
        """Reduce the boundary temporarily, and warn of nothing meanwhile."""
        told, self.told = self.told, True
        try:
            with ExitStack() as stack:
                for part in self._parts:
                    if part.boundary > boundary:
                        stack.enter_context(part.shrunk(boundary))
                yield
        finally:
            self.told = told


@dataclass(frozen=True, slots=True)
class _Part:
    """The encodings of one module, or those of one kind of its layers.

    Args:
        module: a module of transformers that computes position encodings.
        kind: kind of layers, for modules that have encodings per kind; None for the others.
        dynamic: whether it is dynamic scaling.
    """

    module: Any
    kind: str | None
    dynamic: bool

    @property
    def _parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = self.module.config.rope_parameters
        return parameters if self.kind is None else parameters[self.kind]

    @property
    def boundary(self) -> int:
        """Maximum length that has the first frequencies."""
        if self.dynamic:
            return int(self.module.original_max_seq_len)
        return int(self._parameters["original_max_position_embeddings"])

    @property
    def stretch(self) -> float:
        """Factor by which the encodings extend the context window."""
        return max(float(self._parameters.get("factor") or 1.0), 1.0) if self.dynamic else 1.0

    def reset(self) -> None:
        """Forget the length of earlier passes, which dynamic scaling would go on from."""
        if self.dynamic:
            prefix = "" if self.kind is None else f"{self.kind}_"
            original = getattr(self.module, f"{prefix}original_inv_freq")
            setattr(self.module, f"{prefix}inv_freq", original)
            setattr(self.module, f"{prefix}max_seq_len_cached", self.module.original_max_seq_len)

    @contextmanager
    def shrunk(self, boundary: int) -> Iterator[None]:
        """Set the boundary temporarily."""
        config = self.module.config
        if self.dynamic:
            held = [(self.module, "original_max_seq_len"), (config, "max_position_embeddings")]
        else:
            # Where the configuration has this field, it takes precedence over the parameters.
            field = "original_max_position_embeddings"
            held = [(config, field)] if hasattr(config, field) else []
        before = [(owner, name, getattr(owner, name)) for owner, name in held]
        parameters = self._parameters
        kept = dict(parameters)
        try:
            for owner, name, _ in before:
                setattr(owner, name, boundary)
            if not self.dynamic:
                parameters["original_max_position_embeddings"] = boundary
            yield
        finally:
            for owner, name, value in before:
                setattr(owner, name, value)
            parameters |= kept


def _parts(module: nn.Module) -> Iterator[_Part]:
    """Yield the parts of one module whose frequencies depend on the length."""
    kinds = getattr(module, "rope_type", None)
    named = kinds.items() if isinstance(kinds, dict) else [(None, kinds)]
    for kind, name in named:
        if isinstance(name, str) and (name == "longrope" or "dynamic" in name):
            yield _Part(module, kind, name != "longrope")
