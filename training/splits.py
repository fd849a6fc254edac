"""What is held out of training: decided by a hash of the words, so that it never moves.

Phrasings and combinations (this thing in that place, this number plus that one) belong to one
split each. Knows nothing about what the words mean.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from enum import StrEnum


class Split(StrEnum):
    """Train on `TRAIN`, choose settings on `VALIDATION`, report on `TEST`."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


_BUCKETS = 10


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())


def split_of(*parts: object) -> Split:
    """The split a combination belongs to: one in ten each to test and to validation."""
    bucket = _hash("|".join(str(part) for part in parts)) % _BUCKETS
    return {0: Split.TEST, 1: Split.VALIDATION}.get(bucket, Split.TRAIN)


class Phrasings:
    """Ways to say one thing, divided among the splits: about a tenth each is held out."""

    def __init__(self, options: Sequence[str]) -> None:
        ranked = sorted(dict.fromkeys(options), key=_hash)
        if len(ranked) < 3:
            raise ValueError(f"three phrasings or more are needed to hold some out, got {ranked}")
        held = max(1, len(ranked) // _BUCKETS)
        self._options = {
            Split.TEST: ranked[:held],
            Split.VALIDATION: ranked[held : 2 * held],
            Split.TRAIN: ranked[2 * held :],
        }

    def of(self, split: Split) -> Sequence[str]:
        return self._options[split]

    def pick(self, rng: random.Random, split: Split) -> str:
        return rng.choice(self._options[split])
