"""LangChain's agents over models that call tools in their native forms."""

from __future__ import annotations

import pytest
from dialects import DIALECTS, Dialect
from langchain.agents import create_agent
from native import FORECAST, weather_engine

from langchain_specfuse import ChatSpecFuse

NAMES = [dialect.form for dialect in DIALECTS]


def get_weather(city: str) -> str:
    """Tells the weather."""
    return f"12 degrees in {city}"


@pytest.mark.parametrize("dialect", DIALECTS, ids=NAMES)
def test_an_agent_calls_and_answers(dialect: Dialect) -> None:
    agent = create_agent(ChatSpecFuse(engine=weather_engine(dialect)), [get_weather])
    done = agent.invoke({"messages": [("human", "How is the weather in Oslo?")]})
    _, called, result, answer = done["messages"]
    assert [(call["name"], call["args"]) for call in called.tool_calls] == [
        ("get_weather", {"city": "Oslo"})
    ]
    assert called.text == ""
    assert result.content == "12 degrees in Oslo"
    assert answer.text == FORECAST


@pytest.mark.parametrize("dialect", DIALECTS, ids=NAMES)
async def test_a_streamed_call_is_the_same_call(dialect: Dialect) -> None:
    model = ChatSpecFuse(engine=weather_engine(dialect)).bind_tools([get_weather])
    whole = model.invoke("How is the weather in Oslo?")
    pieces = [piece async for piece in model.astream("How is the weather in Oslo?")]
    added = pieces[0]
    for piece in pieces[1:]:
        added = added + piece
    assert [call["args"] for call in added.tool_calls] == [
        call["args"] for call in whole.tool_calls
    ]
    assert [call["args"] for call in whole.tool_calls] == [{"city": "Oslo"}]


def test_models_of_three_forms_are_one_agent() -> None:
    engine = weather_engine(DIALECTS[1], DIALECTS[3], DIALECTS[6])
    agent = create_agent(ChatSpecFuse(engine=engine), [get_weather])
    done = agent.invoke({"messages": [("human", "How is the weather in Oslo?")]})
    assert done["messages"][-1].text == FORECAST
