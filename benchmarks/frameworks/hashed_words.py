"""An embedding that needs no model and no download: hashed words with TF-IDF weights.

The weights belong to the corpus that the embedding is created for.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable

from llama_index.core.base.embeddings.base import BaseEmbedding

__all__ = ["HashedWords"]

_WORD = re.compile(r"[a-z0-9]+")


class HashedWords(BaseEmbedding):
    """An embedding of text as a vector of hashed words.

    Args:
        weights: weight of each word; other words do not count.
        size: number of components of a vector.
    """

    model_name: str = "hashed-words"
    weights: dict[str, float]
    size: int = 4096

    @classmethod
    def of(cls, texts: Iterable[str], **options: int) -> HashedWords:
        """Create an embedding that gives a word more weight the rarer it is in ``texts``."""
        known = [set(_words(text)) for text in texts]
        seen = Counter(word for words in known for word in words)
        weights = {word: math.log((1 + len(known)) / count) for word, count in seen.items()}
        return cls(weights=weights, **options)

    @classmethod
    def class_name(cls) -> str:
        return "HashedWords"

    def _get_text_embedding(self, text: str) -> list[float]:
        vector = [0.0] * self.size
        for word in _words(text):
            vector[zlib.crc32(word.encode()) % self.size] += self.weights.get(word, 0.0)
        return vector

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def _words(text: str) -> list[str]:
    """Return the words in lower case, without a plural s."""
    return [word[:-1] if word.endswith("s") else word for word in _WORD.findall(text.lower())]
