"""Checks of chat engines in all modes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.llms import LLM
from llama_index.core.memory import ChatMemoryBuffer

from benchmarks.frameworks.llamaindex_matrix.checks import Checks
from benchmarks.frameworks.llamaindex_matrix.common import (
    ANSWER,
    QUESTION,
    asked,
    fact_index,
    joined,
    new_memory,
    says,
)

CHECKS = Checks()


_ENGINES: dict[str, tuple[Callable[[LLM], Any], bool]] = {
    "simple": (lambda llm: SimpleChatEngine.from_defaults(llm=llm, memory=new_memory()), True),
    "context": (
        lambda llm: ContextChatEngine.from_defaults(
            retriever=fact_index().as_retriever(similarity_top_k=1), llm=llm, memory=new_memory()
        ),
        True,
    ),
    "condense question": (
        lambda llm: CondenseQuestionChatEngine.from_defaults(
            query_engine=fact_index().as_query_engine(llm=llm, similarity_top_k=1),
            llm=llm,
            memory=new_memory(),
        ),
        True,
    ),
    "condense plus context": (
        lambda llm: CondensePlusContextChatEngine.from_defaults(
            retriever=fact_index().as_retriever(similarity_top_k=1), llm=llm, memory=new_memory()
        ),
        True,
    ),
}


async def _converse(kind: str, way: str, llm: LLM, content: bool) -> None:
    engine = _ENGINES[kind][0](llm)
    # The simple engine does not retrieve anything.
    question = asked(QUESTION)[0].content if kind == "simple" else QUESTION
    if way == "chat":
        said = engine.chat(question).response
    elif way == "achat":
        said = (await engine.achat(question)).response
    elif way == "stream":
        said = "".join(engine.stream_chat(question).response_gen)
    else:
        said = await joined((await engine.astream_chat(question)).async_response_gen())
    says(said, ANSWER, content)
    roles = [message.role.value for message in engine.chat_history]
    assert roles == ["user", "assistant"], roles
    assert engine.chat_history[1].content == said
    follow = engine.chat("And where does Anna live?").response
    assert isinstance(follow, str)
    assert len(engine.chat_history) == 4


for _kind, (_, _able) in _ENGINES.items():
    for _way in ("chat", "achat", "stream", "astream"):
        CHECKS.add("chat engines", bundled=_able, name=f"{_kind} chat engine, {_way}")(
            partial(_converse, _kind, _way)
        )


@CHECKS.add("chat engines")
def _memory_keeps_to_its_limit(llm: LLM, content: bool) -> None:
    memory = ChatMemoryBuffer.from_defaults(token_limit=40, tokenizer_fn=str.split)
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
    for _ in range(4):
        says(engine.chat(asked(QUESTION)[0].content or "").response, ANSWER, content)
    assert len(memory.get_all()) == 8
    assert len(memory.get()) < 8
