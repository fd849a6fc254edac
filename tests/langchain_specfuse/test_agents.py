"""Agents and graphs on ChatSpecFuse: the loops that applications build."""

from __future__ import annotations

from typing import Any, cast

import pytest
from competent import competent
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, SummarizationMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command
from pydantic import BaseModel

from langchain_specfuse import ChatSpecFuse
from specfuse_core import FusionEngine
from specfuse_core.testing import ScriptedBackend

QUESTION = "What is the weather in 'Oslo'?"


@tool
def get_weather(city: str) -> str:
    """Tells the weather in a city."""
    return f"sunny in {city}"


class Report(BaseModel):
    """The weather in a city."""

    city: str
    degrees: int


def model(**options: Any) -> ChatSpecFuse:
    engine = FusionEngine([ScriptedBackend("a", competent), ScriptedBackend("b", competent)])
    return ChatSpecFuse(engine=engine, **options)


def asked(question: str = QUESTION) -> Any:
    return {"messages": [HumanMessage(question)]}


def check(messages: list[Any]) -> None:
    human, call, result, answer = messages
    assert isinstance(human, HumanMessage)
    assert [each["args"] for each in call.tool_calls] == [{"city": "Oslo"}]
    assert isinstance(result, ToolMessage)
    assert answer.text == "It says: sunny in Oslo"


async def test_an_agent_calls_and_answers_from_the_result() -> None:
    agent: Any = create_agent(model(), [get_weather])
    check(agent.invoke(asked())["messages"])
    check((await agent.ainvoke(asked()))["messages"])


async def test_the_bundled_models_go_through_the_loop_in_two_steps() -> None:
    @tool
    def order_lamps(quantity: int) -> str:
        """Order lamps."""
        return f'{{"price": {quantity * 3}}}'

    agent: Any = create_agent(ChatSpecFuse(), [order_lamps])
    question = (
        "The hall has 12 lamps. The attic has 7 lamps. How many lamps are in the hall and the "
        "attic in total? Please order as many lamps."
    )
    for done in (agent.invoke(asked(question)), await agent.ainvoke(asked(question))):
        _, call, result, answer = done["messages"]
        assert [each["args"] for each in call.tool_calls] == [{"quantity": 19}]
        assert result.text == '{"price": 57}'
        assert answer.text == "The price is 57."


async def test_streaming_by_messages_brings_pieces() -> None:
    agent: Any = create_agent(model(segment_tokens=2), [get_weather])
    for pieces in (
        [each for each, _ in agent.stream(asked(), stream_mode="messages")],
        [each async for each, _ in agent.astream(asked(), stream_mode="messages")],
    ):
        chunks = [each for each in pieces if isinstance(each, AIMessageChunk)]
        assert "".join(each.text for each in chunks) == "It says: sunny in Oslo"
        assert len([each for each in chunks if each.text]) > 1
        calls = [call for each in chunks for call in each.tool_call_chunks]
        assert [call["name"] for call in calls if call["name"]] == ["get_weather"]


async def test_streaming_by_updates_brings_steps() -> None:
    agent: Any = create_agent(model(), [get_weather])
    steps = [step for step in agent.stream(asked(), stream_mode="updates")]
    assert [next(iter(step)) for step in steps] == ["model", "tools", "model"]
    assert [step async for step in agent.astream(asked(), stream_mode="updates")]


async def test_rounds_reach_whoever_watches_an_agent() -> None:
    agent: Any = create_agent(model(), [get_weather])
    events = [event async for event in agent.astream_events(asked(), version="v2")]
    assert [e for e in events if e["event"] == "on_custom_event" and e["name"] == "specfuse_round"]
    assert [e for e in events if e["event"] == "on_chat_model_stream"]
    custom = list(agent.stream(asked(), stream_mode="custom"))
    assert {each["type"] for each in custom} == {"specfuse_round"}
    assert [each async for each in agent.astream(asked(), stream_mode="custom")]


@pytest.mark.filterwarnings("ignore:The v3 streaming protocol on Pregel is experimental")
async def test_the_third_version_of_events() -> None:
    agent: Any = create_agent(model(), [get_weather])
    run = agent.stream_events(asked(), version="v3")
    check(run.output["messages"])
    arun = await agent.astream_events(asked(), version="v3")
    check((await arun.output())["messages"])


@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy, lambda schema: schema])
@pytest.mark.parametrize("tools", [[], [get_weather]])
async def test_structured_responses(strategy: Any, tools: list[Any]) -> None:
    agent: Any = create_agent(model(), tools, response_format=strategy(Report))
    question = "Write the report of 'Oslo', 12 degrees."
    assert agent.invoke(asked(question))["structured_response"] == Report(city="Oslo", degrees=12)
    done = await agent.ainvoke(asked(question))
    assert done["structured_response"] == Report(city="Oslo", degrees=12)


def test_a_person_may_decide() -> None:
    agent: Any = create_agent(
        model(),
        [get_weather],
        middleware=[HumanInTheLoopMiddleware({"get_weather": True})],
        checkpointer=InMemorySaver(),
    )
    thread: Any = {"configurable": {"thread_id": "1"}}
    assert agent.invoke(asked(), thread)["__interrupt__"]
    done = agent.invoke(Command(resume={"decisions": [{"type": "approve"}]}), thread)
    check(done["messages"])
    other: Any = {"configurable": {"thread_id": "2"}}
    agent.invoke(asked(), other)
    refusal = {"type": "reject", "message": "not today"}
    done = agent.invoke(Command(resume={"decisions": [refusal]}), other)
    assert "not today" in done["messages"][-1].text


def test_long_histories_are_summarized() -> None:
    engine = FusionEngine([ScriptedBackend("a", competent, context_window=2000)])
    small = ChatSpecFuse(engine=engine)
    agent: Any = create_agent(
        small,
        [],
        middleware=[
            SummarizationMiddleware(small, trigger=("fraction", 0.5), keep=("messages", 2))
        ],
    )
    history: list[Any] = []
    for n in range(100):
        history += [HumanMessage(f"Line {n} of a long story."), AIMessage("Go on, please do.")]
    done = agent.invoke({"messages": [*history, HumanMessage("And now?")]})
    assert len(done["messages"]) < 10
    assert "summary" in done["messages"][0].text.lower()


def test_a_graph_remembers_its_thread() -> None:
    bound = model().bind_tools([get_weather])

    def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [bound.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode([get_weather]))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "think")
    app = graph.compile(checkpointer=InMemorySaver())
    thread = cast("Any", {"configurable": {"thread_id": "1"}})
    check(app.invoke(asked(), thread)["messages"])
    more = app.invoke(asked("Hello again"), thread)["messages"]
    assert len(more) == 6
