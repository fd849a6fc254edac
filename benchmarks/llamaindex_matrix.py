"""What a LlamaIndex application does with its LLM, as checks that any LLM can be put through.

``CHECKS`` is the list. Each checks the form of what comes back and, asked for ``content``, that it
is right, which takes a model that is good enough for it: ``bundled`` says whether the models that
come with specfuse are. Nothing here needs a network, pytest, or one LLM class rather than another.
A check that fails raises, most often AssertionError.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import Any

from llama_index.core import Document, PromptTemplate, SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import (
    AgentStream,
    AgentWorkflow,
    CodeActAgent,
    FunctionAgent,
    ReActAgent,
    ToolCallResult,
)
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.evaluation import (
    CorrectnessEvaluator,
    FaithfulnessEvaluator,
    GuidelineEvaluator,
    PairwiseComparisonEvaluator,
    RelevancyEvaluator,
)
from llama_index.core.extractors import (
    KeywordExtractor,
    QuestionsAnsweredExtractor,
    SummaryExtractor,
    TitleExtractor,
)
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMChatStartEvent
from llama_index.core.llms import LLM, ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.output_parsers.base import OutputParserException
from llama_index.core.query_engine import RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.selectors.utils import get_selector_from_llm
from llama_index.core.tools import FunctionTool, QueryEngineTool
from llama_index.core.workflow import Context, StartEvent, StopEvent, Workflow, step
from llama_index_instrumentation import get_dispatcher
from pydantic import BaseModel, Field
from workflows.errors import WorkflowRuntimeError

from benchmarks.hashed_words import HashedWords

__all__ = ["CHECKS", "Check", "Orders", "Person", "order_tool", "perform"]

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
    """An animal of somebody's."""

    kind: str = Field(description="cat, dog, ...")
    owner: Person


class Orders:
    """What was ordered with one tool."""

    def __init__(self) -> None:
        self.quantities: list[int] = []

    def order_lamps(self, quantity: int) -> str:
        """Order lamps."""
        self.quantities.append(quantity)
        return f'{{"price": {3 * quantity}}}'


def order_tool(orders: Orders) -> FunctionTool:
    """A tool that orders lamps."""
    return FunctionTool.from_defaults(orders.order_lamps)


