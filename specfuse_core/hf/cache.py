"""A KV cache whose rows can be dropped, copied, restored and moved.

All layers keep all rows, even if their attention has a window. The attention mask then implements
the window, which is the only form that every tested architecture handles. This module knows nothing
of tokens.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

__all__ = ["FullLengthCache", "Rows", "holds_rows_only"]

#: Keys and values of some rows, per layer. ``[L][2][1, H, R, D]``
Rows = list[list[Tensor]]

#: Layers of transformers' caches that contain keys and values only.
_OF_ROWS = {DynamicLayer, DynamicSlidingWindowLayer}


class _FullLengthLayer(DynamicLayer):
    """The keys and values of one layer, in preallocated buffers ``[1, H, capacity, D]``."""

    def __init__(self, capacity: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.capacity = capacity
        self.length = 0
        self.buffers: list[Tensor] = []

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.buffers = [self._buffer(key_states), self._buffer(value_states)]
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        start, end = self.length, self.length + key_states.shape[-2]
        if end > self.capacity:
            # Doubling keeps the cost of copying linear in the final length.
            self.capacity = max(end, 2 * self.capacity)
            self.buffers = [self._grown(buffer) for buffer in self.buffers]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        keys, values = self.buffers
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.length = end
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.length

    def _buffer(self, states: Tensor) -> Tensor:
        batch, heads, _, width = states.shape
        return states.new_empty(batch, heads, self.capacity, width)

    def _grown(self, buffer: Tensor) -> Tensor:
        grown = self._buffer(buffer)
        grown[:, :, : self.length] = buffer[:, :, : self.length]
        return grown


class FullLengthCache(DynamicCache):
    """A cache whose layers keep all rows.

    Args:
        capacity: number of rows to allocate at first. More are allocated if needed.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.layer_class_to_replicate = cast(Any, partial(_FullLengthLayer, capacity))

    @property
    def _filled(self) -> list[_FullLengthLayer]:
        # Layers that use the keys and values of another layer stay empty.
        layers = cast(list[_FullLengthLayer], self.layers)
        return [layer for layer in layers if layer.buffers]

    def truncate(self, length: int) -> None:
        """Drop all rows after the first ``length`` ones."""
        for layer in self._filled:
            layer.length = length

    def take(self, start: int, end: int) -> Rows:
        """Return copies of the rows ``[start, end)``."""
        return [
            [buffer[:, :, start:end].clone() for buffer in layer.buffers] for layer in self._filled
        ]

    def put(self, start: int, rows: Rows) -> None:
        """Write ``rows`` at ``start``, and drop all rows after them."""
        for layer, taken in zip(self._filled, rows, strict=True):
            end = start + taken[0].shape[-2]
            for buffer, states in zip(layer.buffers, taken, strict=True):
                buffer[:, :, start:end] = states
            layer.length = end

    def move(self, rows: list[int], start: int) -> None:
        """Copy the rows with the given indices to ``start``, and drop all rows after them."""
        end = start + len(rows)
        for layer in self._filled:
            if rows != list(range(start, end)):
                index = torch.tensor(rows, device=layer.device)
                for buffer in layer.buffers:
                    buffer[:, :, start:end] = buffer.index_select(2, index)
            layer.length = end


def holds_rows_only(cache: Any) -> bool:
    """Whether every layer of a model's own cache contains only keys and values, in rows."""
    kinds = {type(layer) for layer in getattr(cache, "layers", ())}
    return bool(kinds) and kinds <= _OF_ROWS
