"""The engine under constraints and with tools, on scripted base models."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemas import draw_root
from toolbox import LAMPS, WEATHER

from specfuse_core import (
    Choice,
    FusionConfig,
    FusionEngine,
    Generation,
    JsonObject,
    JsonSchema,
    Message,
    Regex,
    Request,
    ToolCall,
)
from specfuse_core.errors import FusionError, InvalidConstraintError, UnknownToolError
from specfuse_core.grammar.calls import write_call
from specfuse_core.testing import ScriptedBackend

OSLO = write_call("get_weather", {"city": "Oslo"})
THREE = write_call("order_lamps", {"count": 3})


def engine(*scripts: str, **knobs: Any) -> FusionEngine:
    backends = [ScriptedBackend("abc"[i], script) for i, script in enumerate(scripts)]
    return FusionEngine(backends, FusionConfig(**knobs))


def answer(script: str, **options: Any) -> Generation:
    return engine(script).generate("Hello", **options)


def test_an_answer_may_call_and_say_something_before() -> None:
    result = answer(f"Let me look.\n{OSLO}", tools=[WEATHER, LAMPS])
    assert result.text == "Let me look."
    (call,) = result.tool_calls
    assert (call.name, call.arguments, result.finish_reason) == (
        "get_weather",
        {"city": "Oslo"},
        "stop",
    )


def test_nothing_of_a_call_leaks_into_the_text() -> None:
    for size in range(1, 6):
        fused = engine(f"One.\n{OSLO}\n{THREE}", segment_tokens=size, call_segment_tokens=None)
        segments = list(fused.stream("Hello", tools=[WEATHER, LAMPS]))
        text = "".join(part.text for part in segments if part.channel == "text")
        assert text == "One."
        deltas = [part.call for part in segments if part.call]
        assert [delta.name for delta in deltas if delta.name] == ["get_weather", "order_lamps"]
        assert [delta.call.arguments for delta in deltas if delta.call] == [
            {"city": "Oslo"},
            {"count": 3},
        ]
        assert all(part.channel == "tool_call" for part in segments if part.call)


def test_a_call_is_voted_on_as_a_whole() -> None:
    fused = engine(OSLO, THREE.replace("3", "4"), THREE)
    result = fused.generate("Hello", tools=[WEATHER, LAMPS])
    assert [played.candidate.text for played in result.rounds] == [THREE]


def test_a_tool_that_is_not_there_is_not_called() -> None:
    script = write_call("get_wether", {"town": "Oslo"})
    result = answer(script, tools=[WEATHER, LAMPS])
    assert (result.tool_calls, result.text) == ((), script)


@pytest.mark.parametrize("choice", ["required", "get_weather"])
def test_a_call_can_be_asked_for(choice: str) -> None:
    result = answer("It is sunny.", tools=[WEATHER], tool_choice=choice)
    assert (result.text, result.finish_reason) == ("", "stop")
    assert [call.name for call in result.tool_calls] == ["get_weather"]


def test_tools_that_are_not_to_be_called_are_not() -> None:
    result = answer("It is sunny.", tools=[WEATHER], tool_choice="none")
    assert (result.text, result.tool_calls) == ("It is sunny.", ())


def test_calls_one_after_another_unless_forbidden() -> None:
    many = answer(f"{OSLO}\n{THREE}", tools=[WEATHER, LAMPS])
    assert [call.name for call in many.tool_calls] == ["get_weather", "order_lamps"]
    one = answer(f"{OSLO}\n{THREE}", tools=[WEATHER, LAMPS], parallel_tool_calls=False)
    assert [call.name for call in one.tool_calls] == ["get_weather"]


def test_tools_and_a_schema_for_the_answer_stand_together() -> None:
    options = {"tools": [WEATHER], "constraint": JsonSchema({"type": "integer"})}
    assert answer(OSLO, **options).tool_calls[0].arguments == {"city": "Oslo"}
    assert answer("12", **options).text == "12"


def test_a_constraint_is_followed_whatever_the_models_want() -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    result = answer("I would rather talk.", constraint=JsonSchema(schema))
    Draft202012Validator(schema).validate(json.loads(result.text))
    wanted = '{"name": "Anna Berg", "age": 31}'
    assert answer(wanted, constraint=JsonSchema(schema)).text == wanted
    assert answer("maybe", constraint=Choice(["yes", "no"])).text in ("yes", "no")
    assert answer("12 lamps", constraint=Regex(r"\d+")).text == "12"


def test_text_that_is_forced_needs_no_model() -> None:
    schema = {
        "type": "object",
        "properties": {"a_long_key_of_a_field": {"const": "a constant value"}},
        "required": ["a_long_key_of_a_field"],
        "additionalProperties": False,
    }
    result = answer("Hm.", constraint=JsonSchema(schema))
    assert result.text == '{"a_long_key_of_a_field": "a constant value"}'
    assert (result.rounds, result.finish_reason) == ((), "stop")
    assert sum(model.cost.forward_passes for model in result.usage.models) == 0


@settings(max_examples=80, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.integers(1, 12),
    st.integers(0, 60),
    st.sampled_from(["specem", "specfuse"]),
    st.lists(st.text(max_size=40), min_size=1, max_size=3),
)
def test_any_schema_any_segments_any_exits_any_limit(
    rng: random.Random, segment: int, more: int, method: Any, scripts: list[str]
) -> None:
    schema = draw_root(rng, 2)
    fused = engine(*scripts, method=method, segment_tokens=segment, exit_warmup=0)
    least = fused.generate("Hello", constraint=JsonSchema(schema), max_new_tokens=10_000)
    Draft202012Validator(schema).validate(json.loads(least.text))
    limit = least.usage.completion_tokens + more
    result = fused.generate("Hello", constraint=JsonSchema(schema), max_new_tokens=limit)
    Draft202012Validator(schema).validate(json.loads(result.text))
    assert result.usage.completion_tokens <= limit


def test_streams_sync_and_async_deliver_the_same() -> None:
    fused = engine(f"Well.\n{OSLO}", "Well, well.")
    options: dict[str, Any] = {"tools": [WEATHER, LAMPS], "seed": 3}

    async def drained() -> Generation:
        return await fused.agenerate("Hello", **options)

    first, second = fused.generate("Hello", **options), asyncio.run(drained())
    assert first.text == second.text
    assert [(c.name, c.arguments) for c in first.tool_calls] == [
        (c.name, c.arguments) for c in second.tool_calls
    ]


def test_a_stop_string_ends_text_and_not_calls() -> None:
    result = answer(f"One. Two.\n{OSLO}", tools=[WEATHER], stop=["Oslo", "Three"])
    assert result.tool_calls[0].arguments == {"city": "Oslo"}
    cut = answer(f"One. Two.\n{OSLO}", tools=[WEATHER], stop=["Two"])
    assert (cut.text, cut.tool_calls, cut.finish_reason) == ("One. ", (), "stop_sequence")


def test_thinking_is_told_apart() -> None:
    fused = engine("<think>Twelve and seven.</think>\n\nIt is 19.")
    result = fused.generate("Hello")
    assert (result.reasoning, result.text) == ("Twelve and seven.", "It is 19.")
    parts = [(part.channel, part.text) for part in fused.stream("Hello") if part.text]
    assert "".join(text for channel, text in parts if channel == "reasoning") == result.reasoning


def test_a_continued_turn_counts_and_closes_from_its_end() -> None:
    turns = [Message("user", "Hello"), Message("assistant", "So: ")]
    result = engine('{"a": 1}').generate(turns, constraint=JsonObject(), max_new_tokens=40)
    assert result.text == '{"a": 1}'


def test_what_cannot_be_served_is_refused_before_any_model_runs() -> None:
    bad: list[tuple[dict[str, Any], type[FusionError]]] = [
        ({"constraint": JsonSchema({"type": "strin"})}, InvalidConstraintError),
        ({"constraint": Regex("[")}, InvalidConstraintError),
        ({"tools": [WEATHER], "tool_choice": "order"}, UnknownToolError),
    ]
    for options, error in bad:
        fused = engine("Hello")
        with pytest.raises(error):
            fused.stream("Hello", **options)
        (backend,) = fused.backends
        assert isinstance(backend, ScriptedBackend)
        assert (backend.loads, backend.sessions) == (0, [])


def test_a_request_keeps_what_it_is_not_told_to_change() -> None:
    request = Request.of("Hello", tools=[WEATHER.as_dict()], constraint=Choice(["a"]))
    assert request.tools == (WEATHER,)
    changed = Request.of(request, tool_choice="none", max_new_tokens=5)
    assert (changed.tools, changed.tool_choice) == ((WEATHER,), "none")
    assert changed.constraint == Choice(["a"])


def test_a_call_can_be_sent_back_as_it_came() -> None:
    result = answer(OSLO, tools=[WEATHER])
    turn = Message("assistant", result.text, tool_calls=result.tool_calls)
    assert turn.tool_calls == (ToolCall("get_weather", {"city": "Oslo"}, turn.tool_calls[0].id),)
