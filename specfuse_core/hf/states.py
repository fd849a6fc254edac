"""Contexts for models whose cache cannot be cut back row by row.

- ``SnapshotContext`` copies the whole state. It is for recurrent and hybrid models.
- ``RereadContext`` uses no cache. It is for models whose decoding with a cache is wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from specfuse_core.hf.context import Context, Path
from specfuse_core.hf.runner import Runner

__all__ = ["RereadContext", "SnapshotContext"]


class SnapshotContext(Context):
    """Copies the whole state at the positions that the line may be cut back to.

    Args:
        runner: the model.
        capacity: not used.
        stepwise: whether to continue a state token by token, for models that give wrong logits if
            several tokens follow a state.
    """

    #: Number of states to keep besides the one after the first ids (the prompt).
    KEPT = 4

    def __init__(self, runner: Runner, capacity: int = 0, *, stepwise: bool = False) -> None:
        super().__init__(runner, capacity)
        self._stepwise = stepwise
        self._state: Any = None
        self._saved: dict[int, Any] = {}
        self._path_states: list[Any] = []

    def release(self) -> None:
        super().release()
        self._state, self._saved, self._path_states = None, {}, []

    def _run_line(self, ids: Sequence[int]) -> Tensor:
        logits, self._state = self._advance(self._state, len(self.ids), ids)
        return logits[-1]

    def mark(self) -> None:
        self._saved[len(self.ids)] = copy.deepcopy(self._state)
        for old in sorted(self._saved)[1 : -self.KEPT]:
            del self._saved[old]

    def _cut(self, length: int) -> None:
        if length == len(self.ids):
            return
        self._state = self._state_at(length)
        self._saved = {at: state for at, state in self._saved.items() if at <= length}

    def _run_paths(self, paths: Sequence[Path]) -> list[Tensor]:
        self._path_states = []
        found = []
        for start, tokens in paths:
            logits, state = self._advance(self._state_at(start), start, tokens)
            self._path_states.append(state)
            found.append(logits)
        return found

    def _keep_path(self, index: int) -> None:
        start = self._paths[index].start
        self._saved = {at: state for at, state in self._saved.items() if at <= start}
        self._state = self._path_states[index]
        self._path_states = []

    def _restore_line(self) -> None:
        self._path_states = []

    def _state_at(self, length: int) -> Any:
        """Return a copy of the state after the first ``length`` ids of the line."""
        if length == len(self.ids):
            return copy.deepcopy(self._state)
        at = max((at for at in self._saved if at <= length), default=0)
        state = copy.deepcopy(self._saved[at]) if at else None
        if at < length:
            _, state = self._advance(state, at, self.ids[at:length])
        return state

    def _advance(self, state: Any, at: int, ids: Sequence[int]) -> tuple[Tensor, Any]:
        if state is None or not self._stepwise:
            return self._run(ids, cache=state, positions=range(at, at + len(ids)))
        rows = []
        for i, id_ in enumerate(ids):
            logits, state = self._run([id_], cache=state, positions=[at + i])
            rows.append(logits)
        return torch.cat(rows), state


class RereadContext(Context):
    """Uses no cache: runs all ids again each time.

    Args:
        runner: the model.
        capacity: not used.
        each: whether to run them again for each id of a path, for models whose logits depend on
            how many ids follow.
    """

    def __init__(self, runner: Runner, capacity: int = 0, *, each: bool = False) -> None:
        super().__init__(runner, capacity)
        self._each = each

    def _run_line(self, ids: Sequence[int]) -> Tensor:
        return self._last([*self.ids, *ids])

    def _cut(self, length: int) -> None:
        """There is no cache to change."""

    def _run_paths(self, paths: Sequence[Path]) -> list[Tensor]:
        found = []
        for start, tokens in paths:
            whole = [*self.ids[:start], *tokens]
            if self._each:
                found.append(
                    torch.stack([self._last(whole[: end + 1]) for end in range(start, len(whole))])
                )
            else:
                logits, _ = self._run(whole, use_cache=False, keep=len(tokens))
                found.append(logits)
        return found

    def _keep_path(self, index: int) -> None:
        """There is no cache to change."""

    def _last(self, ids: Sequence[int]) -> Tensor:
        logits, _ = self._run(ids, use_cache=False, keep=1)
        return logits[-1]
