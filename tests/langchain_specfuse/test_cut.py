"""What a limit cuts: an invalid call or a parsing error, however the answer is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cutting import KINDS, PARAMETERS, call_text, writer
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, StructuredOutputError
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.tools import StructuredTool
from langchain_core.utils.json import parse_partial_json
from pydantic import BaseModel

from langchain_specfuse import ChatSpecFuse
from langchain_specfuse._chunks import _spoiling
from specfuse_core import FusionEngine
from specfuse_core.grammar.calls import write_call
from specfuse_core.testing import ScriptedBackend

OPTIONS: dict[str, Any] = {"tool_choice": "any", "parallel_tool_calls": False}


def chat(text: str, **fields: Any) -> ChatSpecFuse:
    return ChatSpecFuse(engine=writer(text, letters=True), **fields)


def tools(kind: str) -> list[dict[str, Any]]:
    function = {"name": "delete", "description": "", "parameters": PARAMETERS[kind]}
    return [{"type": "function", "function": function}]


def merged(chunks: list[Any]) -> Any:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


async def answers(model: Any) -> dict[str, AIMessage]:
    """The same answer in every way in which an application can ask for it."""
    found: dict[str, AIMessage] = {
        "invoke": model.invoke("Hi"),
        "ainvoke": await model.ainvoke("Hi"),
        "stream": merged(list(model.stream("Hi"))),
        "astream": merged([chunk async for chunk in model.astream("Hi")]),
        # Applications also begin with an empty chunk of langchain-core.
        "empty": merged([AIMessageChunk(""), *model.stream("Hi")]),
    }
    for version in ("v1", "v2"):
        async for event in model.astream_events("Hi", version=version):
            if event["event"] == "on_chat_model_end":
                output = event["data"]["output"]
                if version == "v1" and not isinstance(output, AIMessage):
                    output = output["generations"][0][0]["message"]
                found[version] = output
    found["v3"] = model.stream_events("Hi", version="v3").output
    return found


@pytest.mark.filterwarnings("ignore:astream_events version='v1' is deprecated")
@pytest.mark.parametrize("version", [None, "v1"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_is_whole_or_invalid_at_any_limit(kind: str, version: str | None) -> None:
    text, wanted = call_text(kind), KINDS[kind][1]
    model = chat(text, output_version=version).bind_tools(tools(kind), **OPTIONS)
    begun = text.index('"value"')
    for limit in [*range(begun, len(text), 1 + len(text) // 12), len(text) - 1, len(text)]:
        for way, answer in (await answers(model.bind(max_tokens=limit))).items():
            invalid, metadata = answer.invalid_tool_calls, answer.response_metadata
            if limit == len(text):
                assert [call["args"] for call in answer.tool_calls] == [{"value": wanted}], way
                assert (invalid, metadata["closed_by_force"]) == ([], False)
                continue
            assert answer.tool_calls == [], way
            assert [call["name"] for call in invalid] == ["delete"], way
            assert metadata["closed_by_force"] is True
            assert metadata["cut_off"] == f"max_tokens={limit} was reached"
            reason = f"the call is incomplete, because max_tokens={limit} was reached."
            assert metadata["tool_call_errors"] == {invalid[0]["id"]: reason}
            if way in ("invoke", "ainvoke"):
                assert invalid[0]["error"] == reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_call_is_closed_if_the_caller_asks_for_it(kind: str) -> None:
    text = call_text(kind)
    model = chat(text, on_limit="close").bind_tools(tools(kind), **OPTIONS)
    answer = model.invoke("Hi", max_tokens=len(text) - 1)
    assert [set(call["args"]) for call in answer.tool_calls] == [{"value"}]
    assert answer.response_metadata["closed_by_force"] is True
    assert "cut_off" not in answer.response_metadata


@pytest.mark.parametrize("kind", KINDS)
def test_no_parser_completes_spoiled_arguments(kind: str) -> None:
    text = json.dumps({"value": KINDS[kind][1], "more": [{"a": [1, "b\\"]}]})
    for end in range(len(text) + 1):
        spoiled = text[:end] + _spoiling(text[:end])
        with pytest.raises(ValueError):
            json.loads(spoiled)
        try:
            found = parse_partial_json(spoiled)
        except ValueError:
            continue
        assert not isinstance(found, dict)


# Agents


def test_an_agent_that_streams_sees_the_error_too() -> None:
    # langchain-core then merges the chunks itself.
    tool = StructuredTool.from_function(lambda value: "x", name="delete", description="Delete.")
    agent: Any = create_agent(
        ChatSpecFuse(engine=writer(call_text("string")), max_tokens=8), [tool]
    )
    *_, (mode, last) = agent.stream({"messages": _asked()}, stream_mode=["messages", "values"])
    assert mode == "values"
    (call,) = last["messages"][-1].invalid_tool_calls
    assert call["error"] == "the call is incomplete, because max_tokens=8 was reached."


@pytest.mark.parametrize("window", [False, True])
async def test_an_agent_never_runs_a_cut_call(window: bool) -> None:
    path = "/srv/data/old backups of 2019 from the east office"
    text = write_call("delete", {"path": path})
    ran: list[str] = []

    def delete(path: str) -> str:
        """Delete a folder and all in it."""
        ran.append(path)
        return "deleted"

    tool = StructuredTool.from_function(delete)
    size = ScriptedBackend("count", "").count_tokens(text)
    for room in range(1, size + 2):
        fields: dict[str, Any] = {"max_tokens": room}
        engine = writer(text)
        if window:
            model = ChatSpecFuse(engine=engine)
            prompt = model.get_num_tokens_from_messages([*_asked()], tools=[tool])
            engine, fields = writer(text, window=prompt + room), {}
        agent: Any = create_agent(ChatSpecFuse(engine=engine, **fields), [tool])
        ran.clear()
        try:
            agent.invoke({"messages": _asked()})
            await agent.ainvoke({"messages": _asked()})
            list(agent.stream({"messages": _asked()}, stream_mode="messages"))
        except Exception as error:
            # The result of the tool does not fit the window any more.
            assert window and room >= size, error
        assert set(ran) <= {path}
        assert bool(ran) is (room >= size)


def _asked() -> list[Any]:
    return [HumanMessage("go")]


# Arguments stream


def test_arguments_are_streamed_in_pieces() -> None:
    content = "a paragraph of many words. " * 30
    text = write_call("write_file", {"content": content})
    schema = {"type": "object", "properties": {"content": {"type": "string"}}}
    function = {"name": "write_file", "description": "", "parameters": schema}
    engine = FusionEngine([ScriptedBackend("a", text)])
    model = ChatSpecFuse(engine=engine, call_segment_tokens=20)
    streamed = list(model.bind_tools([{"type": "function", "function": function}]).stream("Hi"))
    first, *pieces = [call for chunk in streamed for call in chunk.tool_call_chunks]
    assert (first["name"], first["args"]) == ("write_file", "")
    assert first["id"]
    assert all(piece["name"] is None and piece["id"] is None for piece in pieces)
    assert {piece["index"] for piece in pieces} == {first["index"]}
    assert len(pieces) > 10 and all(len(piece["args"]) < 80 for piece in pieces)
    assert merged(streamed).tool_calls[0]["args"] == {"content": content}


# Structured answers


class Report(BaseModel):
    summary: str
    risks: list[str]
    amount: int


REPORT = {"summary": "The bridge is not safe", "risks": ["rust", "wind and ice"], "amount": 123456}


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_a_structured_answer_is_whole_or_an_error(method: Any) -> None:
    text = json.dumps(REPORT)
    if method == "function_calling":
        text = write_call("Report", REPORT)
    for limit in [*range(1, len(text), 9), len(text) - 2, len(text) - 1, len(text)]:
        model = chat(text, max_tokens=limit)
        structured: Any = model.with_structured_output(Report, method=method)
        if limit == len(text):
            assert structured.invoke("Hi") == Report(**REPORT)
            continue
        reason = rf"is incomplete, because max_tokens={limit} was reached\. Use a larger max_tokens"
        with pytest.raises(OutputParserException, match=reason):
            structured.invoke("Hi")
        with pytest.raises(OutputParserException, match=reason):
            await structured.ainvoke("Hi")
        with pytest.raises(OutputParserException, match=reason):
            list(structured.stream("Hi"))
        with pytest.raises(OutputParserException, match=reason):
            async for _ in structured.astream("Hi"):
                pass
        raw: Any = model.with_structured_output(Report, method=method, include_raw=True)
        answer = raw.invoke("Hi")
        assert answer["parsed"] is None
        assert isinstance(answer["parsing_error"], OutputParserException)


def test_the_structured_answer_of_an_agent_is_whole_or_an_error() -> None:
    text = json.dumps(REPORT)
    for limit in range(1, len(text), 7):
        model = chat(text, max_tokens=limit)
        agent: Any = create_agent(model, [], response_format=ProviderStrategy(Report))
        with pytest.raises(StructuredOutputError):
            agent.invoke({"messages": _asked()})
    agent = create_agent(chat(text), [], response_format=ProviderStrategy(Report))
    assert agent.invoke({"messages": _asked()})["structured_response"] == Report(**REPORT)


def test_a_structured_answer_is_closed_if_the_caller_asks_for_it() -> None:
    text = json.dumps(REPORT)
    model = chat(text, max_tokens=len(text) - 3, on_limit="close").with_structured_output(Report)
    found: Any = model.invoke("Hi")
    assert found.summary == REPORT["summary"]
    assert found.amount < 123456


def test_the_profile_tells_the_limits() -> None:
    profile: Any = chat("x").profile
    assert (profile["max_input_tokens"], profile["max_output_tokens"]) == (4095, 4096)
    assert chat("x", max_tokens=7).profile["max_output_tokens"] == 7  # type: ignore[index]
    assert profile["tool_call_streaming"] is True
