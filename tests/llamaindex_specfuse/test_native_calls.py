"""LlamaIndex's agents over models that call tools in their native forms."""

from __future__ import annotations

from typing import Any

import pytest
from dialects import DIALECTS, Dialect
from llama_index.core.agent.workflow import FunctionAgent, ToolCallResult
from llama_index.core.tools import FunctionTool
from native import FORECAST, weather_engine

from llamaindex_specfuse import SpecFuseLLM

NAMES = [dialect.form for dialect in DIALECTS]


def get_weather(city: str) -> str:
    """Tells the weather."""
    return f"12 degrees in {city}"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS, ids=NAMES)
async def test_an_agent_calls_and_answers(dialect: Dialect, streaming: bool) -> None:
    agent = FunctionAgent(
        tools=[get_weather],
        llm=SpecFuseLLM(engine=weather_engine(dialect)),
        streaming=streaming,
    )
    handler = agent.run("How is the weather in Oslo?")
    results = [event async for event in handler.stream_events() if _is_result(event)]
    assert str(await handler) == FORECAST
    assert [event.tool_kwargs for event in results] == [{"city": "Oslo"}]


def test_predict_and_call_calls() -> None:
    llm = SpecFuseLLM(engine=weather_engine(DIALECTS[3]))
    tool = FunctionTool.from_defaults(get_weather)
    response = llm.chat_with_tools([tool], user_msg="How is the weather in Oslo?")
    (call,) = llm.get_tool_calls_from_response(response)
    assert call.tool_kwargs == {"city": "Oslo"}


def _is_result(event: Any) -> bool:
    return isinstance(event, ToolCallResult)
