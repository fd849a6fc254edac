"""What a user of all three packages writes; it is type-checked as it stands (``test_typing.py``).

``assert_type`` fails where a type is ``Any``, unless that is what is asserted.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, assert_type

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.prompts import ChatPromptTemplate
from llama_index.core import PromptTemplate, SummaryIndex
from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.llms import ChatMessage
from llama_index.core.program.utils import FlexibleModel
from llama_index.core.schema import TextNode
from llama_index.core.tools import FunctionTool
from llama_index.llms.specfuse import SpecFuseLLM as SameLLM
from pydantic import BaseModel

from langchain_specfuse import ChatSpecFuse
from llamaindex_specfuse import FusionTraceHandler, SpecFuseLLM, capture
from specfuse_core import (
    Choice,
    FusionConfig,
    FusionEngine,
    FusionError,
    Generation,
    JsonSchema,
    Message,
    ModelConfig,
    Round,
    SamplingParams,
    Segment,
    Tool,
    ToolCall,
    Usage,
)


class Person(BaseModel):
    name: str
    age: int


def order_lamps(quantity: int) -> str:
    """Order lamps."""
    return f"{quantity} lamps are on their way."


def engines() -> list[FusionEngine]:
    reader = ModelConfig(path="org/reader", dtype="bfloat16", device="cuda:0", weight=2.0)
    config = FusionConfig(method="specfuse", segment_tokens=5, exit_recall=0.2)
    named = FusionEngine.from_pretrained([reader, "org/reckoner", {"path": "./clerk"}], config)
    assert_type(named, FusionEngine)
    assert_type(FusionEngine.bundled(parallel=True, warm_up=True), FusionEngine)
    assert_type(named.subset(["reader"]).with_config(method="specem"), FusionEngine)
    assert_type(named.models, tuple[str, ...])
    assert_type(named.context_window, int)
    assert_type(named.count_prompt_tokens([Message("user", "?")]), int)
    named.warm_up()
    return [named]


def answers(engine: FusionEngine) -> str:
    sampling = SamplingParams(temperature=0.6, top_p=0.9, seed=1)
    answer = engine.generate("?", sampling=sampling, max_new_tokens=20, stop=["."])
    assert_type(answer, Generation)
    assert_type(answer.text, str)
    assert_type(answer.usage, Usage)
    assert_type(answer.rounds, tuple[Round, ...])
    tool = Tool("order_lamps", "Order lamps.", {"type": "object"})
    called = engine.generate([Message("user", "?")], tools=[tool], tool_choice="required")
    assert_type(called.tool_calls, tuple[ToolCall, ...])
    engine.generate("?", constraint=JsonSchema(Person.model_json_schema()))
    segments = engine.stream("?", constraint=Choice(["yes", "no"]))
    assert_type(segments, Generator[Segment, None, None])
    try:
        return "".join(segment.text for segment in segments)
    except FusionError as error:
        return str(error)


async def later(engine: FusionEngine) -> None:
    assert_type(await engine.agenerate("?"), Generation)
    segments = engine.astream("?")
    assert_type(segments, AsyncGenerator[Segment, None])
    async for segment in segments:
        assert_type(segment.author, str | None)


async def chats(engine: FusionEngine) -> None:
    chat = ChatSpecFuse(models=["org/one", "org/two"], temperature=0.6, max_tokens=20, timeout=9.0)
    assert_type(ChatSpecFuse(engine=engine).as_single("reader"), ChatSpecFuse)
    assert_type(chat.invoke("?"), AIMessage)
    assert_type(await chat.ainvoke("?"), AIMessage)
    assert_type(chat.stream("?"), Iterator[AIMessageChunk])
    assert_type(chat.astream("?"), AsyncIterator[AIMessageChunk])
    assert_type(chat.bind_tools([order_lamps, Person], tool_choice="any").invoke("?"), AIMessage)
    person = chat.with_structured_output(Person, method="function_calling").invoke("?")
    assert_type(person, dict[str, Any] | BaseModel)
    chain = ChatPromptTemplate.from_template("{question}") | chat
    assert_type(chain.invoke({"question": "?"}), AIMessage)


async def queries(engine: FusionEngine) -> None:
    llm = SpecFuseLLM(models=["org/one", "org/two"], method="specfuse", temperature=0.6)
    assert_type(SpecFuseLLM(engine=engine).as_single("reader"), SpecFuseLLM)
    assert_type(SameLLM(), SpecFuseLLM)
    messages = [ChatMessage(content="?")]
    assert_type(llm.chat(messages), ChatResponse)
    assert_type(llm.stream_chat(messages), Generator[ChatResponse, None, None])
    assert_type(await llm.achat(messages), ChatResponse)
    assert_type(await llm.astream_chat(messages), AsyncGenerator[ChatResponse, None])
    assert_type(llm.complete("?"), CompletionResponse)
    assert_type(llm.stream_complete("?"), Generator[CompletionResponse, None, None])
    assert_type(await llm.acomplete("?"), CompletionResponse)
    assert_type(await llm.astream_complete("?"), AsyncGenerator[CompletionResponse, None])
    prompt = PromptTemplate("{text}")
    assert_type(llm.structured_predict(Person, prompt, text="?"), Person)
    assert_type(await llm.astructured_predict(Person, prompt, text="?"), Person)
    parts = llm.stream_structured_predict(Person, prompt, text="?")
    assert_type(parts, Generator[Person | FlexibleModel, None, None])
    tool = FunctionTool.from_defaults(order_lamps)
    assert_type(llm.chat_with_tools([tool], "?"), ChatResponse)
    assert_type(llm.predict_and_call([tool], "?").response, str)
    with capture() as trace:
        SummaryIndex([TextNode(text="?")]).as_query_engine(llm=llm).query("?")
    assert_type(trace.rounds[0].model, str)
    assert_type(FusionTraceHandler().class_name(), str)
