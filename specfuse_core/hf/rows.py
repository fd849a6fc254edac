"""Contexts that store the line as rows of a KV cache.

- ``PackedContext`` runs all paths in one forward pass, as a trie with a 4-D mask.
- ``CroppedContext`` runs one forward pass per path and removes its rows afterwards. It is for
  models that build their own position bias from a 2-D mask (such as ALiBi).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from specfuse_core.hf.cache import FullLengthCache, Rows
from specfuse_core.hf.context import Context, Path
from specfuse_core.hf.runner import MaskForm, Runner

__all__ = ["CroppedContext", "PackedContext", "Trie"]

Seen = np.ndarray[Any, np.dtype[np.bool_]]
Places = np.ndarray[Any, np.dtype[np.int_]]


class _RowContext(Context):
    """Base class of the contexts that store the line as rows of a KV cache."""

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
    """Runs all paths in one forward pass, as a trie of new rows after those of the line.

    Args:
        runner: the model.
        capacity: number of ids to allocate memory for.
        form: the form of 4-D masks that the model expects.
    """

    one_pass = True

    def __init__(self, runner: Runner, capacity: int = 0, *, form: MaskForm = "full") -> None:
        super().__init__(runner, capacity)
        self._form = form
        self._nodes: list[list[int]] = []

    def _run_paths(self, paths: Sequence[Path]) -> list[Tensor]:
        trie = Trie(paths)
        logits, _ = self._run(
            trie.tokens, cache=self._cache, positions=trie.positions, mask=self._mask(trie)
        )
        self._nodes = trie.nodes
        return [logits[nodes] for nodes in trie.nodes]

    def _keep_path(self, index: int) -> None:
        rows = [len(self.ids) + node for node in self._nodes[index]]
        self._cache.move(rows, self._paths[index].start)

    def _mask(self, trie: Trie) -> Tensor | dict[str, Tensor]:
        at = np.array(trie.positions)
        return self._masks(self._seen(trie), at, np.concatenate([np.arange(len(self.ids)), at]))

    def _seen(self, trie: Trie) -> Seen:
        """Return which ids of the line and nodes of the trie each node sees. ``[T, line + T]``"""
        line = np.arange(len(self.ids))[None, :] < np.array(trie.starts)[:, None]
        return np.concatenate([line, trie.ancestors], axis=1)

    def _masks(self, seen: Seen, rows: Places, columns: Places) -> Tensor | dict[str, Tensor]:
        """Convert ``seen`` to the form of mask that the model expects.

        Args:
            seen: which columns each row sees. ``[T, S]``
            rows: positions of the tokens of the rows. ``[T]``
            columns: positions of the tokens of the columns. ``[S]``
        """
        if self._form == "full":
            return self._additive(seen)
        distance = rows[:, None] - columns[None, :]
        near = seen & (distance < (self._runner.window or len(columns)))
        if self._form == "window":
            return self._additive(near)
        return {
            "full_attention": self._additive(seen),
            "sliding_attention": self._additive(near),
        }

    def _additive(self, seen: Seen) -> Tensor:
        # An additive float mask is the only form that both sdpa and eager attention handle.
        dtype, device = self._runner.dtype, self._runner.device
        mask = torch.zeros(seen.shape, dtype=dtype, device=device)
        mask.masked_fill_(~torch.from_numpy(seen).to(device), torch.finfo(dtype).min)
        return mask[None, None]


class Trie:
    """A trie of paths: paths with a common beginning share nodes. Parents come before children.

    Attributes:
        tokens: id of each node. ``[T]``
        positions: position of each node in the sequence. ``[T]``
        starts: number of ids of the line that each node sees. ``[T]``
        ancestors: which nodes each node sees, including itself. ``[T, T]``
        nodes: the nodes of each path. ``[P][...]``

    Args:
        paths: the paths.
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
    """Runs one forward pass per path, removes its rows, and restores the rows of the line."""

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
