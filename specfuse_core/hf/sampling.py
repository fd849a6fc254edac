"""Logits -> the next id. The noise of a draw belongs to (seed, base model, position, id).

A draw takes the largest sum of log-probability and Gumbel noise, which draws by the probabilities.
Since an id's noise depends on nothing else, rounding in the logits changes a draw only where two
sums are level, however flat the distribution. This module knows nothing of text or caches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from specfuse_core.config import SamplingParams

__all__ = ["Chooser", "Sampler", "gumbel"]

#: The largest logits that are sorted first; the whole vocabulary only if these do not suffice.
_SHORTLIST = 1024
#: 2 ** 64 over the golden ratio, as a signed number.
_GOLDEN = -0x61C8864680B583EB


class Chooser(Protocol):
    """Whatever chooses the next id of a draft."""

    def choose(self, logits: Tensor, position: int, context: Sequence[int]) -> int:
        """The id at ``position``, from ``logits`` ``[V]`` after the ids ``context``."""
        ...


def gumbel(seed: int, name: str, position: int, ids: Tensor) -> Tensor:
    """Standard Gumbel noise ``[N]`` for each of ``ids`` ``[N]``, from these four alone.

    Counter-based, so that only the ids that may be drawn cost anything: splitmix64 (Steele, Lea
    and Flood, OOPSLA 2014), started at a hash of the first three, with the id as its counter.
    """
    key = hashlib.blake2b(f"{seed}\0{name}\0{position}".encode(), digest_size=8).digest()
    # Sums and products of 64-bit integers wrap around.
    bits = ids * _GOLDEN + int.from_bytes(key, "big", signed=True)
    bits = (bits ^ _shifted(bits, 30)) * -0x40A7B892E31B1A47
    bits = (bits ^ _shifted(bits, 27)) * -0x6B2FB644ECCEEE15
    bits = bits ^ _shifted(bits, 31)
    # 52 bits and a half, out of 2 ** 52: neither 0 nor 1.
    uniform = (_shifted(bits, 12).double() + 0.5) * 2.0**-52
    return -(-uniform.log()).log()


def _shifted(bits: Tensor, count: int) -> Tensor:
    """``bits`` to the right, as if they had no sign."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


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
        values, ids = self._survivors(logits / params.temperature)
        noise = gumbel(params.seed or 0, self._name, position, ids)
        return int(ids[(values + noise).argmax()])

    def _survivors(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """What passes top-k, top-p and min-p: logits ``[N]`` and their ids ``[N]``."""
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
        """How many of the sorted ``probabilities`` pass top-p and then min-p; at least one."""
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
