"""Texts, tools and helpers that several groups of checks use."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import LLM, ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import TextNode
from llama_index.core.tools import FunctionTool
from llama_index_instrumentation import get_dispatcher
from pydantic import BaseModel, Field

from benchmarks.frameworks.hashed_words import HashedWords

__all__ = [
    "ANSWER",
    "EXTRACT",
    "FACTS",
    "ORDER",
    "PERSON",
    "PRICE",
    "QUESTION",
    "TOTAL",
    "Orders",
    "Person",
    "Pet",
    "asked",
    "counting",
    "fact_index",
    "fact_nodes",
    "joined",
    "new_memory",
    "or_says_why",
    "order_tool",
    "says",
    "watching",
    "with_set",
]

FACTS = ("The hall has 12 lamps.", "The attic has 7 lamps.", "Anna lives in Oslo.")
QUESTION = "How many lamps are in the attic?"
ANSWER = "7"
TOTAL = "How many lamps are in the hall and the attic in total?"
ORDER = "Please order 12 lamps."
PRICE = "36"
PERSON = "Anna is 31 years old. Anna lives in Oslo."
EXTRACT = "Extract the data. Give a JSON object with the keys name, age, city: {text}"


class Person(BaseModel):
    """A person."""

    name: str
    age: int
    city: str


class Pet(BaseModel):
    """An animal and its owner."""

    kind: str = Field(description="cat, dog, ...")
    owner: Person


class Orders:
    """The orders that were made with a tool."""

    def __init__(self) -> None:
        self.quantities: list[int] = []

    def order_lamps(self, quantity: int) -> str:
        """Order lamps."""
        self.quantities.append(quantity)
        return f'{{"price": {3 * quantity}}}'


def order_tool(orders: Orders) -> FunctionTool:
    """Return a tool that orders lamps."""
    return FunctionTool.from_defaults(orders.order_lamps)


def says(text: Any, expected: str, content: bool) -> None:
    """Assert that ``text`` is not empty and, with ``content``, that it contains ``expected``."""
    assert isinstance(text, str), f"the answer is not text: {text!r}"
    assert text.strip() not in ("", "Empty Response"), "the answer is empty"
    if content:
        assert re.search(rf"\b{re.escape(expected)}\b", text), f"{expected!r} is not in {text!r}"


@contextmanager
def or_says_why(content: bool, *errors: type[Exception]) -> Iterator[None]:
    """Unless content is checked, accept one of ``errors`` instead of a result."""
    with contextlib.suppress(*(() if content else errors)):
        yield


def fact_nodes() -> list[TextNode]:
    """Return a node for each of the facts."""
    return [TextNode(text=fact) for fact in FACTS]


def fact_index() -> VectorStoreIndex:
    """Return an index of the facts by their words."""
    return VectorStoreIndex(fact_nodes(), embed_model=HashedWords.of(FACTS))


def asked(question: str) -> list[ChatMessage]:
    """Return the facts and the question as a user message."""
    return [ChatMessage(role="user", content="\n".join([*FACTS, question]))]


async def joined(pieces: AsyncIterator[str]) -> str:
    """Join all pieces of a stream."""
    return "".join([piece async for piece in pieces])


def new_memory() -> ChatMemoryBuffer:
    """Return an empty memory for a chat engine or an agent."""
    # The default memory is a database whose thread outlives the event loop.
    return ChatMemoryBuffer.from_defaults(token_limit=1000, tokenizer_fn=str.split)


@contextmanager
def with_set(llm: LLM, name: str, value: Any) -> Iterator[None]:
    """Set a field of the LLM temporarily."""
    before = getattr(llm, name)
    setattr(llm, name, value)
    try:
        yield
    finally:
        setattr(llm, name, before)


@contextmanager
def counting(llm: LLM) -> Iterator[TokenCountingHandler]:
    """Attach LlamaIndex's token counter to the LLM. It counts words."""
    counter = TokenCountingHandler(tokenizer=str.split)
    with with_set(llm, "callback_manager", CallbackManager([counter])):
        yield counter


class _Keeping(BaseEventHandler):
    events: list[Any] = Field(default_factory=list)

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.events.append(event)


@contextmanager
def watching() -> Iterator[list[Any]]:
    """Collect all events of the instrumentation."""
    root, handler = get_dispatcher(), _Keeping()
    root.add_event_handler(handler)
    try:
        yield handler.events
    finally:
        root.event_handlers.remove(handler)
