"""Samples the next token id from logits.

Sampling takes the id with the largest sum of log-probability and Gumbel noise (the Gumbel-max
trick). The noise of an id depends only on seed, base model, position and id, so that rounding
errors of the logits change the result only if two sums are almost equal. This module knows nothing
of text or caches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from specfuse_core.config import SamplingParams

__all__ = ["Chooser", "Sampler", "gumbel"]

#: Number of the largest logits to sort first. All are sorted only if these are not enough.
_SHORTLIST = 1024
#: 2 ** 64 divided by the golden ratio, as a signed number.
_GOLDEN = -0x61C8864680B583EB


class Chooser(Protocol):
    """The interface of a sampler: it chooses the next id of a draft."""

    def choose(self, logits: Tensor, position: int, context: Sequence[int]) -> int:
        """Choose the id at ``position``.

        Args:
            logits: logits after the ids ``context``. ``[V]``
            position: position of the new id in the sequence.
            context: ids of the prompt and of the answer so far.
        """
        ...


def gumbel(seed: int, name: str, position: int, ids: Tensor) -> Tensor:
    """Return standard Gumbel noise for each of ``ids``. It depends on the four arguments only.

    The generator is splitmix64 (Steele, Lea and Flood, OOPSLA 2014). It starts at a hash of seed,
    name and position, and its counter is the id, so that noise is computed for ``ids`` only.

    Args:
        seed: seed of the request.
        name: name of the base model.
        position: position in the sequence.
        ids: token ids. ``[N]``

    Returns:
        The noise. ``[N]``
    """
    key = hashlib.blake2b(f"{seed}\0{name}\0{position}".encode(), digest_size=8).digest()
    # Sums and products of 64-bit integers wrap around.
    bits = ids * _GOLDEN + int.from_bytes(key, "big", signed=True)
    bits = (bits ^ _shifted(bits, 30)) * -0x40A7B892E31B1A47
    bits = (bits ^ _shifted(bits, 27)) * -0x6B2FB644ECCEEE15
    bits = bits ^ _shifted(bits, 31)
    # (52 random bits + 0.5) / 2 ** 52, which is neither 0 nor 1.
    uniform = (_shifted(bits, 12).double() + 0.5) * 2.0**-52
    return -(-uniform.log()).log()


def _shifted(bits: Tensor, count: int) -> Tensor:
    """Shift ``bits`` to the right as unsigned numbers."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


class Sampler:
    """Samples with the filters of transformers' logits processors.

    It applies repetition penalty, temperature, top-k, top-p and min-p, in this order.

    Args:
        params: the sampling parameters; ``temperature=0`` selects the largest logit.
        name: name of the base model in the ensemble.
        undraftable: ids that must never be sampled. ``[N]``
    """

    def __init__(self, params: SamplingParams, name: str, undraftable: Tensor) -> None:
        self._params = params
        self._name = name
        self._undraftable = undraftable

    def choose(self, logits: Tensor, position: int, context: Sequence[int]) -> int:
        """Choose the id at ``position``; see :class:`Chooser`."""
        params = self._params
        undraftable = self._undraftable.to(logits.device)
        logits = logits.float().index_fill(0, undraftable, -torch.inf)
        if params.repetition_penalty != 1.0:
            logits = _penalised(logits, context, params.repetition_penalty)
        if params.temperature == 0:
            return int(logits.argmax())
        values, ids = self._survivors(logits / params.temperature)
        noise = gumbel(params.seed or 0, self._name, position, ids)
        return int(ids[(values + noise).argmax()])

    def _survivors(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits ``[N]`` that pass top-k, top-p and min-p, and their ids ``[N]``."""
        params, size = self._params, len(logits)
        top = min(params.top_k or size, size)
        if params.top_p == 1 and params.min_p == 0:
            if top == size:
                return logits, torch.arange(size, device=logits.device)
            values, ids = logits.topk(top)
            return values, ids
        mass = logits.logsumexp(0) if top == size else logits.topk(top).values.logsumexp(0)
        for count in (min(_SHORTLIST, top), top):
            values, ids = logits.topk(count)
            kept = self._kept((values - mass).double().exp())
            if kept < count:
                break
        return values[:kept], ids[:kept]

    def _kept(self, probabilities: Tensor) -> int:
        """Return how many of the sorted ``probabilities`` pass top-p and min-p; at least one."""
        kept = len(probabilities)
        if self._params.top_p < 1:
            before = probabilities.cumsum(0) - probabilities
            kept = int((before < self._params.top_p).sum())
        if self._params.min_p > 0:
            likely = probabilities[:kept] >= self._params.min_p * probabilities[0]
            kept = int(likely.sum())
        return max(kept, 1)


def _penalised(logits: Tensor, context: Sequence[int], penalty: float) -> Tensor:
    seen = torch.tensor(sorted(set(context)), device=logits.device)
    values = logits[seen]
    return logits.index_copy(0, seen, torch.where(values < 0, values * penalty, values / penalty))
