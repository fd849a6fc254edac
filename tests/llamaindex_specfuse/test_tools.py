"""Tools and structured answers of SpecFuseLLM, and what the core gets wrong about both."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatMessage, ChatResponse
from llama_index.core.program import FunctionCallingProgram
from llama_index.core.prompts import ChatPromptTemplate
from llama_index.core.tools import FunctionTool, ToolMetadata
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, Field, RootModel, field_validator
from wellread import well_read

from llamaindex_specfuse import SpecFuseLLM
from llamaindex_specfuse.errors import StructuredAnswerError, ToolCallError
from specfuse_core import FusionEngine, Tool
from specfuse_core.errors import (
    InvalidConstraintError,
    InvalidOptionError,
    InvalidToolError,
    UnknownToolError,
)
from specfuse_core.grammar.calls import write_call
from specfuse_core.testing import ScriptedBackend


def order_lamps(quantity: int) -> str:
    """Order lamps."""
    return f'{{"price": {3 * quantity}}}'


def fail(reason: str = "") -> str:
    """Fails."""
    raise OSError("the shop is shut")


class Person(BaseModel):
    """A person."""

    name: str
    age: int
    city: str


ORDER = FunctionTool.from_defaults(order_lamps)
FAIL = FunctionTool.from_defaults(fail)
CALL = write_call("order_lamps", {"quantity": 12})
AGAIN = write_call("order_lamps", {"quantity": 7})
ANNA = Person(name="Anna", age=31, city="Oslo")
PROMPT = PromptTemplate("{text}")
TEXT = "Anna is 31 years old. Anna lives in Oslo."
MODES = [PydanticProgramMode.DEFAULT, PydanticProgramMode.FUNCTION, PydanticProgramMode.LLM]


def llm_of(*scripts: Any, **options: Any) -> SpecFuseLLM:
    backends = [ScriptedBackend("abc"[i], script) for i, script in enumerate(scripts)]
    return SpecFuseLLM(engine=FusionEngine(backends), **options)


def asked(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


# --- tools ------------------------------------------------------------------------------------


def test_chat_with_tools_prepares_a_conversation_and_leaves_the_history() -> None:
    history = asked("Hello")
    model = llm_of("x")
    made = model._prepare_chat_with_tools([ORDER], "More?", history, tool_required=True)
    assert [message.content for message in made["messages"]] == ["Hello", "More?"]
    assert len(history) == 1
    assert made["tool_choice"] == "required"
    assert made["parallel_tool_calls"] is False
    (tool,) = made["tools"]
    assert tool["function"]["name"] == "order_lamps"
    assert tool["function"]["description"].endswith("Order lamps.")
    assert tool["function"]["parameters"]["properties"]["quantity"]["type"] == "integer"
    assert model._prepare_chat_with_tools([ORDER])["tool_choice"] == "auto"
    assert model._prepare_chat_with_tools([ORDER], tool_choice="x")["tool_choice"] == "x"
    assert "tools" not in model._prepare_chat_with_tools([], tool_choice="x")


@pytest.mark.parametrize(
    "choice", ["required", "any", True, "order_lamps", {"type": "tool", "name": "order_lamps"}]
)
async def test_a_call_can_be_required(choice: Any) -> None:
    model = llm_of("I would rather talk.")
    made = model.chat_with_tools([ORDER, FAIL], "Hello", tool_choice=choice)
    (call,) = model.get_tool_calls_from_response(made)
    streamed = list(model.stream_chat_with_tools([ORDER], "Hello", tool_required=True))
    assert model.get_tool_calls_from_response(streamed[-1])
    if "order" in str(choice):
        assert call.tool_name == "order_lamps"
    assert isinstance((await model.achat_with_tools([ORDER], "Hi")).message.content, str)


def test_choices_that_make_no_sense_are_refused() -> None:
    model = llm_of("x")
    with pytest.raises(UnknownToolError, match="order_lamps"):
        model.chat_with_tools([ORDER], "Hello", tool_choice="get_weather")
    with pytest.raises(InvalidOptionError):
        model.chat_with_tools([ORDER], "Hello", tool_choice={})
    with pytest.raises(InvalidToolError, match=r"cannot be used as a tool\. Use a FunctionTool"):
        model.chat_with_tools([3], "Hello")  # type: ignore[list-item]
    with pytest.raises(InvalidToolError, match="two tools"):
        model.chat_with_tools([ORDER, ORDER], "Hello")


def test_everything_that_describes_a_tool_does() -> None:
    class Given:
        metadata = ToolMetadata(name="given", description="Something.", fn_schema=None)

    model = llm_of("I would rather talk.")
    several: list[Any] = [
        ORDER,
        Given(),
        Tool("mine", "", {"properties": {"x": {"type": "integer"}}}),
        {"type": "function", "function": {"name": "raw", "parameters": {"properties": {}}}},
    ]
    for tool in several:
        made = model.chat_with_tools([tool], "Hello", tool_required=True)
        (call,) = model.get_tool_calls_from_response(made)
        assert call.tool_id


def test_one_call_or_several_each_with_an_id() -> None:
    model = llm_of(f"{CALL}\n{AGAIN}")
    both = model.chat_with_tools([ORDER], "Hello", allow_parallel_tool_calls=True)
    calls = model.get_tool_calls_from_response(both)
    assert [call.tool_kwargs for call in calls] == [{"quantity": 12}, {"quantity": 7}]
    assert len({call.tool_id for call in calls}) == 2
    assert calls == model.get_tool_calls_from_response(both)
    one = model.chat_with_tools([ORDER], "Hello")
    assert len(model.get_tool_calls_from_response(one)) == 1


def test_calls_are_in_blocks_and_where_the_core_looks() -> None:
    model = llm_of(f"Well.\n{CALL}")
    responses = list(model.stream_chat_with_tools([ORDER], "Hello"))
    with_calls = [each for each in responses if each.message.additional_kwargs]
    assert with_calls
    for response in responses:
        blocks = [each for each in response.message.blocks if isinstance(each, ToolCallBlock)]
        mirrored = response.message.additional_kwargs.get("tool_calls", [])
        assert len(blocks) == len(mirrored)
        # An agent asks at every response.
        found = model.get_tool_calls_from_response(response, error_on_no_tool_call=False)
        assert len(found) == len(blocks)
    function = with_calls[-1].message.additional_kwargs["tool_calls"][0]["function"]
    assert function == {"name": "order_lamps", "arguments": '{"quantity": 12}'}


def test_calls_in_other_forms_are_read() -> None:
    model = llm_of("x")
    openai = {"id": "7", "function": {"name": "add", "arguments": '{"a": 1}'}}
    odd = [openai, {"id": "8"}, {"function": {"name": "sub", "arguments": "{cut off"}}]
    message = ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": odd})
    calls = model.get_tool_calls_from_response(ChatResponse(message=message))
    assert [(call.tool_name, call.tool_kwargs) for call in calls] == [
        ("add", {"a": 1}),
        ("sub", {}),
    ]
    assert calls[0].tool_id == "7"
    assert calls[1].tool_id


def test_an_answer_without_a_call_is_an_error_where_one_is_needed() -> None:
    model = llm_of("No.")
    response = model.chat(asked("Hello"))
    assert model.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(ToolCallError, match=r"calls no tool: 'No\.'. Require a call"):
        model.get_tool_calls_from_response(response)
    with pytest.raises(ToolCallError, match="Use a larger max_tokens"):
        model.predict_and_call([ORDER], "Hello", max_tokens=1)


# --- predict and call -------------------------------------------------------------------------


@pytest.mark.parametrize("calling", [True, False])
async def test_predict_and_call_needs_no_flag(calling: bool) -> None:
    # Of any other model without it, the core asks for a ReAct agent that it cannot make.
    model = llm_of("I would rather talk.", is_function_calling_model=calling)
    for done in (
        model.predict_and_call([ORDER], "Hello"),
        await model.apredict_and_call([ORDER], "Hello"),
    ):
        (source,) = done.sources
        assert source.tool_name == "order_lamps"
        assert done.response == source.content


async def test_predict_and_call_may_be_answered_where_that_is_allowed() -> None:
    model = llm_of("No.")
    for done in (
        model.predict_and_call([ORDER], "Hello", error_on_no_tool_call=False),
        await model.apredict_and_call([ORDER], "Hello", error_on_no_tool_call=False),
    ):
        assert (done.response, done.sources) == ("No.", [])
    with pytest.raises(ToolCallError):
        model.predict_and_call([ORDER], "Hello", tool_choice="auto")


async def test_predict_and_call_calls_several_and_tells_errors() -> None:
    model = llm_of(f"{CALL}\n{AGAIN}")
    for done in (
        model.predict_and_call([ORDER], "Hi", allow_parallel_tool_calls=True, verbose=False),
        await model.apredict_and_call([ORDER], "Hi", allow_parallel_tool_calls=True),
    ):
        assert done.response == '{"price": 36}\n\n{"price": 21}'
    failing = llm_of(write_call("fail", {}))
    done = failing.predict_and_call([FAIL], "Hi")
    assert done.sources[0].is_error
    with pytest.raises(ToolCallError, match="the shop is shut"):
        failing.predict_and_call([FAIL], "Hi", error_on_tool_error=True)
    with pytest.raises(ToolCallError, match="the shop is shut"):
        await failing.apredict_and_call([FAIL], "Hi", error_on_tool_error=True)


def test_what_only_react_needs_is_ignored() -> None:
    model = llm_of(CALL)
    extra: dict[str, Any] = {
        "react_chat_formatter": None,
        "output_parser": None,
        "tool_retriever": None,
    }
    assert model.predict_and_call([ORDER], "Hi", **extra).sources


# --- structured answers -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("calling", [True, False])
async def test_structured_answers_in_all_forms(mode: PydanticProgramMode, calling: bool) -> None:
    options = {"pydantic_program_mode": mode, "is_function_calling_model": calling}
    model = llm_of(well_read, well_read, segment_tokens=2, **options)
    assert model.structured_predict(Person, PROMPT, text=TEXT) == ANNA
    assert await model.astructured_predict(Person, PROMPT, text=TEXT) == ANNA
    streamed: list[Any] = list(model.stream_structured_predict(Person, PROMPT, text=TEXT))
    stream = await model.astream_structured_predict(Person, PROMPT, text=TEXT)
    astreamed: list[Any] = [each async for each in stream]
    assert [each.model_dump() for each in streamed] == [each.model_dump() for each in astreamed]
    assert streamed[-1] == ANNA
    assert isinstance(streamed[-1], Person)
    if mode != PydanticProgramMode.FUNCTION:
        # A call is one segment; text grows.
        assert len(streamed) > 2
        assert streamed[0].age is None
    for earlier, later in pairwise(streamed):
        assert earlier.model_dump() != later.model_dump()


@pytest.mark.parametrize("mode", MODES)
async def test_whatever_models_want_the_answer_has_its_form(mode: PydanticProgramMode) -> None:
    class Fenced(BaseModel):
        count: int = Field(ge=3, le=9)
        words: list[str] = Field(max_length=2)

    fence = 'Sure! ```json\n{"count": 50}\n``` or {"other": 1}'
    model = llm_of(fence, "I would rather talk.", pydantic_program_mode=mode)
    found = model.structured_predict(Fenced, PROMPT, text="Hi")
    assert isinstance(found, Fenced)
    *_, last = model.stream_structured_predict(Fenced, PROMPT, text="Hi")
    assert isinstance(last, Fenced)


def test_templates_and_system_prompts_are_honoured_and_left_alone() -> None:
    seen: list[Any] = []

    def script(request: Any, response: str) -> str:
        seen.append(request.messages)
        return well_read(request, response)

    model = llm_of(script, system_prompt="Be brief.", schema_in_prompt=False)
    prompt = ChatPromptTemplate(
        message_templates=[
            ChatMessage(role="system", content="You read {what}."),
            ChatMessage(role="user", content="{text}"),
        ]
    )
    before = copy.deepcopy(prompt)
    model.structured_predict(Person, prompt, what="notes", text=TEXT)
    assert [turn.content for turn in seen[-1]] == ["Be brief.", "You read notes.", TEXT]
    assert prompt == before
    assert prompt.output_parser is None


def test_arguments_of_the_call_are_honoured_and_left_alone() -> None:
    model = llm_of(well_read)
    options: dict[str, Any] = {"max_tokens": 1, "tool_required": True, "tool_choice": None}
    before = dict(options)
    with pytest.raises(StructuredAnswerError, match=r"because max_tokens=1 was reached\. Use"):
        model.structured_predict(Person, PROMPT, llm_kwargs=options, text=TEXT)
    assert options == before


async def test_an_answer_that_was_cut_off_is_an_error_everywhere() -> None:
    engine = FusionEngine([ScriptedBackend("a", well_read)])
    for mode in MODES:
        model = SpecFuseLLM(engine=engine, pydantic_program_mode=mode, max_tokens=1)
        with pytest.raises(
            StructuredAnswerError, match="is not a whole Person, because max_tokens=1"
        ):
            model.structured_predict(Person, PROMPT, text="Hi")
        with pytest.raises(StructuredAnswerError):
            await model.astructured_predict(Person, PROMPT, text="Hi")
        with pytest.raises(StructuredAnswerError):
            list(model.stream_structured_predict(Person, PROMPT, text="Hi"))
        with pytest.raises(StructuredAnswerError) as caught:
            async for _ in await model.astream_structured_predict(Person, PROMPT, text="Hi"):
                pass
        assert not isinstance(caught.value, ValueError | TypeError)


def test_what_only_a_validator_knows_is_an_error_too() -> None:
    class Even(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def even(cls, number: int) -> int:
            if number % 2:
                raise ValueError("it is odd")
            return number

    with pytest.raises(StructuredAnswerError, match="it is odd"):
        llm_of('{"number": 3}').structured_predict(Even, PROMPT, text="Hi")
    assert llm_of('{"number": 4}').structured_predict(Even, PROMPT, text="Hi").number == 4


def test_what_has_no_schema_is_refused() -> None:
    class Odd(BaseModel):
        thing: Any = None
        call: type[int] | None = None

        model_config = {"arbitrary_types_allowed": True}

    model = llm_of("Hello")
    with pytest.raises(InvalidConstraintError, match="must be a pydantic class, got"):
        model.structured_predict(dict, PROMPT, text="Hi")  # type: ignore[type-var]

    class Callable_(BaseModel):
        thing: object = Field(json_schema_extra=lambda schema: 1 / 0)  # type: ignore[arg-type]

    with pytest.raises(InvalidConstraintError, match="has no JSON schema"):
        model.structured_predict(Callable_, PROMPT, text="Hi")


def test_lists_are_objects_too() -> None:
    class Names(RootModel[list[str]]):
        pass

    model = llm_of('["Anna", "Ben"]')
    assert model.structured_predict(Names, PROMPT, text="Hi") == Names(["Anna", "Ben"])
    *_, last = model.stream_structured_predict(Names, PROMPT, text="Hi")
    assert last == Names(["Anna", "Ben"])


# --- the core's own programs ------------------------------------------------------------------


async def test_the_cores_program_streams_objects_not_blanks() -> None:
    # It says neither that a call is needed nor where it looks for one.
    model = llm_of(well_read, well_read)
    program = FunctionCallingProgram.from_defaults(Person, prompt=PROMPT, llm=model)
    assert program(text=TEXT) == ANNA
    streamed: list[Any] = list(program.stream_call(text=TEXT))
    assert streamed[-1] == ANNA
    astreamed: list[Any] = [each async for each in await program.astream_call(text=TEXT)]
    assert astreamed[-1] == ANNA


async def test_the_cores_program_forgets_no_system_prompt() -> None:
    seen: list[Any] = []

    def script(request: Any, response: str) -> str:
        seen.append([turn.role for turn in request.messages])
        return well_read(request, response)

    model = llm_of(script, system_prompt="Be brief.")
    program = FunctionCallingProgram.from_defaults(Person, prompt=PROMPT, llm=model)
    program(text=TEXT)
    await program.acall(text=TEXT)
    list(program.stream_call(text=TEXT))
    assert set(map(tuple, seen)) == {("system", "user")}


async def test_tools_that_are_called_directly_get_the_system_prompt_once() -> None:
    seen: list[Any] = []

    def script(request: Any, response: str) -> str:
        seen.append([turn.content for turn in request.messages])
        return "Done."[len(response) :]

    model = llm_of(script, system_prompt="Be brief.")
    history = asked("Order 12 lamps.")
    for options in ({"chat_history": history}, {"user_msg": "Order 12 lamps."}):
        model.predict_and_call([ORDER], error_on_no_tool_call=False, **options)
        await model.apredict_and_call([ORDER], error_on_no_tool_call=False, **options)
    assert set(map(tuple, seen)) == {("Be brief.", "Order 12 lamps.")}


# --- ReAct ------------------------------------------------------------------------------------


def test_a_model_that_acts_does_not_observe() -> None:
    acting = 'Thought: I order.\nAction: order_lamps\nAction Input: {"quantity": 12}'
    model = llm_of(f'{acting}\nObservation: {{"price": 99}}', segment_tokens=3)
    header = "Thought: ...\nAction: ...\nAction Input: ...\nObservation: ...\nAnswer: ..."
    taught = [ChatMessage(role="system", content=header), *asked("Order 12 lamps.")]
    assert model.chat(taught).message.content == acting
    streamed = list(model.stream_chat(taught))
    assert "".join(each.delta or "" for each in streamed) == acting
    in_user_turn = asked(f"{header}\n\nOrder 12 lamps.")
    assert model.chat(in_user_turn).message.content == acting
    # Only where it was taught, and beside other stop strings.
    assert "Observation:" in (model.chat(asked("Order 12 lamps.")).message.content or "")
    assert model.chat(taught, stop=["Action Input"]).message.content == (
        "Thought: I order.\nAction: order_lamps\n"
    )
