"""What a model has read for one request, and how it looks at continuations without reading them.

A context holds a *line* of ids that the model has run. *Paths* are continuations of the line, or
of a start of it; ``branch`` gives their logits and leaves the line alone, ``adopt`` makes one of
them the line. The methods, in ``rows`` and ``states``, differ in cost, never in result; which one
is right for a model is measured, see ``probe``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from specfuse_core.hf.runner import Runner

__all__ = ["Context", "Path"]


class Path(NamedTuple):
    """A continuation of the line's first ``start`` ids by ``tokens`` (at least one of each)."""

    start: int
    tokens: tuple[int, ...]


class Context(ABC):
    """The line, and the logits after its last few ids.

    Args:
        runner: the model.
        capacity: ids to make room for.
    """

    def __init__(self, runner: Runner, capacity: int = 0) -> None:
        self.ids: list[int] = []
        self.passes = 0
        self._runner = runner
        self._capacity = capacity
        self._after: dict[int, Tensor] = {}
        self._paths: list[Path] = []
        self._path_logits: list[Tensor] = []

    #: Whether further paths cost next to nothing, since all go through one forward pass.
    one_pass = False

    def knows(self, position: int) -> bool:
        """Whether the logits after the line's id at ``position`` are kept."""
        return position in self._after

    def logits_after(self, position: int) -> Tensor:
        """Logits ``[V]`` after the line's id at ``position``, which must be kept."""
        return self._after[position]

    @torch.inference_mode()
    def extend(self, ids: Sequence[int]) -> None:
        """Run ``ids`` at the end of the line; the logits after the last one are kept."""
        self._drop_paths()
        logits = self._run_line(ids)
        self.ids += ids
        self._after[len(self.ids) - 1] = logits

    @torch.inference_mode()
    def truncate(self, length: int) -> None:
        """Cut the line back to its first ``length`` ids."""
        self._drop_paths()
        self._cut(length)
        del self.ids[length:]
        self._after = {at: logits for at, logits in self._after.items() if at < length}

    @torch.inference_mode()
    def branch(self, paths: Sequence[Path]) -> list[Tensor]:
        """Logits after each token of each path. ``[P][T, V]``"""
        self._drop_paths()
        self._path_logits = self._run_paths(paths)
        self._paths = list(paths)
        return self._path_logits

    @torch.inference_mode()
    def adopt(self, index: int) -> None:
        """Make the path at ``index`` of the last ``branch`` the line."""
        path, logits = self._paths[index], self._path_logits[index]
        self._keep_path(index)
        self._paths, self._path_logits = [], []
        self._after = {at: kept for at, kept in self._after.items() if at < path.start}
        self._after |= {path.start + i: row for i, row in enumerate(logits)}
        self.ids = self.ids[: path.start] + list(path.tokens)

    def forget(self, position: int) -> None:
        """Keep no logits before ``position``."""
        self._after = {at: logits for at, logits in self._after.items() if at >= position}

    def release(self) -> None:
        """Free the model's state."""
        self.ids, self._after, self._paths, self._path_logits = [], {}, [], []

    def _run(self, ids: Sequence[int], **options: Any) -> tuple[Tensor, Any]:
        self.passes += 1
        return self._runner.run(ids, **options)

    def _drop_paths(self) -> None:
        if self._paths:
            self._paths, self._path_logits = [], []
            self._restore_line()

    def mark(self) -> None:
        """Say that paths will start at the line's end, and that it may be cut back to here."""
        return

    def _restore_line(self) -> None:
        """Undo what ``_run_paths`` left behind."""
        return

    @abstractmethod
    def _run_line(self, ids: Sequence[int]) -> Tensor: ...

    @abstractmethod
    def _cut(self, length: int) -> None: ...

    @abstractmethod
    def _run_paths(self, paths: Sequence[Path]) -> list[Tensor]: ...

    @abstractmethod
    def _keep_path(self, index: int) -> None: ...
