"""ChatSpecFuse in chains: retrieval, history, caches, limits, fallbacks."""

from __future__ import annotations

import asyncio
import time
import zlib
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import RunnablePassthrough
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_specfuse import ChatSpecFuse
from specfuse_core import FusionEngine
from specfuse_core.errors import AnswerTimeoutError
from specfuse_core.testing import ScriptedBackend


class Hashed(Embeddings):
    """Words hashed into a vector: no model, no download."""

    def embed_query(self, text: str) -> list[float]:
        vector = [0.0] * 512
        for word in text.lower().replace(".", " ").replace("?", " ").split():
            vector[zlib.crc32(word.encode()) % 512] += 1.0
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def scripted(*scripts: Any, **options: Any) -> ChatSpecFuse:
    backends = [ScriptedBackend(f"m{i}", script) for i, script in enumerate(scripts)]
    return ChatSpecFuse(engine=FusionEngine(backends), **options)


async def test_retrieval_then_an_answer_that_needs_two_models() -> None:
    rooms = {"hall": 12, "attic": 7, "cellar": 31, "kitchen": 4}
    store = InMemoryVectorStore(Hashed())
    store.add_documents([Document(f"The {room} has {n} lamps.") for room, n in rooms.items()])
    retriever = store.as_retriever(search_kwargs={"k": 2})
    prompt = ChatPromptTemplate.from_template("{context}\n\n{question}")

    def joined(documents: list[Document]) -> str:
        return "\n".join(document.page_content for document in documents)

    chain: Any = (
        {"context": retriever | joined, "question": RunnablePassthrough()}
        | prompt
        | ChatSpecFuse()
        | StrOutputParser()
    )
    question = "How many lamps are in the hall and the attic in total?"
    answer = chain.invoke(question)
    assert answer.endswith("The answer is 19.")
    pieces = [piece async for piece in chain.astream(question)]
    assert "".join(pieces) == answer
    assert len(pieces) > 3


# LangChain has deprecated both classes in favour of LangGraph's checkpoints; they are in wide use.
@pytest.mark.filterwarnings("ignore:The class `InMemoryChatMessageHistory` was deprecated")
@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")
def test_a_history_goes_along() -> None:
    def remember(request: Any, response: str) -> str:
        said = [message.content for message in request.messages if message.role == "user"]
        return f"You said {len(said)} things."[len(response) :]

    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{q}")])
    histories: dict[str, InMemoryChatMessageHistory] = {}
    chain = RunnableWithMessageHistory(
        prompt | scripted(remember),
        lambda session_id: histories.setdefault(session_id, InMemoryChatMessageHistory()),
        input_messages_key="q",
        history_messages_key="history",
    )
    config: Any = {"configurable": {"session_id": "1"}}
    assert chain.invoke({"q": "One"}, config).text == "You said 1 things."
    assert chain.invoke({"q": "Two"}, config).text == "You said 2 things."


async def test_a_cache_answers_what_it_knows_and_nothing_else() -> None:
    cache = InMemoryCache()
    backend = ScriptedBackend("a", "One two.")
    engine = FusionEngine([backend])
    model = ChatSpecFuse(engine=engine, cache=cache)
    first = model.invoke("Hello")
    assert model.invoke("Hello").text == first.text
    assert (await model.ainvoke("Hello")).text == first.text
    assert len(backend.sessions) == 1
    ChatSpecFuse(engine=engine, cache=cache, max_tokens=1).invoke("Hello")
    model.invoke("Hello", max_tokens=1)  # the same question to the same configuration
    twin = ChatSpecFuse(engine=FusionEngine([ScriptedBackend("a", "Three.")]), cache=cache)
    assert twin.invoke("Hello").text == "Three."
    assert len(backend.sessions) == 2


def test_a_rate_limiter_is_asked() -> None:
    limiter = InMemoryRateLimiter(requests_per_second=20, check_every_n_seconds=0.005)
    model = scripted("Hello.", rate_limiter=limiter)
    begun = time.monotonic()
    for _ in range(3):
        model.invoke("Hello")
    assert time.monotonic() - begun >= 0.1


async def test_other_models_take_over_and_errors_are_tried_again() -> None:
    class Failing(ScriptedBackend):
        left = 1

        def start(self, request: Any) -> Any:
            if self.left:
                self.left -= 1
                raise ConnectionError("the models are away")
            return super().start(request)

    def failing() -> ChatSpecFuse:
        return ChatSpecFuse(engine=FusionEngine([Failing("a", "Back again.")]))

    assert failing().with_fallbacks([scripted("Instead.")]).invoke("Hello").text == "Instead."
    assert failing().with_retry(wait_exponential_jitter=False).invoke("Hello").text == "Back again."
    retried = failing().with_retry(wait_exponential_jitter=False)
    assert (await retried.ainvoke("Hello")).text == "Back again."
    late = scripted("word " * 200, timeout=1e-9, max_tokens=200)
    instead = late.with_fallbacks(
        [scripted("In time.")], exceptions_to_handle=(AnswerTimeoutError,)
    )
    assert instead.invoke("Hello").text == "In time."


async def test_prompts_stream_through_a_chain() -> None:
    chain: Any = ChatPromptTemplate.from_template("{x}") | scripted("One two. " * 20)
    chain |= StrOutputParser()
    pieces = list(chain.stream({"x": "Hello"}))
    assert len(pieces) > 2
    assert "".join(pieces) == chain.invoke({"x": "Hello"})
    answers = await asyncio.gather(*(chain.ainvoke({"x": str(n)}) for n in range(5)))
    assert set(answers) == {"".join(pieces)}
