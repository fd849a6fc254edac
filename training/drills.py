"""Drills: token sequences without meaning that teach a model to look things up.

Attention that finds what followed a word earlier on appears all at once, and late; on sequences
made of nothing else it appears within a few hundred cheap steps, over the whole vocabulary. What
the conversations then have to teach is what to look up.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

IGNORED = -100
_MARKS = 3  # the first tokens stand for punctuation: they are the same in every sequence


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids and, for each, itself if it is to be learnt or `IGNORED`."""

    ids: list[int]
    labels: list[int]


def repeat(rng: random.Random, words: range) -> Encoded:
    """A line of random tokens, twice; the second time is learnt but for its first token."""
    mark, content = words[0], words[_MARKS:]
    line = rng.choices(content, k=rng.randint(6, 22))
    return Encoded([*line, mark, *line], [IGNORED] * (len(line) + 2) + line[1:])


def recall(rng: random.Random, words: range) -> Encoded:
    """Records of a key and two values, then the keys in another order; the values are learnt.

    All records share what stands between key and value; in some sequences a record may also be
    told backwards.
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
    """A batch of one kind, over the tokens `words`."""
    drill = rng.choice((repeat, recall))
    return [drill(rng, words) for _ in range(count)]
