"""The context of a model whose position encodings depend on the length of the line.

Up to the boundary of ``rope``, the line is in one context. Beyond it all keys are different, so a
second context reads the line again, once. The logits after an id are those of a forward pass over
the ids up to it, so a path that crosses the boundary is scored in two parts. This module knows
nothing of text.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from specfuse_core.errors import SlowMethodWarning
from specfuse_core.hf.context import Context, Path, shared_length
from specfuse_core.hf.runner import Runner
from specfuse_core.hf.states import RereadContext

__all__ = ["CrossingContext"]


class CrossingContext(Context):
    """A line that may cross the boundary, in either direction.

    Args:
        make: creates the context of one side of the boundary.
        runner: the model.
        capacity: number of ids to allocate memory for.
        boundary: maximum length of a line that has the first position encodings.
    """

    def __init__(
        self,
        make: Callable[[Runner, int], Context],
        runner: Runner,
        capacity: int,
        boundary: int,
    ) -> None:
        super().__init__(runner, capacity)
        self._boundary = boundary
        self._near = make(runner, min(capacity, boundary))
        self._far = RereadContext(runner, each=True) if runner.rope.many else make(runner, capacity)
        self.one_pass = self._near.one_pass
        # The path of each context that belongs to each path of the last call of ``branch``.
        self._parts: list[tuple[int | None, int | None]] = []

    @property
    def passes(self) -> int:
        """Number of forward passes so far."""
        return self._near.passes + self._far.passes

    def forget(self, position: int) -> None:
        super().forget(position)
        self._far.forget(position)
        if position < self._boundary:
            self._near.forget(position)
        else:
            self._near.release()

    def release(self) -> None:
        super().release()
        self._near.release()
        self._far.release()

    def mark(self) -> None:
        side = self._near if len(self.ids) <= self._boundary else self._far
        if side.ids == self.ids:
            side.mark()

    def _run_line(self, ids: Sequence[int]) -> Tensor:
        whole = [*self.ids, *ids]
        side = self._near if len(whole) <= self._boundary else self._far
        self._reach(side, whole)
        return side.logits_after(len(whole) - 1)

    def _cut(self, length: int) -> None:
        """Both contexts follow when they are next needed."""

    def _run_paths(self, paths: Sequence[Path]) -> list[Tensor]:
        near: list[Path] = []
        far: list[Path] = []
        self._parts = []
        for path in paths:
            head = path.tokens[: max(self._boundary - path.start, 0)]
            crosses = len(head) < len(path.tokens)
            self._parts.append((len(near) if head else None, len(far) if crosses else None))
            near += [Path(path.start, head)] if head else []
            far += [path] if crosses else []
        sides = self._branch_near(near), self._branch_far(far)
        return [
            torch.cat([side[i] for side, i in zip(sides, part, strict=True) if i is not None])
            for part in self._parts
        ]

    def _branch_near(self, paths: list[Path]) -> list[Tensor]:
        """The logits of paths that end at the boundary at the latest."""
        if not paths:
            return []
        line = self.ids[: max(path.start for path in paths)]
        if shared_length(self._near.ids, line) < len(line):
            self._reach(self._near, line)
        return self._near.branch(paths)

    def _branch_far(self, paths: list[Path]) -> list[Tensor]:
        """The logits after those ids of the paths that are beyond the boundary."""
        if not paths:
            return []
        wholes = [[*self.ids[: path.start], *path.tokens] for path in paths]
        firsts = [max(path.start, self._boundary) for path in paths]
        line = self.ids[: min(path.start for path in paths)]
        if shared_length(self._far.ids, line) < len(line):
            # The line itself may end before the boundary, so that it is read with a path.
            self._reach(self._far, wholes[0][: firsts[0] + 1])
        starts = [
            min(shared_length(self._far.ids, whole), first)
            for whole, first in zip(wholes, firsts, strict=True)
        ]
        found = self._far.branch(
            [Path(start, tuple(whole[start:])) for start, whole in zip(starts, wholes, strict=True)]
        )
        return [
            logits[first - start :]
            for logits, first, start in zip(found, firsts, starts, strict=True)
        ]

    def _keep_path(self, index: int) -> None:
        for side, part in zip((self._near, self._far), self._parts[index], strict=True):
            if part is not None:
                side.adopt(part)

    def _reach(self, side: Context, ids: list[int]) -> None:
        """Make ``ids`` the line of one context, and know the logits after them.

        A single pass does it. Beyond the boundary its largest position is beyond the boundary too,
        which decides on the encodings of all ids of the pass.
        """
        if side is self._far:
            self._warn()
        shared = shared_length(side.ids, ids)
        if shared == len(ids) and side.knows(shared - 1):
            return
        shared = min(shared, len(ids) - 1)
        side.truncate(shared)
        side.extend(ids[shared:])

    def _warn(self) -> None:
        rope = self._runner.rope
        if rope.many and not rope.told:
            rope.told = True
            warnings.warn(
                f"{self._runner.name} is slow beyond {self._boundary} tokens, because its position "
                "encodings change with the length, so that it reads the whole text again for each "
                "token; shorten the conversation or the answer.",
                SlowMethodWarning,
                stacklevel=2,
            )
