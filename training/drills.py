"""Generates drills: token sequences without meaning that teach a model to look things up.

Attention heads that find what followed a token earlier (induction heads) emerge suddenly and late.
On drills they emerge within a few hundred cheap steps, for the whole vocabulary. The conversations
then only have to teach what to look up.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

IGNORED = -100
_MARKS = 3  # the first tokens stand for punctuation and are the same in every sequence


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, with a label for each: the id if the loss includes it, otherwise `IGNORED`."""

    ids: list[int]
    labels: list[int]


def repeat(rng: random.Random, words: range) -> Encoded:
    """Draw a line of random tokens twice. All but the first token of the copy are in the loss."""
    mark, content = words[0], words[_MARKS:]
    line = rng.choices(content, k=rng.randint(6, 22))
    return Encoded([*line, mark, *line], [IGNORED] * (len(line) + 2) + line[1:])


def recall(rng: random.Random, words: range) -> Encoded:
    """Draw records of a key and two values, then the same records in another order.

    The loss includes the values of the second part. All records have the same tokens between key
    and values. In some sequences, records may be reversed.
    """
    opening, closing, content = words[1], words[2], words[_MARKS:]
    filler = rng.choices(content, k=rng.randint(0, 2))
    keys = rng.sample(content, rng.randint(3, 8))
    values = {key: rng.choices(content, k=2) for key in keys}
    backwards = rng.random() < 0.5
    ids: list[int] = []
    for key in keys:
        if backwards and rng.random() < 0.5:
            ids += [opening, *values[key], *filler, key, closing]
        else:
            ids += [opening, key, *filler, *values[key], closing]
    labels = [IGNORED] * len(ids)
    for key in rng.sample(keys, len(keys)):
        ids += [opening, key, *filler, *values[key], closing]
        labels += [*[IGNORED] * (2 + len(filler)), *values[key], IGNORED]
    return Encoded(ids, labels)


def draw_drills(rng: random.Random, words: range, count: int) -> list[Encoded]:
    """Draw a batch of drills of one kind, over the token ids `words`."""
    drill = rng.choice((repeat, recall))
    return [drill(rng, words) for _ in range(count)]
