"""Retrieval with a LangChain chain over a small vector store, without a download.

The notes come from the generator of the bundled models' training data. The embedding hashes words.

    pip install '.[examples]'
    python examples/langchain_rag.py
"""

import math
import re
import zlib
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_specfuse import ChatSpecFuse

NOTES = (Path(__file__).parent / "notes.txt").read_text(encoding="utf-8").splitlines()
PROMPT = (
    "Answer the question based only on the following context:\n{context}\n\nQuestion: {question}"
)
QUESTIONS = [
    "How many bowls are in the hospital and the basement in total?",
    "Where does Karen live?",
]


class HashedWords(Embeddings):
    """An embedding of hashed words with TF-IDF weights."""

    def __init__(self, corpus: list[str], size: int = 1024) -> None:
        self.size = size
        self.known = [set(self._words(text)) for text in corpus]

    def embed_query(self, text: str) -> list[float]:
        vector = [0.0] * self.size
        for word in self._words(text):
            seen = sum(word in words for words in self.known)
            weight = math.log((1 + len(self.known)) / (1 + seen))
            vector[zlib.crc32(word.encode()) % self.size] += weight
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    @staticmethod
    def _words(text: str) -> list[str]:
        return re.findall(r"[a-z0-9]+", text.lower())


def joined(documents: list[Document]) -> str:
    return "\n".join(document.page_content for document in documents)


def main() -> None:
    store = InMemoryVectorStore(HashedWords(NOTES))
    store.add_documents([Document(line) for line in NOTES])
    chain = (
        {
            "context": store.as_retriever(search_kwargs={"k": 4}) | joined,
            "question": RunnablePassthrough(),
        }
        | ChatPromptTemplate.from_template(PROMPT)
        | ChatSpecFuse()
        | StrOutputParser()
    )
    for question in QUESTIONS:
        print(f"> {question}")
        for piece in chain.stream(question):
            print(piece, end="", flush=True)
        print()


if __name__ == "__main__":
    main()
