"""A query engine that streams its answer and shows its sources and the author of each segment.

The notes come from the generator of the bundled models' training data. The embedding hashes words.

    pip install '.[llamaindex]'
    python examples/llamaindex_query_engine.py
"""

import math
import re
import zlib
from pathlib import Path
from typing import Any

from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import TextNode
from pydantic import PrivateAttr

from llamaindex_specfuse import SpecFuseLLM, capture

NOTES = (Path(__file__).parent / "notes.txt").read_text(encoding="utf-8").splitlines()
QUESTIONS = [
    "How many bowls are in the hospital and the basement in total?",
    "Where does Karen live?",
]


class HashedWords(BaseEmbedding):
    """An embedding of hashed words with TF-IDF weights."""

    _known: list[set[str]] = PrivateAttr()

    def __init__(self, corpus: list[str], **options: Any) -> None:
        super().__init__(**options)
        self._known = [set(self._words(text)) for text in corpus]

    def _get_text_embedding(self, text: str) -> list[float]:
        vector = [0.0] * 1024
        for word in self._words(text):
            seen = sum(word in words for words in self._known)
            weight = math.log((1 + len(self._known)) / (1 + seen))
            vector[zlib.crc32(word.encode()) % 1024] += weight
        return vector

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    @staticmethod
    def _words(text: str) -> list[str]:
        return re.findall(r"[a-z0-9]+", text.lower())


def main() -> None:
    Settings.llm = SpecFuseLLM()
    Settings.tokenizer = Settings.llm.tokenizer
    # The store sorts nodes of equal similarity by their ids, which are random by default.
    nodes = [TextNode(id_=line, text=line) for line in NOTES]
    index = VectorStoreIndex(nodes, embed_model=HashedWords(NOTES))
    engine = index.as_query_engine(streaming=True, similarity_top_k=3)
    for question in QUESTIONS:
        print(f"> {question}")
        with capture() as trace:
            # The models run when the stream is read.
            response: Any = engine.query(question)
            for piece in response.response_gen:
                print(piece, end="", flush=True)
            print()
        for source in response.source_nodes:
            print(f"   source | {source.get_content()}")
        for won in trace.rounds:
            print(f"{won.model:>9} | {won.text.strip()}")


if __name__ == "__main__":
    main()
