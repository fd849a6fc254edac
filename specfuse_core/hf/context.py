"""Context: the token ids that a model has run for one request, and the scoring of continuations.

A context holds a *line*: the ids that the model has run. A *path* continues the line or a prefix of
it. ``branch`` computes the logits of paths and leaves the line unchanged; ``adopt`` makes one path
part of the line. The implementations (methods) in ``rows`` and ``states`` differ in cost, but not
in results. ``probe`` measures which one is correct for a model. This module knows nothing of text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from specfuse_core.hf.runner import Runner

__all__ = ["Context", "Path", "shared_length"]


class Path(NamedTuple):
    """A continuation of the first ``start`` ids of the line by ``tokens``.

    Args:
        start: number of ids of the line that the path continues; at least one.
        tokens: the ids that follow; at least one. ``[T]``
    """

    start: int
    tokens: tuple[int, ...]


class Context(ABC):
    """The line of one request, and the logits after its last ids.

    Args:
        runner: the model.
        capacity: number of ids to allocate memory for.
    """

    def __init__(self, runner: Runner, capacity: int = 0) -> None:
        self.ids: list[int] = []
        self._passes = 0
        self._runner = runner
        self._capacity = capacity
        self._after: dict[int, Tensor] = {}
        self._paths: list[Path] = []
        self._path_logits: list[Tensor] = []

    #: Whether all paths share one forward pass, so that an additional path costs very little.
    one_pass = False

    @property
    def passes(self) -> int:
        """Number of forward passes so far."""
        return self._passes

    def knows(self, position: int) -> bool:
        """Whether the logits after the id at ``position`` of the line are stored."""
        return position in self._after

    def logits_after(self, position: int) -> Tensor:
        """Return the stored logits ``[V]`` after the id at ``position`` of the line."""
        return self._after[position]

    @torch.inference_mode()
    def extend(self, ids: Sequence[int]) -> None:
        """Run ``ids`` at the end of the line and store the logits after the last one."""
        self._drop_paths()
        logits = self._run_line(ids)
        self.ids += ids
        self._after[len(self.ids) - 1] = logits

    @torch.inference_mode()
    def truncate(self, length: int) -> None:
        """Cut the line back to its first ``length`` ids. Has no effect if it is shorter."""
        self._drop_paths()
        length = min(length, len(self.ids))
        self._cut(length)
        del self.ids[length:]
        self._after = {at: logits for at, logits in self._after.items() if at < length}

    @torch.inference_mode()
    def branch(self, paths: Sequence[Path]) -> list[Tensor]:
        """Return the logits after each token of each path. ``[P][T, V]``"""
        self._drop_paths()
        self._path_logits = self._run_paths(paths)
        self._paths = list(paths)
        return self._path_logits

    @torch.inference_mode()
    def adopt(self, index: int) -> None:
        """Replace the line by the path at ``index`` of the last call of ``branch``."""
        path, logits = self._paths[index], self._path_logits[index]
        self._keep_path(index)
        self._paths, self._path_logits = [], []
        self._after = {at: kept for at, kept in self._after.items() if at < path.start}
        self._after |= {path.start + i: row for i, row in enumerate(logits)}
        self.ids = self.ids[: path.start] + list(path.tokens)

    def forget(self, position: int) -> None:
        """Drop the stored logits before ``position``."""
        self._after = {at: logits for at, logits in self._after.items() if at >= position}

    def release(self) -> None:
        """Free the model's state."""
        self.ids, self._after, self._paths, self._path_logits = [], {}, [], []

    def _run(self, ids: Sequence[int], **options: Any) -> tuple[Tensor, Any]:
        self._passes += 1
        return self._runner.run(ids, **options)

    def _drop_paths(self) -> None:
        if self._paths:
            self._paths, self._path_logits = [], []
            self._restore_line()

    def mark(self) -> None:
        """Mark the end of the line as a position where paths start or the line may be cut."""
        return

    def _restore_line(self) -> None:
        """Restore the model's state for the line after ``_run_paths``."""
        return

    @abstractmethod
    def _run_line(self, ids: Sequence[int]) -> Tensor: ...

    @abstractmethod
    def _cut(self, length: int) -> None: ...

    @abstractmethod
    def _run_paths(self, paths: Sequence[Path]) -> list[Tensor]: ...

    @abstractmethod
    def _keep_path(self, index: int) -> None: ...


def shared_length(first: list[int], second: list[int]) -> int:
    """Return the length of the longest common prefix."""
    size = min(len(first), len(second))
    # Lists usually differ only near their ends.
    low = max(size - 64, 0)
    if first[:low] != second[:low]:
        low = 0
    while low < size and first[low] == second[low]:
        low += 1
    return low