Run = Callable[[LLM, bool], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that applications do.

    Args:
        name: unique.
        group: what it is part of.
        run: does it with an LLM; whether the content must be right is the second argument.
        bundled: whether the bundled models are good enough for the content.
    """

    name: str
    group: str
    run: Run
    bundled: bool


CHECKS: list[Check] = []


def perform(check: Check, llm: LLM, *, content: bool) -> None:
    """Do it; what fails raises.

    Args:
        content: whether what comes back must be right, not only of the right form.
    """
    done = check.run(llm, content)
    if done is not None:

        async def waited() -> None:
            await done

        asyncio.run(waited())


def _check(group: str, *, bundled: bool = True, name: str = "") -> Callable[[Run], Run]:
    def kept(run: Run) -> Run:
        label = name or getattr(run, "__name__", "").strip("_").replace("_", " ")
        CHECKS.append(Check(label, group, run, bundled))
        return run

    return kept


# --- what checks share ------------------------------------------------------------------------


def _says(text: Any, expected: str, content: bool) -> None:
    assert isinstance(text, str), f"no text: {text!r}"
    assert text.strip() not in ("", "Empty Response"), "an empty answer"
    if content:
        assert re.search(rf"\b{re.escape(expected)}\b", text), f"{expected!r} is not in {text!r}"


@contextmanager
def _or_says_why(content: bool, *errors: type[Exception]) -> Iterator[None]:
    """Where content is too much to ask, an error that tells what was not understood will do."""
    with contextlib.suppress(*(() if content else errors)):
        yield


def _nodes() -> list[TextNode]:
    return [TextNode(text=fact) for fact in FACTS]


def _index() -> VectorStoreIndex:
    return VectorStoreIndex(_nodes(), embed_model=HashedWords.of(FACTS))


def _asked(question: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content="\n".join([*FACTS, question]))]


async def _joined(pieces: AsyncIterator[str]) -> str:
    return "".join([piece async for piece in pieces])


# --- endpoints --------------------------------------------------------------------------------


@_check("endpoints")
def _chat(llm: LLM, content: bool) -> None:
    response = llm.chat(_asked(QUESTION))
    assert response.message.role == "assistant"
    _says(response.message.content, ANSWER, content)


@_check("endpoints")
def _complete(llm: LLM, content: bool) -> None:
    _says(llm.complete(_asked(QUESTION)[0].content or "").text, ANSWER, content)


@_check("endpoints")
def _stream_chat(llm: LLM, content: bool) -> None:
    responses = list(llm.stream_chat(_asked(QUESTION)))
    joined = "".join(response.delta or "" for response in responses)
    assert joined == responses[-1].message.content
    _says(joined, ANSWER, content)


@_check("endpoints")
def _stream_complete(llm: LLM, content: bool) -> None:
    responses = list(llm.stream_complete(_asked(QUESTION)[0].content or ""))
    joined = "".join(response.delta or "" for response in responses)
    assert joined == responses[-1].text
    _says(joined, ANSWER, content)


@_check("endpoints")
async def _achat(llm: LLM, content: bool) -> None:
    response = await llm.achat(_asked(QUESTION))
    assert response.message.content == llm.chat(_asked(QUESTION)).message.content
    _says(response.message.content, ANSWER, content)


@_check("endpoints")
async def _acomplete(llm: LLM, content: bool) -> None:
    _says((await llm.acomplete(_asked(QUESTION)[0].content or "")).text, ANSWER, content)


@_check("endpoints")
async def _astream_chat(llm: LLM, content: bool) -> None:
    responses = [each async for each in await llm.astream_chat(_asked(QUESTION))]
    joined = "".join(response.delta or "" for response in responses)
    assert joined == responses[-1].message.content
    _says(joined, ANSWER, content)


@_check("endpoints")
async def _astream_complete(llm: LLM, content: bool) -> None:
    stream = await llm.astream_complete(_asked(QUESTION)[0].content or "")
    joined = "".join([each.delta or "" async for each in stream])
    _says(joined, ANSWER, content)


@_check("endpoints", name="predict and apredict")
async def _predict(llm: LLM, content: bool) -> None:
    prompt = PromptTemplate("{facts}\n{question}")
    values = {"facts": "\n".join(FACTS), "question": QUESTION}
    _says(llm.predict(prompt, **values), ANSWER, content)
    _says(await llm.apredict(prompt, **values), ANSWER, content)
    _says("".join(llm.stream(prompt, **values)), ANSWER, content)
    _says(await _joined(await llm.astream(prompt, **values)), ANSWER, content)


@_check("endpoints", name="two facts, one sum")
def _total(llm: LLM, content: bool) -> None:
    _says(llm.chat(_asked(TOTAL)).message.content, "19", content)


async def _beats(during: Awaitable[Any]) -> tuple[Any, int]:
    """What was awaited, and how often the event loop came round meanwhile."""
    turns = 0

    async def beat() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beating = asyncio.create_task(beat())
    try:
        return await during, turns
    finally:
        beating.cancel()


@_check("async")
async def _achat_lets_the_event_loop_run(llm: LLM, content: bool) -> None:
    _, turns = await _beats(llm.achat(_asked(QUESTION)))
    assert turns > 2, f"the loop came round {turns} times"


@_check("async")
async def _astream_chat_lets_the_event_loop_run(llm: LLM, content: bool) -> None:
    async def drained() -> int:
        return len([each async for each in await llm.astream_chat(_asked(QUESTION))])

    pieces, turns = await _beats(drained())
    assert turns > 2 * pieces, f"the loop came round {turns} times in {pieces} pieces"


@_check("async", name="answers beside each other")
async def _beside(llm: LLM, content: bool) -> None:
    questions = [_asked(QUESTION), _asked("Where does Anna live?")]
    alone = [(await llm.achat(question)).message.content for question in questions]
    beside = await asyncio.gather(*(llm.achat(question) for question in questions))
    assert [each.message.content for each in beside] == alone
    _says(alone[1], "Oslo", content)


@_check("async", name="workflow")
async def _workflow(llm: LLM, content: bool) -> None:
    class Asking(Workflow):
        @step
        async def ask(self, event: StartEvent) -> StopEvent:
            return StopEvent(result=str(await llm.acomplete(event.question)))

    question = _asked(QUESTION)[0].content
    _says(await Asking(timeout=300).run(question=question), ANSWER, content)


@_check("endpoints", name="an over-long prompt is an error")
def _overlong(llm: LLM, content: bool) -> None:
    # Each "lamps " is a token at least, whatever the tokenizer.
    long = "lamps " * (llm.metadata.context_window + 1)
    try:
        llm.complete(long)
    except (ValueError, TypeError) as error:
        raise AssertionError(f"synthesizers swallow a {type(error).__name__}") from error
    except Exception:
        return
    raise AssertionError("it was answered as if it fitted")


# --- response synthesizers --------------------------------------------------------------------

_MODES = (
    (ResponseMode.COMPACT, True),
    (ResponseMode.REFINE, True),
    (ResponseMode.TREE_SUMMARIZE, True),
    (ResponseMode.SIMPLE_SUMMARIZE, True),
    (ResponseMode.ACCUMULATE, True),
)


async def _synthesize(mode: ResponseMode, llm: LLM, content: bool) -> None:
    nodes = [NodeWithScore(node=node, score=1.0) for node in _nodes()[:2]]
    made = get_response_synthesizer(llm=llm, response_mode=mode)
    response = made.synthesize(QUESTION, nodes)
    _says(str(response), ANSWER, content)
    assert len(response.source_nodes) == 2
    _says(str(await made.asynthesize(QUESTION, nodes)), ANSWER, content)
    if mode == ResponseMode.ACCUMULATE:
        return  # cannot stream
    made = get_response_synthesizer(llm=llm, response_mode=mode, streaming=True)
    streamed: Any = made.synthesize(QUESTION, nodes)
    assert "".join(streamed.response_gen) == str(response)
    astreamed: Any = await made.asynthesize(QUESTION, nodes)
    assert await _joined(astreamed.async_response_gen()) == str(response)


for _mode, _able in _MODES:
    _check("response synthesizers", bundled=_able, name=f"synthesizer {_mode.value}")(
        partial(_synthesize, _mode)
    )


@_check("response synthesizers", bundled=False)
async def _synthesizer_filtering_answers(llm: LLM, content: bool) -> None:
    nodes = [NodeWithScore(node=node, score=1.0) for node in _nodes()[:2]]
    for streaming in (False, True):
        made = get_response_synthesizer(
            llm=llm,
            response_mode=ResponseMode.REFINE,
            structured_answer_filtering=True,
            streaming=streaming,
        )
        done: Any = made.synthesize(QUESTION, nodes)
        # Where no context satisfies it, there is nothing to stream.
        pieces = getattr(done, "response_gen", None)
        said = str(done) if pieces is None else "".join(pieces)
        if content:
            _says(said, ANSWER, content)


# --- query engines ----------------------------------------------------------------------------


@_check("query engines")
def _query_engine(llm: LLM, content: bool) -> None:
    response = _index().as_query_engine(llm=llm, similarity_top_k=2).query(QUESTION)
    assert response.source_nodes[0].get_content() == FACTS[1]
    _says(str(response), ANSWER, content)


@_check("query engines")
async def _query_engine_async(llm: LLM, content: bool) -> None:
    engine = _index().as_query_engine(llm=llm, similarity_top_k=2)
    response = await engine.aquery(QUESTION)
    assert response.source_nodes[0].get_content() == FACTS[1]
    _says(str(response), ANSWER, content)


@_check("query engines")
def _query_engine_streaming(llm: LLM, content: bool) -> None:
    engine = _index().as_query_engine(llm=llm, similarity_top_k=2, streaming=True)
    response: Any = engine.query(QUESTION)
    assert response.source_nodes[0].get_content() == FACTS[1]
    _says("".join(response.response_gen), ANSWER, content)


@_check("query engines")
async def _query_engine_streaming_async(llm: LLM, content: bool) -> None:
    engine = _index().as_query_engine(llm=llm, similarity_top_k=2, streaming=True)
    response: Any = await engine.aquery(QUESTION)
    _says(await _joined(response.async_response_gen()), ANSWER, content)


@_check("query engines")
def _query_engine_over_a_list(llm: LLM, content: bool) -> None:
    index = SummaryIndex.from_documents([Document(text=fact) for fact in FACTS[:2]])
    _says(str(index.as_query_engine(llm=llm).query(QUESTION)), ANSWER, content)


@_check("query engines", bundled=False)
def _query_engine_with_an_output_class(llm: LLM, content: bool) -> None:
    index = SummaryIndex([TextNode(text=PERSON)])
    response: Any = index.as_query_engine(llm=llm, output_cls=Person).query(
        "Who is it? Give name, age and city."
    )
    assert isinstance(response.response, Person)
    if content:
        assert response.response == Person(name="Anna", age=31, city="Oslo")


def _routed(llm: LLM) -> RouterQueryEngine:
    lamps = SummaryIndex([TextNode(text=FACTS[1])]).as_query_engine(llm=llm)
    people = SummaryIndex([TextNode(text=FACTS[2])]).as_query_engine(llm=llm)
    return RouterQueryEngine(
        selector=get_selector_from_llm(llm),
        query_engine_tools=[
            QueryEngineTool.from_defaults(people, name="people", description="where people live"),
            QueryEngineTool.from_defaults(lamps, name="lamps", description="how many lamps"),
        ],
        llm=llm,
    )


@_check("query engines", bundled=False)
async def _router_query_engine(llm: LLM, content: bool) -> None:
    # Which one it is may be beyond a model; what is not a number is no choice.
    with _or_says_why(content, IndexError):
        _says(str(_routed(llm).query(QUESTION)), ANSWER, content)
    with _or_says_why(content, IndexError):
        _says(str(await _routed(llm).aquery(QUESTION)), ANSWER, content)


@_check("query engines", bundled=False)
async def _sub_question_query_engine(llm: LLM, content: bool) -> None:
    index = SummaryIndex([TextNode(text=fact) for fact in FACTS[:2]])
    tool = QueryEngineTool.from_defaults(
        index.as_query_engine(llm=llm), name="lamps", description="how many lamps are where"
    )
    engine = SubQuestionQueryEngine.from_defaults(
        query_engine_tools=[tool],
        question_gen=LLMQuestionGenerator.from_defaults(llm=llm),
        llm=llm,
        use_async=False,
        verbose=False,
    )
    with _or_says_why(content, OutputParserException, ValueError):
        _says(str(engine.query(TOTAL)), "19", content)
    with _or_says_why(content, OutputParserException, ValueError):
        _says(str(await engine.aquery(TOTAL)), "19", content)


# --- chat engines -----------------------------------------------------------------------------


def _memory() -> ChatMemoryBuffer:
    # The default is a database whose thread outlives the event loop.
    return ChatMemoryBuffer.from_defaults(token_limit=1000, tokenizer_fn=str.split)


_ENGINES: dict[str, tuple[Callable[[LLM], Any], bool]] = {
    "simple": (lambda llm: SimpleChatEngine.from_defaults(llm=llm, memory=_memory()), True),
    "context": (
        lambda llm: ContextChatEngine.from_defaults(
            retriever=_index().as_retriever(similarity_top_k=1), llm=llm, memory=_memory()
        ),
        True,
    ),
    "condense question": (
        lambda llm: CondenseQuestionChatEngine.from_defaults(
            query_engine=_index().as_query_engine(llm=llm, similarity_top_k=1),
            llm=llm,
            memory=_memory(),
        ),
        True,
    ),
    "condense plus context": (
        lambda llm: CondensePlusContextChatEngine.from_defaults(
            retriever=_index().as_retriever(similarity_top_k=1), llm=llm, memory=_memory()
        ),
        True,
    ),
}


async def _converse(kind: str, way: str, llm: LLM, content: bool) -> None:
    engine = _ENGINES[kind][0](llm)
    # The simple engine has no sources of its own.
    question = _asked(QUESTION)[0].content if kind == "simple" else QUESTION
    if way == "chat":
        said = engine.chat(question).response
    elif way == "achat":
        said = (await engine.achat(question)).response
    elif way == "stream":
        said = "".join(engine.stream_chat(question).response_gen)
    else:
        said = await _joined((await engine.astream_chat(question)).async_response_gen())
    _says(said, ANSWER, content)
    roles = [message.role.value for message in engine.chat_history]
    assert roles == ["user", "assistant"], roles
    assert engine.chat_history[1].content == said
    follow = engine.chat("And where does Anna live?").response
    assert isinstance(follow, str)
    assert len(engine.chat_history) == 4


for _kind, (_, _able) in _ENGINES.items():
    for _way in ("chat", "achat", "stream", "astream"):
        _check("chat engines", bundled=_able, name=f"{_kind} chat engine, {_way}")(
            partial(_converse, _kind, _way)
        )


@_check("chat engines")
def _memory_keeps_to_its_limit(llm: LLM, content: bool) -> None:
    memory = ChatMemoryBuffer.from_defaults(token_limit=40, tokenizer_fn=str.split)
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
    for _ in range(4):
        _says(engine.chat(_asked(QUESTION)[0].content or "").response, ANSWER, content)
    assert len(memory.get_all()) == 8
    assert len(memory.get()) < 8


# --- agents -----------------------------------------------------------------------------------


async def _events(handler: Any) -> tuple[str, list[Any]]:
    seen = [event async for event in handler.stream_events()]
    return str(await handler), seen


@_check("agents")
async def _function_agent(llm: LLM, content: bool) -> None:
    orders = Orders()
    agent = FunctionAgent(tools=[order_tool(orders)], llm=llm)
    said, seen = await _events(agent.run(ORDER, memory=_memory(), max_iterations=4))
    _says(said, PRICE, content)
    if content:
        assert orders.quantities == [12]
    streamed = "".join(event.delta for event in seen if isinstance(event, AgentStream))
    assert said.strip() in streamed
    assert len([each for each in seen if isinstance(each, ToolCallResult)]) == len(
        orders.quantities
    )


@_check("agents")
async def _function_agent_without_streaming(llm: LLM, content: bool) -> None:
    orders = Orders()
    agent = FunctionAgent(tools=[order_tool(orders)], llm=llm, streaming=False)
    _says(str(await agent.run(ORDER, memory=_memory(), max_iterations=4)), PRICE, content)


@_check("agents", name="function agent, read then reckon then call")
async def _composite(llm: LLM, content: bool) -> None:
    orders = Orders()
    agent = FunctionAgent(tools=[order_tool(orders)], llm=llm)
    question = f"{FACTS[0]} {FACTS[1]} {TOTAL} Please order as many lamps."
    _says(str(await agent.run(question, memory=_memory(), max_iterations=4)), "57", content)
    if content:
        assert orders.quantities == [19]


@_check("agents")
async def _function_agent_with_memory(llm: LLM, content: bool) -> None:
    orders = Orders()
    agent = FunctionAgent(tools=[order_tool(orders)], llm=llm)
    context, memory = Context(agent), _memory()
    said = await agent.run(ORDER, ctx=context, memory=memory, max_iterations=4)
    _says(str(said), PRICE, content)
    again = await agent.run("Please order 7 lamps.", ctx=context, memory=memory, max_iterations=4)
    _says(str(again), "21", content)
    assert [message.role.value for message in memory.get_all()].count("user") == 2
    if content:
        assert orders.quantities == [12, 7]


@_check("agents", bundled=False)
async def _handoff(llm: LLM, content: bool) -> None:
    orders = Orders()
    clerk = FunctionAgent(
        name="clerk", description="orders lamps", tools=[order_tool(orders)], llm=llm
    )
    porter = FunctionAgent(
        name="porter",
        description="knows who does what",
        system_prompt="Hand off to the clerk what is an order.",
        tools=[],
        can_handoff_to=["clerk"],
        llm=llm,
    )
    workflow = AgentWorkflow(agents=[porter, clerk], root_agent="porter")
    with _or_says_why(content, WorkflowRuntimeError):
        said, seen = await _events(workflow.run(ORDER, memory=_memory(), max_iterations=5))
        _says(said, PRICE, content)
        if content:
            called = [each.tool_name for each in seen if isinstance(each, ToolCallResult)]
            assert called == ["handoff", "order_lamps"]


@_check("agents")
async def _agent_workflow_from_tools(llm: LLM, content: bool) -> None:
    orders = Orders()
    workflow = AgentWorkflow.from_tools_or_functions([orders.order_lamps], llm=llm)
    with _or_says_why(content, WorkflowRuntimeError):
        _says(str(await workflow.run(ORDER, memory=_memory(), max_iterations=4)), PRICE, content)


@_check("agents", bundled=False)
async def _react_agent(llm: LLM, content: bool) -> None:
    orders = Orders()
    agent = ReActAgent(tools=[order_tool(orders)], llm=llm)
    with _or_says_why(content, WorkflowRuntimeError):
        said, seen = await _events(agent.run(ORDER, memory=_memory(), max_iterations=4))
        _says(said, PRICE, content)
        assert [event for event in seen if isinstance(event, AgentStream)]
        if content:
            assert orders.quantities == [12]
            # Observations are the application's to write.
            streamed = [event.delta for event in seen if isinstance(event, AgentStream)]
            assert "Observation:" not in "".join(streamed)


@_check("agents", bundled=False)
async def _code_act_agent(llm: LLM, content: bool) -> None:
    orders = Orders()

    def execute(code: str) -> str:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(code, {"order_lamps": orders.order_lamps})
        return printed.getvalue()

    agent = CodeActAgent(code_execute_fn=execute, tools=[order_tool(orders)], llm=llm)
    with _or_says_why(content, WorkflowRuntimeError):
        _says(str(await agent.run(ORDER, memory=_memory(), max_iterations=4)), PRICE, content)
        if content:
            assert orders.quantities == [12]


@_check("agents", name="predict and call")
async def _predict_and_call(llm: LLM, content: bool) -> None:
    for wait in (False, True):
        orders = Orders()
        tools = [order_tool(orders)]
        if wait:
            done = await llm.apredict_and_call(tools, user_msg=ORDER)
        else:
            done = llm.predict_and_call(tools, user_msg=ORDER)
        assert len(orders.quantities) == len(done.sources) == 1, done.response
        assert done.response == done.sources[0].content
        if content:
            assert orders.quantities == [12]


# --- structured answers -----------------------------------------------------------------------

_ANNA = Person(name="Anna", age=31, city="Oslo")


@_check("structured answers")
async def _structured_predict(llm: LLM, content: bool) -> None:
    prompt = PromptTemplate(EXTRACT)
    for found in (
        llm.structured_predict(Person, prompt, text=PERSON),
        await llm.astructured_predict(Person, prompt, text=PERSON),
    ):
        assert isinstance(found, Person)
        if content:
            assert found == _ANNA


@_check("structured answers")
async def _structured_predict_streaming(llm: LLM, content: bool) -> None:
    prompt = PromptTemplate(EXTRACT)
    found: list[Any] = list(llm.stream_structured_predict(Person, prompt, text=PERSON))
    _check_partials(found, content)
    stream = await llm.astream_structured_predict(Person, prompt, text=PERSON)
    _check_partials([each async for each in stream], content)


def _check_partials(found: Sequence[Any], content: bool) -> None:
    assert isinstance(found[-1], Person), f"the last is {found[-1]!r}"
    filled = [len([v for v in each.model_dump().values() if v is not None]) for each in found]
    assert filled == sorted(filled), "fields went away"
    if content:
        assert found[-1] == _ANNA


@_check("structured answers", bundled=False)
def _structured_predict_of_nested_classes(llm: LLM, content: bool) -> None:
    found = llm.structured_predict(Pet, PromptTemplate("{text}"), text=f"A 'cat' of Anna. {PERSON}")
    assert isinstance(found, Pet)
    assert isinstance(found.owner, Person)
    if content:
        assert found == Pet(kind="cat", owner=_ANNA)


@_check("structured answers")
async def _structured_llm(llm: LLM, content: bool) -> None:
    made = llm.as_structured_llm(Person)
    question = [ChatMessage(role="user", content=EXTRACT.format(text=PERSON))]
    for response in (made.chat(question), await made.achat(question)):
        assert isinstance(response.raw, Person)
        assert Person.model_validate_json(response.message.content or "") == response.raw
        if content:
            assert response.raw == _ANNA


@_check("structured answers")
def _templates_stay_as_they_are(llm: LLM, content: bool) -> None:
    prompt = PromptTemplate(EXTRACT)
    before = copy.deepcopy(prompt)
    llm.structured_predict(Person, prompt, text=PERSON)
    assert prompt.output_parser is None
    assert prompt.model_dump() == before.model_dump()


@_check("structured answers")
def _a_system_prompt_is_told(llm: LLM, content: bool) -> None:
    with _watching() as events, _set(llm, "system_prompt", "Be brief."):
        llm.structured_predict(Person, PromptTemplate(EXTRACT), text=PERSON)
    starts = [event for event in events if isinstance(event, LLMChatStartEvent)]
    told = [[message.role.value for message in start.messages] for start in starts]
    assert told == [["system", "user"]], told


# --- evaluators -------------------------------------------------------------------------------


@_check("evaluators", bundled=False)
async def _faithfulness_and_relevancy(llm: LLM, content: bool) -> None:
    for made in (FaithfulnessEvaluator(llm=llm), RelevancyEvaluator(llm=llm)):
        for found in (
            made.evaluate(query=QUESTION, response=FACTS[1], contexts=[FACTS[1]]),
            await made.aevaluate(query=QUESTION, response=FACTS[1], contexts=[FACTS[1]]),
        ):
            assert isinstance(found.passing, bool)
            assert found.feedback
            if content:
                assert found.passing


@_check("evaluators", bundled=False)
async def _correctness(llm: LLM, content: bool) -> None:
    made = CorrectnessEvaluator(llm=llm)
    with _or_says_why(content, ValueError):
        found = await made.aevaluate(query=QUESTION, response=FACTS[1], reference=FACTS[1])
        assert isinstance(found.score, float)
        if content:
            assert found.passing


@_check("evaluators", bundled=False)
async def _pairwise_comparison(llm: LLM, content: bool) -> None:
    made = PairwiseComparisonEvaluator(llm=llm, enforce_consensus=False)
    found = await made.aevaluate(query=QUESTION, response=FACTS[1], second_response="No idea.")
    assert found.invalid_result or found.score is not None or found.passing is None
    if content:
        assert found.score == 1.0


@_check("evaluators", bundled=False)
async def _guideline(llm: LLM, content: bool) -> None:
    made = GuidelineEvaluator(llm=llm)
    with _or_says_why(content, OutputParserException, ValueError):
        found = await made.aevaluate(query=QUESTION, response=FACTS[1])
        assert isinstance(found.passing, bool)
        if content:
            assert found.passing


# --- ingestion --------------------------------------------------------------------------------


def _extractors(llm: LLM) -> list[Any]:
    options: dict[str, Any] = {"llm": llm, "show_progress": False, "num_workers": 1}
    return [
        TitleExtractor(nodes=1, **options),
        KeywordExtractor(keywords=3, **options),
        SummaryExtractor(summaries=["self"], **options),
        QuestionsAnsweredExtractor(questions=1, **options),
    ]


@_check("ingestion")
async def _ingestion_with_extractors(llm: LLM, content: bool) -> None:
    splitter = TokenTextSplitter(chunk_size=40, chunk_overlap=0, tokenizer=str.split)
    pipeline = IngestionPipeline(transformations=[splitter, *_extractors(llm)], disable_cache=True)
    document = Document(text=" ".join(FACTS))
    for nodes in (
        pipeline.run(documents=[document]),
        await pipeline.arun(documents=[document]),
    ):
        (node,) = nodes
        for key in (
            "document_title",
            "excerpt_keywords",
            "section_summary",
            "questions_this_excerpt_can_answer",
        ):
            assert isinstance(node.metadata[key], str)


@_check("ingestion")
def _a_cached_ingestion_asks_once(llm: LLM, content: bool) -> None:
    pipeline = IngestionPipeline(transformations=[_extractors(llm)[1]])
    with _counting(llm) as counter:
        first = pipeline.run(nodes=[TextNode(text=FACTS[1], id_="1")])
        asked = len(counter.llm_token_counts)
        again = pipeline.run(nodes=[TextNode(text=FACTS[1], id_="1")])
        assert len(counter.llm_token_counts) == asked > 0
    assert [each.metadata for each in first] == [each.metadata for each in again]


# --- watching ---------------------------------------------------------------------------------


@contextmanager
def _set(llm: LLM, name: str, value: Any) -> Iterator[None]:
    """A field of the LLM for a while."""
    before = getattr(llm, name)
    setattr(llm, name, value)
    try:
        yield
    finally:
        setattr(llm, name, before)


@contextmanager
def _counting(llm: LLM) -> Iterator[TokenCountingHandler]:
    counter = TokenCountingHandler(tokenizer=str.split)
    with _set(llm, "callback_manager", CallbackManager([counter])):
        yield counter


class _Keeping(BaseEventHandler):
    events: list[Any] = Field(default_factory=list)

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.events.append(event)


@contextmanager
def _watching() -> Iterator[list[Any]]:
    """All events of the instrumentation."""
    root, handler = get_dispatcher(), _Keeping()
    root.add_event_handler(handler)
    try:
        yield handler.events
    finally:
        root.event_handlers.remove(handler)


@_check("watching")
async def _tokens_are_counted_once_a_call(llm: LLM, content: bool) -> None:
    with _counting(llm) as counter:
        llm.chat(_asked(QUESTION))
        await llm.achat(_asked(QUESTION))
        list(llm.stream_chat(_asked(QUESTION)))
        llm.complete("Hello")
    assert len(counter.llm_token_counts) == 4, f"{len(counter.llm_token_counts)} for 4 calls"
    for counted in counter.llm_token_counts:
        assert counted.prompt_token_count > 0
        assert counted.completion_token_count > 0


@_check("watching")
def _usage_is_reported(llm: LLM, content: bool) -> None:
    usage = dict(llm.chat(_asked(QUESTION)).raw or {})["usage"]
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] > 0


@_check("watching")
def _a_call_is_one_event(llm: LLM, content: bool) -> None:
    with _watching() as events:
        llm.chat(_asked(QUESTION))
        list(llm.stream_chat(_asked(QUESTION)))
    starts = [type(event).__name__ for event in events if "StartEvent" in type(event).__name__]
    assert starts == ["LLMChatStartEvent"] * 2, starts
    blocking, streamed = (event.response for event in events if isinstance(event, LLMChatEndEvent))
    assert blocking is not None
    assert streamed is not None
    assert blocking.message.content == streamed.message.content


@_check("watching")
def _copies_answer(llm: LLM, content: bool) -> None:
    said = llm.chat(_asked(QUESTION)).message.content
    assert copy.deepcopy(llm).chat(_asked(QUESTION)).message.content == said
