"""ChatSpecFuse on scripted base models: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from competent import competent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ContextOverflowError, OutputParserException
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_core.tools import tool
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import TypedDict

import specfuse_core
from langchain_specfuse import ChatSpecFuse
from langchain_specfuse._messages import turns_of
from langchain_specfuse._tools import choice_of, constraint_of, tools_of
from specfuse_core import (
    Choice,
    FusionEngine,
    FusionError,
    JsonObject,
    Message,
    ToolCall,
)
from specfuse_core.answer import deadline
from specfuse_core.errors import (
    AnswerTimeoutError,
    EmptyConversationError,
    InvalidMessageError,
    InvalidOptionError,
    InvalidToolError,
    PromptTooLongError,
    UnknownModelError,
    UnknownOptionError,
    UnknownToolError,
)
from specfuse_core.frameworks.registry import release_engines
from specfuse_core.grammar.calls import write_call
from specfuse_core.testing import ScriptedBackend


@tool
def get_weather(city: str) -> str:
    """Tells the weather in a city."""
    return f"It is sunny in {city}."


@tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


class Person(BaseModel):
    """A person."""

    name: str
    age: int


class PersonV1(BaseModelV1):
    """A person."""

    name: str
    age: int


class PersonDict(TypedDict):
    """A person."""

    name: Annotated[str, ..., "what they are called"]
    age: Annotated[int, ..., "in years"]


OSLO = write_call("get_weather", {"city": "Oslo"})
BERGEN = write_call("get_weather", {"city": "Bergen"})


def chat(*scripts: Any, **options: Any) -> ChatSpecFuse:
    backends = [ScriptedBackend("abc"[i], script) for i, script in enumerate(scripts)]
    return ChatSpecFuse(engine=FusionEngine(backends), **options)


def merged(chunks: Sequence[BaseMessage]) -> AIMessageChunk:
    whole: Any = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert isinstance(whole, AIMessageChunk)
    return whole


# --- messages ---------------------------------------------------------------------------------


def test_every_kind_of_message_becomes_a_turn() -> None:
    call = {"name": "add", "args": {"a": 1, "b": 2}, "id": "1", "type": "tool_call"}
    turns = turns_of(
        [
            SystemMessage("Be brief."),
            HumanMessage([{"type": "text", "text": "One"}, "Two"], name="anna"),
            AIMessage([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "So"}]),
            AIMessage("", tool_calls=[call]),
            ToolMessage("3", tool_call_id="1"),
            ToolMessage("no such thing", tool_call_id="2", status="error"),
            FunctionMessage("4", name="add"),
            ChatMessage("Hi", role="human"),
            ChatMessage("Hi", role="developer"),
        ]
    )
    assert turns == (
        Message("system", "Be brief."),
        Message("user", "One\n\nTwo", name="anna"),
        Message("assistant", "So"),
        Message("assistant", "", (ToolCall("add", {"a": 1, "b": 2}, "1"),)),
        Message("tool", "3", tool_call_id="1"),
        Message("tool", "Error: no such thing", tool_call_id="2"),
        Message("tool", "4", name="add"),
        Message("user", "Hi"),
        Message("system", "Hi"),
    )


def test_anthropics_blocks_become_calls_and_results() -> None:
    use = {"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}}
    turns = turns_of(
        [
            AIMessage([{"type": "text", "text": "Look"}, use]),
            HumanMessage(
                [
                    {"type": "tool_result", "tool_use_id": "1", "content": "2"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "2",
                        "content": [{"type": "text", "text": "late"}],
                        "is_error": True,
                    },
                ]
            ),
        ]
    )
    assert turns == (
        Message("assistant", "Look", (ToolCall("add", {"a": 1}, "1"),)),
        Message("tool", "2", tool_call_id="1"),
        Message("tool", "Error: late", tool_call_id="2"),
    )


def test_a_call_is_told_once_though_blocks_repeat_it() -> None:
    call = {"name": "add", "args": {}, "id": "1", "type": "tool_call"}
    use = {"type": "tool_use", "id": "1", "name": "add", "input": {}}
    (turn,) = turns_of([AIMessage([use, dict(call)], tool_calls=[call])])
    assert [each.id for each in turn.tool_calls] == ["1"]


@pytest.mark.parametrize("kind", ["image", "image_url", "audio", "video", "file", "input_audio"])
def test_media_are_refused_by_name(kind: str) -> None:
    message = HumanMessage([{"type": kind, kind: {"url": "data:,"}, "url": "https://x.y/z"}])
    with pytest.raises(FusionError, match="only text"):
        chat("Hello").invoke([message])


def test_what_is_no_turn_is_refused() -> None:
    with pytest.raises(InvalidMessageError, match="RemoveMessage"):
        turns_of([RemoveMessage(id="1")])
    with pytest.raises(InvalidMessageError, match="unknown role 'judge'"):
        turns_of([ChatMessage("Hi", role="judge")])


# --- answers ----------------------------------------------------------------------------------

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("One two three four five six seven eight nine ten eleven twelve.", {}),
    "reasoning": ("<think>Twelve and seven.</think>\n\nIt is 19.", {}),
    "call": (OSLO, {"tools": [get_weather]}),
    "text and calls": (f"Let me look.\n{OSLO}\n{BERGEN}", {"tools": [get_weather]}),
    "all": (f"<think>Hm.</think>Let me look.\n{OSLO}\n{BERGEN}", {"tools": [get_weather]}),
}


def shape(message: BaseMessage) -> tuple[Any, ...]:
    assert isinstance(message, AIMessage)
    kept = {key: value for key, value in message.additional_kwargs.items()}
    calls = [(call["name"], call["args"]) for call in message.tool_calls]
    meta = dict(message.response_metadata)
    meta.pop("specfuse", None)
    rounds = [
        (each["round"], each["model"], each["votes"]) for each in kept.pop("specfuse_rounds", [])
    ]
    blocks = [
        {key: value for key, value in block.items() if key not in ("id", "index")}
        for block in message.content_blocks
    ]
    return message.text, calls, kept, meta, rounds, blocks, message.usage_metadata


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", [None, "v1"])
async def test_all_ways_to_ask_give_the_same_answer(case: str, version: str | None) -> None:
    script, options = CASES[case]
    model: Any = chat(script, script, seed=3, fusion_metadata="rounds", output_version=version)
    if options:
        model = model.bind_tools(**options)
    whole = model.invoke("Hello")
    ways = [
        merged(list(model.stream("Hello"))),
        await model.ainvoke("Hello"),
        merged([chunk async for chunk in model.astream("Hello")]),
        model.batch(["Hello"])[0],
    ]
    for way in ways:
        assert shape(way) == shape(whole)
    text, calls, extra, meta, rounds, blocks, usage = shape(whole)
    assert meta["model_name"] == "a,b"
    assert meta["model_provider"] == "specfuse"
    assert rounds[0][0] == 1
    assert [each[0] for each in rounds] == list(range(1, len(rounds) + 1))
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    if case in ("reasoning", "all"):
        assert blocks[0]["type"] == "reasoning"
        assert extra["reasoning_content"] == ("Hm." if case == "all" else "Twelve and seven.")
    if calls:
        assert calls[0] == ("get_weather", {"city": "Oslo"})
        assert meta["finish_reason"] == "tool_calls"
        assert [block["type"] for block in blocks].count("tool_call") == len(calls)
        assert "<tool_call>" not in text
    else:
        assert meta["finish_reason"] == "stop"
        assert text in script


def test_metadata_stand_where_they_survive() -> None:
    chunks = list(chat("One two three. " * 9, fusion_metadata="rounds").stream("Hello"))
    assert len(chunks) > 3
    first, *middle, last = chunks
    assert set(first.response_metadata) == {"model_name", "model_provider"}
    assert all(not chunk.response_metadata for chunk in middle)
    assert set(last.response_metadata) == {"closed_by_force", "finish_reason", "specfuse"}
    assert last.response_metadata["closed_by_force"] is False
    assert [bool(chunk.usage_metadata) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert last.chunk_position == "last"
    told = last.response_metadata["specfuse"]
    assert told["finish_reason"] == "stop"
    assert told["models"]["a"]["segments"] == told["rounds"] == len(chunks) - 1


def test_what_is_told_of_the_fusion_can_be_less() -> None:
    summary = chat("Well.").invoke("Hello")
    assert "specfuse" in summary.response_metadata
    assert summary.additional_kwargs == {}
    off = chat("Well.", fusion_metadata="off").invoke("Hello")
    assert "specfuse" not in off.response_metadata
    assert off.additional_kwargs == {}


async def test_rounds_survive_the_third_version_of_events() -> None:
    model = chat("One two three. " * 9, fusion_metadata="rounds")
    told = model.invoke("Hello")
    out = model.stream_events("Hello", version="v3").output
    assert out.text == told.text
    assert out.usage_metadata == told.usage_metadata
    assert out.response_metadata["model_name"] == "a"
    rounds = out.additional_kwargs["specfuse_rounds"]
    assert [each["round"] for each in rounds] == list(range(1, len(rounds) + 1))
    assert len(rounds) == told.response_metadata["specfuse"]["rounds"] > 1


def test_a_last_turn_of_the_assistant_is_continued() -> None:
    backend = ScriptedBackend("a", lambda request, response: " world."[len(response) :])
    model = ChatSpecFuse(engine=FusionEngine([backend]))
    assert model.invoke([HumanMessage("Say it."), AIMessage("Hello")]).text == " world."


def test_text_and_calls_never_share_a_chunk_nor_an_index() -> None:
    script, options = CASES["all"]
    for chunk in chat(script).bind_tools(**options).stream("Hello"):
        assert not (chunk.text and getattr(chunk, "tool_call_chunks", None))
    model = chat(script, output_version="v1").bind_tools(**options)
    blocks: list[Any] = [block for chunk in model.stream("Hello") for block in chunk.content]
    kinds = {block["index"]: block["type"] for block in blocks}
    assert sorted(kinds.values()) == ["reasoning", "text", "tool_call_chunk", "tool_call_chunk"]
    assert all(kinds[block["index"]] == block["type"] for block in blocks)


def test_parts_of_a_call_that_was_cut_off_can_be_sent_back() -> None:
    invalid = {"name": "add", "args": '{"a"]', "id": "7", "error": None}
    message = AIMessage("", invalid_tool_calls=[{**invalid, "type": "invalid_tool_call"}])
    (turn,) = turns_of([message])
    assert turn.tool_calls == (ToolCall("add", {}, "7"),)


# --- options ----------------------------------------------------------------------------------


def test_what_is_set_and_what_a_call_says() -> None:
    model = chat("One two three four five.", max_tokens=2, stop=["four"])
    assert model.invoke("Hello").text == "One two"
    assert model.invoke("Hello", max_tokens=9).text == "One two three "
    assert model.invoke("Hello", max_tokens=9, stop=["two"]).text == "One "
    assert model.bind(max_tokens=1).invoke("Hello").text == "One"
    assert model.invoke("Hello", constraint=Choice(["yes", "no"]), max_tokens=9).text in "yes no"


def test_knobs_reach_the_engine() -> None:
    script = "One two three four five six seven eight."
    by_field = chat(script, segment_tokens=2)
    short = by_field.invoke("Hello").response_metadata["specfuse"]["rounds"]
    assert (
        short > by_field.invoke("Hello", segment_tokens=4).response_metadata["specfuse"]["rounds"]
    )
    engine = FusionEngine([ScriptedBackend("a", script)]).with_config(call_segment_tokens=None)
    assert ChatSpecFuse(engine=engine)._fusion({}).config.call_segment_tokens is None
    assert chat(script, method="specfuse")._fusion({}).config.model_exit is True


async def failing(model: Any, question: Any, error: type[Exception]) -> None:
    """The same error in every mode."""
    with pytest.raises(error):
        model.invoke(question)
    with pytest.raises(error):
        list(model.stream(question))
    with pytest.raises(error):
        model.batch([question])
    with pytest.raises(error):
        await model.ainvoke(question)
    with pytest.raises(error):
        async for _ in model.astream(question):
            pass


async def test_errors_surface_as_themselves_in_every_mode() -> None:
    model = chat("Hello")
    await failing(model.bind(tempature=1), "Hello", UnknownOptionError)
    await failing(model.bind(model="z"), "Hello", UnknownModelError)
    await failing(model, [HumanMessage("")], EmptyConversationError)
    await failing(model, "word " * 5000, PromptTooLongError)
    await failing(model, "word " * 5000, ContextOverflowError)
    await failing(model.bind(tools=[get_weather], tool_choice="x"), "Hello", UnknownToolError)
    await failing(ChatSpecFuse(models=["./nowhere"]), "Hello", FusionError)

    def broken(request: Any, response: str) -> str:
        raise ZeroDivisionError("in a model")

    await failing(chat(broken), "Hello", ZeroDivisionError)


async def test_a_time_limit_is_kept_within_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: now[0]))

    class Slow(ScriptedBackend):
        """A tenth of a second a draft, by the clock that the time limit looks at."""

        def start(self, request: Any) -> Any:
            session = super().start(request)
            draft = session.draft

            def slow(tokens: int) -> Any:
                now[0] += 0.1
                return draft(tokens)

            session.draft = slow  # type: ignore[method-assign]
            return session

    backend = Slow("a", "word " * 2000)
    model = ChatSpecFuse(engine=FusionEngine([backend]), timeout=0.25, max_tokens=2000)
    await failing(model, "Hello", AnswerTimeoutError)
    with pytest.raises(TimeoutError):
        model.invoke("Hello")
    assert {len(session.commits) for session in backend.sessions} == {3}
    assert all(session.closed for session in backend.sessions)
    assert model.invoke("Hello", timeout=60, max_tokens=20).text


# --- models -----------------------------------------------------------------------------------


def test_a_call_may_use_some_of_the_models() -> None:
    model = chat("One.", "Two.", "Three.")
    answer = model.invoke("Hello", model="b")
    assert (answer.text, answer.response_metadata["model_name"]) == ("Two.", "b")
    pair = model.invoke("Hello", model=["c", "b"])
    assert pair.response_metadata["model_name"] == "c,b"
    assert model.invoke("Hello", model="c,b").response_metadata["model_name"] == "c,b"
    assert model._get_ls_params(model="b")["ls_model_name"] == "b"
    assert model._get_ls_params()["ls_model_name"] == model.model_name == "a,b,c"
    alone = model.as_single("c")
    assert alone.invoke("Hello").text == "Three."
    assert alone.model_name == "c"
    with pytest.raises(UnknownModelError, match="use one of: a, b, c"):
        model.as_single("d")


def test_copies_share_what_is_loaded() -> None:
    release_engines()
    model = ChatSpecFuse()
    assert not any(backend.ready for backend in model._base().backends)  # type: ignore[attr-defined]
    others = [
        model.model_copy(),
        model.model_copy(deep=True),
        pickle.loads(pickle.dumps(model)),
        ChatSpecFuse(**model.model_dump()),
        ChatSpecFuse(temperature=0.5),
    ]
    configurable = model.configurable_fields(temperature=ConfigurableField(id="t"))
    bound: Any = configurable.prepare({"configurable": {"t": 0.7}})[0]
    assert bound.temperature == 0.7
    for other in [*others, bound, model.as_single("reader")]:
        assert set(other._base().backends) <= set(model._base().backends)
    engine = FusionEngine([ScriptedBackend("a", "Hello.")])
    held = ChatSpecFuse(engine=engine)
    assert held.model_copy(deep=True)._base() is engine


def test_nothing_but_an_answer_loads_a_runtime() -> None:
    code = (
        "import sys; from langchain_specfuse import ChatSpecFuse; model = ChatSpecFuse();"
        "model._get_ls_params(); model._get_llm_string(); model.bind_tools([]);"
        "print(model.model_name, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["clerk,reader,reckoner", "False"]


def test_the_profile_is_there_before_the_weights() -> None:
    release_engines()
    model = ChatSpecFuse()
    assert model.profile is not None
    assert model.profile["max_input_tokens"] == 2047
    assert model.profile["structured_output"] is True
    windows = [ScriptedBackend(n, "x", context_window=w) for n, w in (("a", 900), ("b", 300))]
    scripted = ChatSpecFuse(engine=FusionEngine(windows))
    assert scripted.profile is not None
    assert scripted.profile["max_input_tokens"] == 299


def test_a_profile_follows_the_models_unless_it_was_given() -> None:
    small = FusionEngine([ScriptedBackend("a", "One.", context_window=300)])
    field = ConfigurableField(id="engine")
    for given, window in ((None, 299), ({"max_input_tokens": 77}, 77)):
        model: Any = ChatSpecFuse(profile=given).configurable_fields(engine=field)
        prepared, _ = model.prepare({"configurable": {"engine": small}})
        assert prepared.profile["max_input_tokens"] == window


def test_prompts_are_counted_as_they_are_read() -> None:
    model = ChatSpecFuse(max_tokens=5)
    messages: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage("How many lamps?")]
    for tools in ([], [get_weather, add]):
        answer: Any = model.bind_tools(tools).invoke(messages)
        counted = model.get_num_tokens_from_messages(messages, tools)
        assert counted == answer.usage_metadata["input_tokens"]
    assert model.get_num_tokens_from_messages([]) == 0
    assert model.get_num_tokens("two words") == len(model.get_token_ids("two words")) > 1
    assert ChatSpecFuse(custom_get_token_ids=lambda text: [1]).get_num_tokens("two words") == 1


def test_configurations_are_told_apart() -> None:
    engine = FusionEngine([ScriptedBackend("a", "x")])
    twin = FusionEngine([ScriptedBackend("a", "y")])
    base: dict[str, Any] = {"engine": engine}
    models = [
        ChatSpecFuse(**base),
        ChatSpecFuse(engine=twin),
        ChatSpecFuse(engine=FusionEngine(engine.backends, weights={"a": 2.0})),
        ChatSpecFuse(**base, temperature=0.5),
        ChatSpecFuse(**base, seed=1),
        ChatSpecFuse(**base, max_tokens=7),
        ChatSpecFuse(**base, stop=["x"]),
        ChatSpecFuse(**base, method="specfuse"),
        ChatSpecFuse(**base, segment_tokens=3),
        ChatSpecFuse(**base, fusion_metadata="rounds"),
        ChatSpecFuse(),
    ]
    keys = [model._get_llm_string() for model in models]
    assert len(set(keys)) == len(keys)
    assert ChatSpecFuse(**base)._get_llm_string() == keys[0]
    assert models[0]._get_llm_string(tools=["a"]) != keys[0]
    assert models[0]._get_llm_string(["x"]) == keys[6]


# --- tools ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "word"),
    [
        (None, "auto"),
        ("auto", "auto"),
        ("any", "required"),
        ("required", "required"),
        (True, "required"),
        (False, "none"),
        ("none", "none"),
        ("add", "add"),
        ({"type": "function", "function": {"name": "add"}}, "add"),
        ({"type": "tool", "name": "add"}, "add"),
        ({"type": "any"}, "required"),
        ({"type": "auto"}, "auto"),
    ],
)
def test_all_forms_of_a_tool_choice(choice: Any, word: str) -> None:
    assert choice_of(choice, tools_of([add, get_weather])) == word


def test_choices_that_make_no_sense_are_refused_when_bound() -> None:
    model = chat("Hello")
    with pytest.raises(UnknownToolError, match="add"):
        model.bind_tools([add], tool_choice="get_weather")
    for odd in (7, {}, {"function": {}}):
        with pytest.raises(InvalidOptionError):
            model.bind_tools([add], tool_choice=odd)  # type: ignore[arg-type]
    with pytest.raises(
        InvalidToolError, match=r"(?s)^3 cannot be used as a tool .* Use a function"
    ):
        model.bind_tools([3])  # type: ignore[list-item]
    with pytest.raises(InvalidToolError, match=r"runs on the servers of its provider\. Use a"):
        model.bind_tools([{"type": "web_search"}])


def test_everything_that_describes_a_tool_does() -> None:
    def lamps(count: int) -> None:
        """Order lamps."""

    raw = {"title": "raw", "description": "", "type": "object", "properties": {}}
    forms = [add, lamps, Person, PersonDict, raw]
    for form in [*forms, PersonV1]:
        bound: Any = chat(competent).bind_tools([form], tool_choice="any")
        (call,) = bound.invoke("Take 3").tool_calls
        assert call["id"]


def test_one_call_or_several() -> None:
    both = f"{OSLO}\n{BERGEN}"
    model = chat(both)
    assert len(model.bind_tools([get_weather]).invoke("Hello").tool_calls) == 2
    one = model.bind_tools([get_weather], parallel_tool_calls=False).invoke("Hello")
    assert len(one.tool_calls) == 1


def test_a_final_answer_in_json_stands_beside_tools() -> None:
    def act(request: Any, response: str) -> str:
        whole = '{"name": "Anna", "age": 31}' if request.messages[-1].role == "tool" else OSLO
        return whole[len(response) :]

    for form in (Person, PersonDict, Person.model_json_schema()):
        model = chat(act).bind_tools([get_weather], response_format=form)
        first = model.invoke("Hello")
        assert first.tool_calls[0]["args"] == {"city": "Oslo"}
        result = ToolMessage("sunny", tool_call_id=first.tool_calls[0]["id"])
        final = model.invoke([HumanMessage("Hello"), first, result])
        assert Person.model_validate_json(final.text) == Person(name="Anna", age=31)
    bare: Any = chat("Hm.").bind_tools([], response_format={"type": "json_object"})
    assert bare.invoke("Hello").text.startswith("{")


def test_response_formats() -> None:
    assert constraint_of(None) is constraint_of({"type": "text"}) is None
    assert constraint_of({"type": "json_object"}) == JsonObject()
    for odd in ("json", {"type": "xml"}, {"type": "json_schema", "json_schema": {"name": "x"}}):
        with pytest.raises(FusionError, match="response_format"):
            constraint_of(odd)


# --- structured output ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("schema", [Person, PersonV1, PersonDict, Person.model_json_schema()])
@pytest.mark.parametrize("strict", [None, True, False])
def test_structured_answers_of_every_kind(method: Any, schema: Any, strict: bool | None) -> None:
    model = chat(competent).with_structured_output(schema, method=method, strict=strict)
    answer: Any = model.invoke("Who is 'Anna', 31?")
    found = answer if isinstance(answer, dict) else dict(answer)
    assert found == {"name": "Anna", "age": 31}
    assert isinstance(answer, schema if schema in (Person, PersonV1) else dict)
    assert list(model.stream("Who is 'Anna', 31?"))[-1] == answer


def test_whatever_models_want_the_answer_has_its_form() -> None:
    for method in ("json_schema", "function_calling", "json_mode"):
        model = chat("I would rather talk.").with_structured_output(Person, method=method)  # type: ignore[arg-type]
        assert isinstance(model.invoke("Hello"), Person)
    raw = chat("I would rather talk.").with_structured_output(Person, include_raw=True)
    answer: Any = raw.invoke("Hello")
    assert isinstance(answer["raw"], AIMessage)
    assert isinstance(answer["parsed"], Person)
    assert answer["parsing_error"] is None
    assert chat("no").with_structured_output(method="json_mode").invoke("Hello") == {}


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_an_answer_that_was_cut_off_is_an_error(method: Any) -> None:
    model = chat(competent).with_structured_output(Person, method=method)
    cut: Any = model.first.bind(max_tokens=1) | model.last  # type: ignore[attr-defined]
    with pytest.raises(
        OutputParserException,
        match=r"is incomplete, because max_tokens=1 was reached\. Use a larger max_tokens, or on_",
    ):
        cut.invoke("Who is 'Anna', 31?")
    with pytest.raises(OutputParserException):
        list(cut.stream("Who is 'Anna', 31?"))
    with pytest.raises(OutputParserException):
        async for _ in cut.astream("Who is 'Anna', 31?"):
            pass
    raw: Any = chat(competent, max_tokens=1).with_structured_output(
        Person, method=method, include_raw=True
    )
    answer = raw.invoke("Who is 'Anna', 31?")
    assert answer["parsed"] is None
    assert isinstance(answer["parsing_error"], OutputParserException)
    assert answer["raw"].response_metadata["finish_reason"] == "length"


def test_what_cannot_be_structured_is_refused() -> None:
    model = chat("Hello")
    with pytest.raises(InvalidOptionError, match="method"):
        model.with_structured_output(Person, method="xml")  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="needs a schema"):
        model.with_structured_output()
    with pytest.raises(FusionError):
        model.with_structured_output(3)  # type: ignore[arg-type]


# --- callbacks and events ---------------------------------------------------------------------


class Watcher(BaseCallbackHandler):
    raise_error = True

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.chunks: list[Any] = []
        self.events: list[tuple[str, Any]] = []
        self.starts: list[dict[str, Any]] = []

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.starts.append(kwargs)

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **kwargs: Any) -> None:
        self.tokens.append(token)
        self.chunks.append(chunk)

    def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
        self.events.append((name, data))


async def test_watchers_see_each_token_once_and_each_round() -> None:
    script = "One two three four. " * 6
    chain = RunnableLambda(lambda text: text) | chat(script, script, segment_tokens=5)
    for run in ("stream", "astream"):
        watcher = Watcher()
        config: Any = {"callbacks": [watcher], "tags": ["x"], "run_name": "r"}
        if run == "stream":
            chunks: list[Any] = list(chain.stream("Hello", config))
        else:
            chunks = [chunk async for chunk in chain.astream("Hello", config)]
        assert watcher.tokens == [chunk.content for chunk in chunks]
        assert "".join(watcher.tokens) == script
        names = {name for name, _ in watcher.events}
        rounds = [data["round"] for _, data in watcher.events]
        assert names == {"specfuse_round"}
        assert rounds == list(range(1, len(rounds) + 1))
        assert "".join(data["text"] for _, data in watcher.events) == script
    # At the top level nobody watches for events, and nothing fails.
    watcher = Watcher()
    list(chat(script).stream("Hello", {"callbacks": [watcher]}))
    assert "".join(watcher.tokens) == script


async def test_rounds_are_events_of_a_chain() -> None:
    chain = RunnableLambda(lambda text: text) | chat("One two three four. " * 6)
    seen = [event async for event in chain.astream_events("Hello", version="v2")]
    assert [e for e in seen if e["event"] == "on_custom_event" and e["name"] == "specfuse_round"]
    assert [e for e in seen if e["event"] == "on_chat_model_stream"]


def test_tracers_see_the_parameters() -> None:
    watcher = Watcher()
    model = chat("One.", temperature=0.5, max_tokens=7, stop=["x"])
    model.invoke("Hello", {"callbacks": [watcher]})
    (start,) = watcher.starts
    shown = start["invocation_params"]
    assert (shown["model"], shown["temperature"], shown["_type"]) == ("a", 0.5, "specfuse")
    assert start["metadata"]["ls_provider"] == "specfuse"
    assert start["metadata"]["ls_max_tokens"] == 7
    assert start["metadata"]["ls_stop"] == ["x"]
    versions = start["metadata"]["lc_versions"]
    assert versions["specfuse"] == specfuse_core.__version__
    assert [name for name in versions if "specfuse" in name] == ["specfuse"]


# --- concurrency ------------------------------------------------------------------------------


async def test_answers_beside_each_other_are_those_one_after_another() -> None:
    model = ChatSpecFuse(temperature=0.8, seed=5, max_tokens=12)
    questions = [f"How many lamps are in room {n}?" for n in range(4)]
    serial = [model.invoke(question).text for question in questions]
    assert [answer.text for answer in model.batch(questions)] == serial
    beside = await asyncio.gather(*(model.ainvoke(question) for question in questions))
    assert [answer.text for answer in beside] == serial
    assert [answer.text for answer in await model.abatch(questions)] == serial


async def test_the_answer_is_the_engines() -> None:
    question = "The hall has 12 lamps. How many lamps are in the hall?"
    several: list[dict[str, Any]] = [{}, {"temperature": 0.9, "seed": 4}]
    for options in several:
        told = FusionEngine.bundled().generate(question, max_new_tokens=30, **options)
        model = ChatSpecFuse(max_tokens=30, **options)
        assert model.invoke(question).text == told.text
        assert "".join(chunk.text for chunk in model.stream(question)) == told.text
        pieces = [chunk.text async for chunk in model.astream(question)]
        assert "".join(pieces) == told.text


class Watched(ScriptedBackend):
    """Each draft asks the event loop for a sign of life, and waits until it may go on."""

    def __init__(self, name: str, script: str) -> None:
        super().__init__(name, script)
        self.loop = asyncio.get_running_loop()
        self.drafting, self.over = asyncio.Event(), asyncio.Event()
        self.go = threading.Event()
        self.go.set()
        self.signs: list[bool] = []

    def start(self, request: Any) -> Any:
        session = super().start(request)
        draft, close = session.draft, session.close

        def watched(tokens: int) -> Any:
            sign = threading.Event()
            self.loop.call_soon_threadsafe(self.drafting.set)
            self.loop.call_soon_threadsafe(sign.set)
            self.signs.append(sign.wait(10))
            assert self.go.wait(10)
            return draft(tokens)

        def closed() -> None:
            close()
            self.loop.call_soon_threadsafe(self.over.set)

        session.draft, session.close = watched, closed  # type: ignore[method-assign]
        return session


async def test_the_first_words_come_early_and_the_loop_runs_on_in_every_round() -> None:
    backend = Watched("a", "word " * 100)
    model = ChatSpecFuse(engine=FusionEngine([backend]))
    first = None
    async for _ in model.astream("Hello"):
        first = first or len(backend.signs)
    assert first is not None
    assert first <= 2 < len(backend.signs)
    await model.ainvoke("Hello")
    assert all(backend.signs)


async def test_cancelling_the_consumer_stops_the_models_within_a_round() -> None:
    backend = Watched("a", "word " * 2000)
    model = ChatSpecFuse(engine=FusionEngine([backend]), max_tokens=2000)
    backend.go.clear()
    task = asyncio.create_task(model.ainvoke("Hello"))
    await backend.drafting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    backend.go.set()
    await asyncio.wait_for(backend.over.wait(), 10)
    assert backend.signs == [True]
    assert backend.sessions[-1].closed

    stream: Any = model.astream("Hello")
    await anext(stream)
    so_far = len(backend.signs)
    await stream.aclose()
    # Nothing runs any more that could draft.
    assert backend.sessions[-1].closed
    assert len(backend.signs) == so_far
