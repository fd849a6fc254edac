"""What SpecFuseLLM tells of the fusion: events, traces of whole runs, and what is counted."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core import SummaryIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import TextNode
from llama_index.core.tools import FunctionTool
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import instrument_tags
from pydantic import BaseModel, PrivateAttr
from wellread import well_read

from llamaindex_specfuse import FusionRoundEvent, FusionTraceHandler, SpecFuseLLM, capture
from specfuse_core import FusionEngine
from specfuse_core.testing import ScriptedBackend

HELLO = [ChatMessage(role="user", content="Hello")]
SCRIPT = "One two three four. " * 5
FACTS = ["The hall has 12 lamps.", "The attic has 7 lamps."]
QUESTION = "How many lamps are in the attic?"


def llm_of(*scripts: Any, **options: Any) -> SpecFuseLLM:
    backends = [ScriptedBackend("abc"[i], script) for i, script in enumerate(scripts)]
    return SpecFuseLLM(engine=FusionEngine(backends), **options)


class Keeping(BaseEventHandler):
    """Keeps all events."""

    _events: list[Any] = PrivateAttr(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self._events]

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self._events if isinstance(event, kind)]

    def handle(self, event: Any, **kwargs: Any) -> None:
        self._events.append(event)


class Spans(BaseSpanHandler[Any]):
    """Keeps the ids of all spans."""

    _ids: list[str] = PrivateAttr(default_factory=list)

    def new_span(self, id_: str, *args: Any, **kwargs: Any) -> None:
        self._ids.append(id_)

    def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> None:
        pass

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> None:
        pass


@pytest.fixture
def seen() -> Iterator[Keeping]:
    root, handler = get_dispatcher(), Keeping()
    root.add_event_handler(handler)
    yield handler
    root.event_handlers.remove(handler)


@pytest.fixture
def spans() -> Iterator[Spans]:
    root, handler = get_dispatcher(), Spans()
    root.add_span_handler(handler)
    yield handler
    root.span_handlers.remove(handler)


async def test_a_call_is_one_start_one_end_and_an_event_for_each_response(seen: Keeping) -> None:
    model = llm_of(SCRIPT)
    model.chat(HELLO)
    assert seen.names[0] == "LLMChatStartEvent"
    assert seen.names[-1] == "LLMChatEndEvent"
    inner = set(seen.names[1:-1])
    assert inner == {"FusionRoundEvent", "FusionEndEvent"}
    for streaming in (True, False):
        seen._events.clear()
        if streaming:
            responses = list(model.stream_chat(HELLO))
        else:
            responses = [each async for each in await model.astream_chat(HELLO)]
        assert seen.names.count("LLMChatStartEvent") == 1
        assert seen.names.count("LLMChatInProgressEvent") == len(responses)
        assert seen.names.count("LLMChatEndEvent") == 1
        assert len(seen.of(FusionRoundEvent)) == len(responses) - 1
    seen._events.clear()
    model.complete("Hello")
    list(model.stream_complete("Hello"))
    await model.achat(HELLO)
    await model.acomplete("Hello")
    starts = [name for name in seen.names if name.endswith("StartEvent")]
    assert starts == [
        "LLMCompletionStartEvent",
        "LLMCompletionStartEvent",
        "LLMChatStartEvent",
        "LLMCompletionStartEvent",
    ]
    json.dumps([event.model_dump(mode="json") for event in seen.of(FusionRoundEvent)])


async def test_rounds_tell_who_wrote_what(seen: Keeping) -> None:
    response = llm_of(SCRIPT, SCRIPT, segment_tokens=4).chat(HELLO)
    rounds = seen.of(FusionRoundEvent)
    assert [event.round for event in rounds] == list(range(1, len(rounds) + 1))
    assert "".join(event.text for event in rounds) == SCRIPT
    first = rounds[0]
    assert first.model in first.candidates == {"a": first.text, "b": first.text}
    assert set(first.votes) == set(first.scores) == set(first.weights) == {"a", "b"}
    assert set(first.scores["a"]) == {"a", "b"}
    assert response.raw is not None
    assert {event.request_id for event in rounds} == {response.raw["specfuse"]["request_id"]}
    assert first.model_dump()["class_name"] == "FusionRoundEvent"


async def test_rounds_join_the_span_of_their_call(seen: Keeping, spans: Spans) -> None:
    model = llm_of(well_read)
    index = SummaryIndex([TextNode(text=fact) for fact in FACTS])
    memory = ChatMemoryBuffer.from_defaults(token_limit=999, tokenizer_fn=str.split)
    engine = SimpleChatEngine.from_defaults(llm=model, memory=memory)

    async def astreamed() -> None:
        stream: Any = await index.as_query_engine(llm=model, streaming=True).aquery(QUESTION)
        [each async for each in stream.async_response_gen()]

    def streamed() -> None:
        stream: Any = index.as_query_engine(llm=model, streaming=True).query(QUESTION)
        list(stream.response_gen)

    ways: list[tuple[Callable[[], Any], str]] = [
        (lambda: index.as_query_engine(llm=model).query(QUESTION), "chat"),
        (lambda: index.as_query_engine(llm=model).aquery(QUESTION), "achat"),
        (streamed, "stream_chat"),
        (astreamed, "astream_chat"),
        (lambda: list(engine.stream_chat(QUESTION).response_gen), "stream_chat"),
        (lambda: model.acomplete("Hello"), "acomplete"),
    ]
    for run, endpoint in ways:
        seen._events.clear()
        with instrument_tags({"request": endpoint}):
            done = run()
        if asyncio.iscoroutine(done):
            with instrument_tags({"request": endpoint}):
                await done
        rounds = seen.of(FusionRoundEvent)
        assert rounds
        for event in rounds:
            assert event.span_id in spans._ids
            assert event.span_id.startswith(f"SpecFuseLLM.{endpoint}-")
        if endpoint in ("chat", "stream_chat"):
            assert {event.tags["request"] for event in rounds} == {endpoint}


class Answer(BaseModel):
    answer: str


def order_lamps(quantity: int) -> str:
    """Order lamps."""
    return f'{{"price": {3 * quantity}}}'


async def test_capture_gives_the_trace_of_any_run() -> None:
    model = llm_of(well_read, well_read)
    index = SummaryIndex([TextNode(text=fact) for fact in FACTS])

    with capture() as trace:
        index.as_query_engine(llm=model, response_mode="refine").query(QUESTION)
    assert [run.text for run in trace.runs] == [
        "The context does not say.",
        "The attic has 7 lamps.",
    ]
    assert all(run.summary and run.summary["finish_reason"] == "stop" for run in trace.runs)
    assert len(trace.rounds) == sum(len(run.rounds) for run in trace.runs)

    memory = ChatMemoryBuffer.from_defaults(token_limit=999, tokenizer_fn=str.split)
    with capture() as trace:
        chat = SimpleChatEngine.from_defaults(llm=model, memory=memory)
        streaming = chat.stream_chat(f"{FACTS[1]} {QUESTION}")
    # In a thread of its own, and after the block.
    assert "".join(streaming.response_gen) == trace.runs[0].text == "The attic has 7 lamps."

    with capture() as trace:
        agent = FunctionAgent(tools=[FunctionTool.from_defaults(order_lamps)], llm=model)
        await agent.run("Please order 12 lamps.", memory=memory)
    assert len(trace.runs) == 2
    called = [each for each in (trace.runs[0].summary or {})["segments"] if each["text"]]
    assert [each["channel"] for each in called] == ["tool_call"]
    assert "36" in trace.runs[1].text

    with capture() as trace:
        model.structured_predict(Answer, PromptTemplate("{text}"), text=f"{FACTS[1]} {QUESTION}")
    assert trace.runs[0].text == '{"answer": "The attic has 7 lamps."}'


async def test_captures_see_their_own_run_and_nest() -> None:
    model = llm_of(lambda request, response: request.messages[0].content[len(response) :])

    async def ask(text: str) -> list[str]:
        with capture() as trace:
            await asyncio.gather(model.acomplete(text), asyncio.sleep(0))
        return [run.text for run in trace.runs]

    with capture() as outer:
        assert list(await asyncio.gather(ask("One."), ask("Two."))) == [["One."], ["Two."]]
    assert {run.text for run in outer.runs} == {"One.", "Two."}
    model.complete("Three.")
    assert len(outer.runs) == 2
    other: list[Any] = []
    with capture() as trace:
        thread = threading.Thread(target=lambda: other.append(model.complete("Four.")))
        thread.start()
        thread.join()
    # A bare thread belongs to nobody.
    assert trace.runs == []
    assert other[0].text == "Four."


def test_a_handler_sees_the_whole_process() -> None:
    root, handler = get_dispatcher(), FusionTraceHandler()
    root.add_event_handler(handler)
    try:
        model = llm_of(SCRIPT)
        model.chat(HELLO)
        thread = threading.Thread(target=model.complete, args=("Hello",))
        thread.start()
        thread.join()
    finally:
        root.event_handlers.remove(handler)
    assert [run.text for run in handler.trace.runs] == [SCRIPT, SCRIPT]
    assert len({run.request_id for run in handler.trace.runs}) == 2


def test_an_abandoned_run_has_rounds_and_no_summary() -> None:
    model = llm_of(SCRIPT)
    with capture() as trace:
        stream: Any = model.stream_chat(HELLO)
        next(stream)
        stream.close()
    (run,) = trace.runs
    assert len(run.rounds) == 1
    assert run.summary is None


async def test_tokens_are_counted_as_the_engine_counts_them() -> None:
    counter = TokenCountingHandler(tokenizer=str.split)
    model = llm_of("One two.", callback_manager=CallbackManager([counter]))
    usage: list[Any] = []
    usage.append((model.chat(HELLO).raw or {})["usage"])
    usage.append((list(model.stream_chat(HELLO))[-1].raw or {})["usage"])
    usage.append(((await model.achat(HELLO)).raw or {})["usage"])
    usage.append((model.complete("Hello").raw or {})["usage"])
    counted = [
        (each.prompt_token_count, each.completion_token_count) for each in counter.llm_token_counts
    ]
    assert counted == [(each["prompt_tokens"], each["completion_tokens"]) for each in usage]
    assert counted == [(2, 2)] * 4


async def test_a_failing_handler_harms_no_answer() -> None:
    class Failing(BaseEventHandler):
        def handle(self, event: Any, **kwargs: Any) -> None:
            raise ZeroDivisionError

    root, handler = get_dispatcher(), Failing()
    root.add_event_handler(handler)
    try:
        assert llm_of(SCRIPT).complete("Hello").text == SCRIPT
        assert (await llm_of(SCRIPT).acomplete("Hello")).text == SCRIPT
    finally:
        root.event_handlers.remove(handler)
