"""Logits -> the next id. A draw belongs to (seed, base model, position).

This module knows nothing of text or caches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from specfuse_core.config import SamplingParams

__all__ = ["Chooser", "Sampler", "uniform"]

#: The largest logits that are sorted first; the whole vocabulary only if these do not suffice.
_SHORTLIST = 1024


class Chooser(Protocol):
    """Whatever chooses the next id of a draft."""

    def choose(self, logits: Tensor, position: int, context: Sequence[int]) -> int:
        """The id at ``position``, from ``logits`` ``[V]`` after the ids ``context``."""
        ...


def uniform(seed: int, name: str, position: int) -> float:
    """A number in [0, 1) that depends on its three arguments alone."""
    key = f"{seed}\0{name}\0{position}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=6).digest(), "big") / 2**48


class Sampler:
    """Draws as transformers' logits processors would filter: repetition penalty, temperature,
    top-k, top-p, min-p, in this order.

    Args:
        params: the user's sampling parameters; ``temperature=0`` takes the largest logit.
        name: the base model's name in the ensemble.
        undraftable: ids that may never be drawn.
    """

    def __init__(self, params: SamplingParams, name: str, undraftable: Tensor) -> None:
        self._params = params
        self._name = name
        self._undraftable = undraftable

    def choose(self, logits: Tensor, position: int, context: Sequence[int]) -> int:
        """The id at ``position``, from ``logits`` ``[V]`` after the ids ``context``."""
        params = self._params
        undraftable = self._undraftable.to(logits.device)
        logits = logits.float().index_fill(0, undraftable, -torch.inf)
        if params.repetition_penalty != 1.0:
            logits = _penalised(logits, context, params.repetition_penalty)
        if params.temperature == 0:
            return int(logits.argmax())
        return self._draw(
            logits / params.temperature, uniform(params.seed or 0, self._name, position)
        )

    def _draw(self, logits: Tensor, u: float) -> int:
        params = self._params
        size = len(logits)
        top = min(params.top_k or size, size)
        mass = logits.logsumexp(0) if top == size else logits.topk(top).values.logsumexp(0)
        for count in (min(_SHORTLIST, top), top):
            values, ids = logits.topk(count)
            probabilities = (values - mass).double().exp()
            cumulative = probabilities.cumsum(0)
            kept = self._kept(probabilities, cumulative)
            # Either a filter cut within the shortlist, or the draw falls into it all the same.
            if kept < count or count == top or (self._unfiltered and u < cumulative[-1]):
                break
        share = 1.0 if self._unfiltered and count < top else float(cumulative[kept - 1])
        index = int(torch.searchsorted(cumulative[:kept], u * share, right=True))
        return int(ids[min(index, kept - 1)])

    @property
    def _unfiltered(self) -> bool:
        return self._params.top_p == 1 and self._params.min_p == 0

    def _kept(self, probabilities: Tensor, cumulative: Tensor) -> int:
        """How many of the sorted ``probabilities`` pass top-p and then min-p; at least one."""
        kept = len(probabilities)
        if self._params.top_p < 1:
            kept = int((cumulative - probabilities < self._params.top_p).sum())
        if self._params.min_p > 0:
            likely = probabilities[:kept] >= self._params.min_p * probabilities[0]
            kept = int(likely.sum())
        return max(kept, 1)


def _penalised(logits: Tensor, context: Sequence[int], penalty: float) -> Tensor:
    seen = torch.tensor(sorted(set(context)), device=logits.device)
    values = logits[seen]
    return logits.index_copy(0, seen, torch.where(values < 0, values * penalty, values / penalty))
