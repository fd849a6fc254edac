"""What a limit cuts: no call or a StructuredAnswerError, however the answer is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cutting import KINDS, PARAMETERS, call_text, writer
from llama_index.core import PromptTemplate
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatMessage, ChatResponse
from llama_index.core.tools import FunctionTool
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel

from llamaindex_specfuse import SpecFuseLLM
from llamaindex_specfuse.errors import StructuredAnswerError, ToolCallError
from specfuse_core import FusionEngine, Tool
from specfuse_core.grammar.calls import write_call
from specfuse_core.testing import ScriptedBackend

HELLO = [ChatMessage(role="user", content="Hi")]


def llm(text: str, **fields: Any) -> SpecFuseLLM:
    return SpecFuseLLM(engine=writer(text, letters=True), **fields)


async def responses(model: SpecFuseLLM, **options: Any) -> list[ChatResponse]:
    """The same answer from all chat endpoints."""
    *_, streamed = model.stream_chat(HELLO, **options)
    found = [model.chat(HELLO, **options), await model.achat(HELLO, **options), streamed]
    async for response in await model.astream_chat(HELLO, **options):
        last = response
    return [*found, last]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_is_whole_or_no_call_at_any_limit(kind: str) -> None:
    text, wanted = call_text(kind), KINDS[kind][1]
    model = llm(text)
    options: dict[str, Any] = {
        "tools": [Tool("delete", "", PARAMETERS[kind])],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    begun = text.index('"value"')
    for limit in [*range(begun, len(text), 1 + len(text) // 12), len(text) - 1, len(text)]:
        for response in await responses(model, max_tokens=limit, **options):
            found = model.get_tool_calls_from_response(response, error_on_no_tool_call=False)
            blocks = [b for b in response.message.blocks if isinstance(b, ToolCallBlock)]
            mirrored = response.message.additional_kwargs.get("tool_calls", [])
            assert isinstance(response.raw, dict)
            told = response.raw["specfuse"]
            if limit == len(text):
                assert [call.tool_kwargs for call in found] == [{"value": wanted}]
                assert (told["closed_by_force"], told["cut_off"]) == (False, None)
                continue
            assert (found, blocks, mirrored) == ([], [], [])
            reason = f"max_tokens={limit} was reached"
            assert (told["closed_by_force"], told["cut_off"]) == (True, reason)
            (invalid,) = told["invalid_tool_calls"]
            assert (invalid["name"], invalid["error"]) == (
                "delete",
                f"the call is incomplete, because {reason}.",
            )
            assert text.find(invalid["arguments"]) > 0
            with pytest.raises(ToolCallError, match=rf"'delete': .* because {reason}\."):
                model.get_tool_calls_from_response(response)


def test_a_cut_call_is_closed_if_the_caller_asks_for_it() -> None:
    text = call_text("string")
    model = llm(text, on_limit="close", max_tokens=len(text) - 1)
    response = model.chat(HELLO, tools=[Tool("delete", "", PARAMETERS["string"])])
    (call,) = model.get_tool_calls_from_response(response)
    assert KINDS["string"][1].startswith(call.tool_kwargs["value"])


@pytest.mark.parametrize("window", [False, True])
async def test_an_agent_never_runs_a_cut_call(window: bool) -> None:
    path = "/srv/data/old backups of 2019 from the east office"
    text = write_call("delete", {"path": path})
    ran: list[str] = []

    def delete(path: str) -> str:
        """Delete a folder and all in it."""
        ran.append(path)
        return "deleted"

    tool = FunctionTool.from_defaults(delete)
    backend = ScriptedBackend("count", "")
    size = backend.count_tokens(text)
    described = Tool("delete", tool.metadata.description or "", tool.metadata.get_parameters_dict())
    prompt = 2 + backend.count_prompt_tokens((), [described])
    for room in range(1, size + 1):
        fields: dict[str, Any] = {} if window else {"max_tokens": room}
        model = SpecFuseLLM(engine=writer(text, window=prompt + room if window else 4096), **fields)
        ran.clear()
        model.predict_and_call([tool], "go", error_on_no_tool_call=False)
        await model.apredict_and_call([tool], "go", error_on_no_tool_call=False)
        assert ran == ([path, path] if room >= size else [])
        if room < size:
            with pytest.raises(ToolCallError):
                model.predict_and_call([tool], "go")
            for streaming in (True, False):
                agent = FunctionAgent(tools=[tool], llm=model, streaming=streaming)
                await agent.run("go")
            assert ran == []


def test_the_arguments_of_a_call_grow_in_a_stream() -> None:
    value = "a paragraph of many words. " * 9
    text = write_call("delete", {"value": value})
    engine = FusionEngine([ScriptedBackend("a", text)])
    model = SpecFuseLLM(engine=engine, call_segment_tokens=8)
    shown: list[Any] = []
    tools = [Tool("delete", "", PARAMETERS["string"])]
    for response in model.stream_chat(HELLO, tools=tools):
        blocks = [b for b in response.message.blocks if isinstance(b, ToolCallBlock)]
        shown += [block.tool_kwargs for block in blocks]
    growing = [each for each in shown if isinstance(each, str)]
    assert len(growing) > 4
    assert growing == sorted(growing, key=len)
    assert json.loads(growing[-1]) == {"value": value}
    assert shown[-1] == {"value": value}


class Report(BaseModel):
    summary: str
    risks: list[str]
    amount: int


REPORT = {"summary": "The bridge is not safe", "risks": ["rust", "wind and ice"], "amount": 123456}
PROMPT = PromptTemplate("Report.")


@pytest.mark.parametrize("mode", [PydanticProgramMode.DEFAULT, PydanticProgramMode.FUNCTION])
async def test_a_structured_answer_is_whole_or_an_error(mode: Any) -> None:
    text = json.dumps(REPORT)
    if mode == PydanticProgramMode.FUNCTION:
        text = write_call("Report", REPORT)
    for limit in [*range(1, len(text), 9), len(text) - 2, len(text) - 1, len(text)]:
        model = llm(text, max_tokens=limit, pydantic_program_mode=mode)
        if limit == len(text):
            assert model.structured_predict(Report, PROMPT) == Report(**REPORT)
            continue
        reason = rf"is not a whole Report, because max_tokens={limit} was reached\. Use a larger"
        with pytest.raises(StructuredAnswerError, match=reason):
            model.structured_predict(Report, PROMPT)
        with pytest.raises(StructuredAnswerError, match=reason):
            await model.astructured_predict(Report, PROMPT)
        with pytest.raises(StructuredAnswerError, match=reason):
            list(model.stream_structured_predict(Report, PROMPT))
        with pytest.raises(StructuredAnswerError, match=reason):
            async for _ in await model.astream_structured_predict(Report, PROMPT):
                pass


def test_a_structured_answer_is_closed_if_the_caller_asks_for_it() -> None:
    text = json.dumps(REPORT)
    model = llm(text, max_tokens=len(text) - 3, on_limit="close")
    found = model.structured_predict(Report, PROMPT)
    assert (found.summary, found.risks) == (REPORT["summary"], REPORT["risks"])
    assert found.amount < 123456
