"""What a model has read for one request, and how it looks at continuations without reading them.

A context holds a *line* of ids that the model has run. *Paths* are continuations of the line, or
of a start of it; ``branch`` gives their logits and leaves the line alone, ``adopt`` makes one of
them the line. The classes differ in method and cost, never in result:

- ``PackedContext``: all paths in one forward pass, as a trie, with a 4-D mask;
- ``CroppedContext``: one forward pass per path, rows taken out again (models that build their own
  position bias from a 2-D mask, such as ALiBi);
- ``SnapshotContext``: copies of the whole state, for recurrent and hybrid models;
- ``RereadContext``: no cache at all, for models whose cached decoding is itself wrong.

Which one is right for a model is measured, see ``probe``.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from specfuse_core.hf.cache import FullLengthCache, Rows
from specfuse_core.hf.runner import MaskForm, Runner

__all__ = [
    "Context",
    "CroppedContext",
    "PackedContext",
    "Path",
    "RereadContext",
    "SnapshotContext",
]


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


class _RowContext(Context):
    """Common ground of the methods that hold the line as rows of a KV cache."""

    def __init__(self, runner: Runner, capacity: int = 0) -> None:
        super().__init__(runner, capacity)
        self._cache = FullLengthCache(capacity)

    def release(self) -> None:
        super().release()
        self._cache = FullLengthCache(0)

    def _run_line(self, ids: Sequence[int]) -> Tensor:
        positions = range(len(self.ids), len(self.ids) + len(ids))
        logits, _ = self._run(ids, cache=self._cache, positions=positions, keep=1)
        return logits[-1]

    def _cut(self, length: int) -> None:
        self._cache.truncate(length)

    def _restore_line(self) -> None:
        self._cache.truncate(len(self.ids))


class PackedContext(_RowContext):
    """All paths in one forward pass: a trie of new rows behind the line's.

    Args:
        form: how the model takes 4-D masks.
    """

    one_pass = True

    def __init__(self, runner: Runner, capacity: int = 0, *, form: MaskForm = "full") -> None:
        super().__init__(runner, capacity)
        self._form = form
        self._nodes: list[list[int]] = []

    def _run_paths(self, paths: Sequence[Path]) -> list[Tensor]:
        trie = _Trie(paths)
        logits, _ = self._run(
            trie.tokens, cache=self._cache, positions=trie.positions, mask=self._mask(trie)
        )
        self._nodes = trie.nodes
        return [logits[nodes] for nodes in trie.nodes]

    def _keep_path(self, index: int) -> None:
        rows = [len(self.ids) + node for node in self._nodes[index]]
        self._cache.move(rows, self._paths[index].start)

    def _mask(self, trie: _Trie) -> Tensor | dict[str, Tensor]:
        line = len(self.ids)
        seen = np.concatenate(
            [np.arange(line)[None, :] < np.array(trie.starts)[:, None], trie.ancestors], axis=1
        )  # [T, line + T]
        if self._form == "full":
            return self._additive(seen)
        at = np.array(trie.positions)
        distance = at[:, None] - np.concatenate([np.arange(line), at])[None, :]
        near = seen & (distance < (self._runner.window or line + len(at)))
        if self._form == "window":
            return self._additive(near)
        return {
            "full_attention": self._additive(seen),
            "sliding_attention": self._additive(near),
        }

    def _additive(self, seen: np.ndarray[Any, np.dtype[np.bool_]]) -> Tensor:
        # Additive floats are the only form that both sdpa and eager attention take right.
        dtype, device = self._runner.dtype, self._runner.device
        mask = torch.zeros(seen.shape, dtype=dtype, device=device)
        mask.masked_fill_(~torch.from_numpy(seen).to(device), torch.finfo(dtype).min)
        return mask[None, None]


class _Trie:
    """Paths that begin alike share rows; parents come before children.

    ``tokens``, ``positions``, ``starts``: per node ``[T]``; ``ancestors``: which nodes each node
    sees, itself included ``[T, T]``; ``nodes``: the nodes of each path ``[P][...]``.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.starts: list[int] = []
        self.nodes: list[list[int]] = []
        parents: list[int] = []
        index: dict[tuple[int, int, int], int] = {}
        for start, tokens in paths:
            node = -1
            nodes = []
            for depth, token in enumerate(tokens):
                key = (start, node, token)
                if key not in index:
                    index[key] = len(self.tokens)
                    self.tokens.append(token)
                    self.positions.append(start + depth)
                    self.starts.append(start)
                    parents.append(node)
                node = index[key]
                nodes.append(node)
            self.nodes.append(nodes)
        self.ancestors = np.eye(len(parents), dtype=bool)
        for node, parent in enumerate(parents):
            if parent >= 0:
                self.ancestors[node] |= self.ancestors[parent]


class CroppedContext(_RowContext):
    """One forward pass per path; its rows are taken out, and the line's put back."""

    def __init__(self, runner: Runner, capacity: int = 0) -> None:
        super().__init__(runner, capacity)
        self._rows: list[Rows] = []

    def _run_paths(self, paths: Sequence[Path]) -> list[Tensor]:
        self._rows = []
        found = []
        for start, tokens in paths:
            line = self._cache.take(start, len(self.ids))
            self._cache.truncate(start)
            positions = range(start, start + len(tokens))
            logits, _ = self._run(tokens, cache=self._cache, positions=positions)
            self._rows.append(self._cache.take(start, start + len(tokens)))
            self._cache.put(start, line)
            found.append(logits)
        return found

    def _keep_path(self, index: int) -> None:
        self._cache.put(self._paths[index].start, self._rows[index])
        self._rows = []

    def _restore_line(self) -> None:
        self._rows = []


class SnapshotContext(Context):
    """Copies of the whole state, taken where the line may have to go back to.

    Args:
        stepwise: run token by token from the state, for models whose multi-token continuation
            is wrong.
    """

    #: States kept besides the one after the first ids (the prompt).
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
        """A state of its own after the line's first ``length`` ids."""
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
    """No cache: everything is run again each time."""

    def _run_line(self, ids: Sequence[int]) -> Tensor:
        logits, _ = self._run([*self.ids, *ids], use_cache=False, keep=1)
        return logits[-1]

    def _cut(self, length: int) -> None:
        """Nothing is held."""

    def _run_paths(self, paths: Sequence[Path]) -> list[Tensor]:
        found = []
        for start, tokens in paths:
            logits, _ = self._run([*self.ids[:start], *tokens], use_cache=False, keep=len(tokens))
            found.append(logits)
        return found

    def _keep_path(self, index: int) -> None:
        """Nothing is held."""
