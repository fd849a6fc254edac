"""Assigns phrasings and combinations to training, validation and test, by a hash of their words.

Each phrasing and each combination (such as a thing in a place, or two numbers to add) belongs to
one split, which never changes. This module knows nothing of the meaning of words.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from enum import StrEnum


class Split(StrEnum):
    """A part of the data: train on `TRAIN`, choose settings on `VALIDATION`, report on `TEST`."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


_BUCKETS = 10


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())


def split_of(*parts: object) -> Split:
    """Return the split of a combination: a tenth each belongs to test and validation."""
    bucket = _hash("|".join(str(part) for part in parts)) % _BUCKETS
    return {0: Split.TEST, 1: Split.VALIDATION}.get(bucket, Split.TRAIN)


class Phrasings:
    """Phrasings of one sentence, divided among the splits: about a tenth each is held out.

    Args:
        options: the phrasings; at least three.

    Raises:
        ValueError: if there are fewer than three phrasings.
    """

    def __init__(self, options: Sequence[str]) -> None:
        ranked = sorted(dict.fromkeys(options), key=_hash)
        if len(ranked) < 3:
            raise ValueError(f"at least three phrasings are needed to hold some out, got {ranked}.")
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
