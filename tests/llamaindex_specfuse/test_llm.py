"""SpecFuseLLM on scripted base models: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import llama_index.core
import pytest
from competent import competent
from llama_index.core import PromptTemplate, Settings
from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    CitableBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms import LLM, ChatMessage, CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.llms import specfuse
from llama_index.llms.specfuse import base as specfuse_base

import llamaindex_specfuse
from langchain_specfuse import ChatSpecFuse
from llamaindex_specfuse import SpecFuseLLM
from llamaindex_specfuse._messages import turns_of
from llamaindex_specfuse.errors import LLMTimeoutError, ModelFailedError
from specfuse_core import Choice, FusionEngine, FusionError, Message, ModelConfig, ToolCall
from specfuse_core.errors import (
    AnswerTimeoutError,
    EmptyConversationError,
    HiddenContentWarning,
    InvalidMessageError,
    PromptTooLongError,
    UnknownModelError,
    UnknownOptionError,
)
from specfuse_core.frameworks.registry import release_engines
from specfuse_core.grammar.calls import write_call
from specfuse_core.testing import ScriptedBackend

HELLO = [ChatMessage(role="user", content="Hello")]
WEATHER = {"name": "get_weather", "parameters": {"properties": {"city": {"type": "string"}}}}
OSLO = write_call("get_weather", {"city": "Oslo"})
BERGEN = write_call("get_weather", {"city": "Bergen"})


def llm_of(*scripts: Any, **options: Any) -> SpecFuseLLM:
    backends = [ScriptedBackend("abc"[i], script) for i, script in enumerate(scripts)]
    return SpecFuseLLM(engine=FusionEngine(backends), **options)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """LlamaIndex's global settings, put back afterwards."""
    monkeypatch.setattr(llama_index.core, "global_tokenizer", str.split)
    before = copy.copy(Settings.__dict__)
    yield Settings
    Settings.__dict__.clear()
    Settings.__dict__.update(before)


# --- messages ---------------------------------------------------------------------------------


def test_the_class_is_what_the_core_looks_for() -> None:
    names = [cls.__name__ for cls in SpecFuseLLM.__mro__]
    assert CustomLLM.__name__ in names
    assert FunctionCallingLLM.__name__ in names
    assert SpecFuseLLM.class_name() == "SpecFuseLLM"
    assert specfuse.SpecFuseLLM is specfuse_base.SpecFuseLLM is SpecFuseLLM
    assert specfuse.capture is llamaindex_specfuse.capture


def test_every_kind_of_message_becomes_a_turn() -> None:
    call = ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs={"a": 1})
    written = ToolCallBlock(tool_call_id="2", tool_name="add", tool_kwargs='{"a": 2}')
    openai = {"id": "3", "type": "function", "function": {"name": "add", "arguments": '{"a": 3}'}}
    turns = turns_of(
        [
            ChatMessage(role="system", content="Be brief."),
            ChatMessage(role="developer", content="Be kind."),
            ChatMessage(role="user", blocks=[TextBlock(text="One"), TextBlock(text="Two")]),
            ChatMessage(
                role="assistant", blocks=[ThinkingBlock(content="hm"), TextBlock(text="So"), call]
            ),
            ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "1"}),
            ChatMessage(role="model", blocks=[written]),
            ChatMessage(role="function", content="4", additional_kwargs={"name": "add"}),
            ChatMessage(role="chatbot", content="", additional_kwargs={"tool_calls": [openai]}),
            ChatMessage(
                role="user", blocks=[CitableBlock(title="t", source="s", content="A note")]
            ),
            ChatMessage(
                role="user",
                blocks=[TextBlock(text="Hi"), CachePoint(cache_control={"type": "ephemeral"})],
            ),
        ]
    )
    assert turns == (
        Message("system", "Be brief."),
        Message("system", "Be kind."),
        Message("user", "One\nTwo"),
        Message("assistant", "So", (ToolCall("add", {"a": 1}, "1"),)),
        Message("tool", "3", tool_call_id="1"),
        Message("assistant", "", (ToolCall("add", {"a": 2}, "2"),)),
        Message("tool", "4", name="add"),
        Message("assistant", "", (ToolCall("add", {"a": 3}, "3"),)),
        Message("user", "A note"),
        Message("user", "Hi"),
    )


@pytest.mark.parametrize(
    "block",
    [
        ImageBlock(url="https://x.y/z.png"),
        AudioBlock(url="https://x.y/z.wav"),
        VideoBlock(url="https://x.y/z.mp4"),
        DocumentBlock(data=b"%PDF", title="t", document_mimetype="application/pdf"),
    ],
)
def test_media_are_refused_by_name(block: Any) -> None:
    message = ChatMessage(role="user", blocks=[TextBlock(text="Look"), block])
    with pytest.raises(
        InvalidMessageError, match=f"{block.block_type!r}, but only text is supported"
    ):
        llm_of("Hello").chat([message])


def test_media_of_tools_and_models_become_placeholders() -> None:
    image = ImageBlock(url="https://x.y/z.png")
    cited = CitableBlock(title="t", source="s", content=[TextBlock(text="See:"), image])
    history = [
        ChatMessage(role="user", content="Look."),
        ChatMessage(role="assistant", blocks=[AudioBlock(url="https://x.y/z.wav")]),
        ChatMessage(role="tool", blocks=[cited], additional_kwargs={"tool_call_id": "1"}),
    ]
    with pytest.warns(HiddenContentWarning, match=r"'audio', 'image'") as caught:
        turns = turns_of(history)
    assert len(caught) == 1
    assert [turn.content for turn in turns[1:]] == [
        "[audio: not shown to the models]",
        "See:\n[image: not shown to the models]",
    ]
    with pytest.warns(HiddenContentWarning):
        assert llm_of("Hello").chat(history).message.content == "Hello"


def test_documents_of_text_are_read(tmp_path: Path) -> None:
    file = tmp_path / "note.txt"
    file.write_text("A note.")
    for block in (DocumentBlock(data=b"A note."), DocumentBlock(path=file)):
        (turn,) = turns_of([ChatMessage(role="user", blocks=[block])])
        assert turn.content == "A note."
    gone = DocumentBlock(path=str(tmp_path / "gone.txt"))
    for block in (gone, DocumentBlock(url="https://x.y/z.txt"), DocumentBlock(data=b"\xff\0")):
        with pytest.raises(InvalidMessageError, match=r"gone\.txt.* cannot be read|only text"):
            turns_of([ChatMessage(role="user", blocks=[block])])


def test_what_is_no_conversation_is_refused() -> None:
    odd: Any
    for odd in ("Hello", HELLO[0], [{"role": "user", "content": "Hello"}]):
        with pytest.raises(InvalidMessageError, match="list of ChatMessage"):
            turns_of(odd)


def test_the_callers_messages_stay_as_they_are() -> None:
    history = [ChatMessage(role="user", content="Hello")]
    before = [message.model_dump() for message in history]
    model = llm_of(competent, competent)
    model.chat(history, tools=[WEATHER])
    asked = model._prepare_chat_with_tools([], user_msg="More?", chat_history=history)
    assert [message.model_dump() for message in history] == before
    assert len(asked["messages"]) == 2


# --- answers ----------------------------------------------------------------------------------

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("One two three four five six seven eight nine ten eleven twelve.", {}),
    "reasoning": ("<think>Twelve and seven.</think>\n\nIt is 19.", {}),
    "call": (OSLO, {"tools": [WEATHER]}),
    "text and calls": (f"Let me look.\n{OSLO}\n{BERGEN}", {"tools": [WEATHER]}),
    "all": (f"<think>Hm.</think>Let me look.\n{OSLO}\n{BERGEN}", {"tools": [WEATHER]}),
}


def shape(response: Any) -> tuple[Any, ...]:
    calls = [
        (block.tool_name, block.tool_kwargs)
        for block in response.message.blocks
        if isinstance(block, ToolCallBlock)
    ]
    thought = [block.content for block in response.message.blocks if block.block_type == "thinking"]
    told = response.raw["specfuse"]
    segments = [(each["text"], each["channel"], each["round"]) for each in told["segments"]]
    return response.message.content, calls, thought, segments, response.raw["usage"]


@pytest.mark.parametrize("case", CASES)
async def test_all_ways_to_ask_give_the_same_answer(case: str) -> None:
    script, options = CASES[case]
    model = llm_of(script, script, seed=3, segment_tokens=4)
    whole = model.chat(HELLO, **options)
    streamed = list(model.stream_chat(HELLO, **options))
    astreamed = [each async for each in await model.astream_chat(HELLO, **options)]
    for response in (streamed[-1], await model.achat(HELLO, **options), astreamed[-1]):
        assert shape(response) == shape(whole)
    text, calls, thought, segments, usage = shape(whole)
    assert "".join(each.delta or "" for each in streamed) == (text or "")
    assert [each.delta for each in astreamed] == [each.delta for each in streamed]
    assert whole.delta is None
    if not calls:
        for responses in (
            [*model.stream_complete("Hello")],
            [each async for each in await model.astream_complete("Hello")],
        ):
            assert "".join(each.delta or "" for each in responses) == text == responses[-1].text
        assert model.complete("Hello").text == (await model.acomplete("Hello")).text == text
        assert text in script
    else:
        assert calls[0] == ("get_weather", {"city": "Oslo"})
        assert "<tool_call>" not in (text or "")
    if case in ("reasoning", "all"):
        assert thought == ["Hm." if case == "all" else "Twelve and seven."]
        deltas = [each.additional_kwargs.get("thinking_delta") or "" for each in streamed]
        assert "".join(deltas) == thought[0]
    joined = "".join(part for part, channel, _ in segments if channel == "text")
    assert joined == (text or "")
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_responses_are_cumulative_and_each_is_its_own() -> None:
    responses = list(llm_of("One two three. " * 5, segment_tokens=3).stream_chat(HELLO))
    texts = [response.message.content or "" for response in responses]
    assert len(responses) > 4
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert [len(text) for text in texts[:-1]] == sorted({len(text) for text in texts})
    *parts, last = responses
    assert last.delta == ""
    for part in parts:
        assert part.raw is not None
        assert set(part.raw["specfuse"]) == {"request_id", "model", "segment"}
        assert "usage" not in part.raw
    assert last.raw is not None
    told = last.raw["specfuse"]
    assert told["request_id"] == parts[0].raw["specfuse"]["request_id"]
    assert told["model"] == "a"
    assert told["finish_reason"] == "stop"
    assert told["models"]["a"]["segments"] == told["rounds"] == len(parts)
    assert [segment["model"] for segment in told["segments"]] == ["a"] * len(parts)


def test_what_the_fusion_did_is_json_and_in_no_later_prompt() -> None:
    import json

    response = llm_of("One two.", "One two.").chat(HELLO)
    json.dumps(response.raw, allow_nan=False)
    assert response.message.additional_kwargs == response.additional_kwargs == {}


def test_a_last_turn_of_the_assistant_is_continued() -> None:
    messages = [*HELLO, ChatMessage(role="assistant", content="Hello")]
    assert llm_of(" world.").chat(messages).message.content == " world."


def test_an_empty_answer_has_text() -> None:
    assert llm_of("").chat(HELLO).message.content == ""
    assert llm_of("").complete("Hello").text == ""


def test_prompts_are_one_turn_and_wrapped_only_where_they_are_not_yet() -> None:
    seen: list[Any] = []

    def script(request: Any, response: str) -> str:
        seen.append((request.messages, request.prompt, request.special_tokens))
        return ""

    model = llm_of(script, completion_to_prompt=lambda prompt: f"[{prompt}]")
    model.complete("Hello")
    model.complete("Hello", formatted=True)
    assert list(dict.fromkeys(seen)) == [
        ((Message("user", "[Hello]"),), None, False),
        ((), "Hello", True),
    ]


def test_messages_become_a_prompt_where_a_function_makes_one() -> None:
    seen: list[Any] = []

    def script(request: Any, response: str) -> str:
        seen.append((request.messages, request.prompt))
        return ""

    def joined(messages: Any) -> str:
        return "|".join(message.content for message in messages)

    llm_of(script, messages_to_prompt=joined).chat([*HELLO, *HELLO])
    assert seen[0] == ((), "|".join([HELLO[0].content] * 2))


# --- options ----------------------------------------------------------------------------------


def test_what_is_set_and_what_a_call_says() -> None:
    model = llm_of("One two three four five.", max_tokens=2, stop=["four"])
    assert model.complete("Hello").text == "One two"
    assert model.complete("Hello", max_tokens=9).text == "One two three "
    assert model.complete("Hello", max_tokens=9, stop=["two"]).text == "One "
    assert model.complete("Hello", max_tokens=9, stop="two").text == "One "
    assert model.complete("Hello", constraint=Choice(["yes", "no"]), max_tokens=9).text in "yes no"


CORE: dict[str, Any] = {
    "formatted": True,
    "tool_required": False,
    "verbose": True,
    "react_chat_formatter": None,
    "chat_history": [],
    "allow_parallel_tool_calls": True,
    "error_on_no_tool_call": True,
}


def test_what_the_core_passes_on_is_accepted_and_other_names_are_not() -> None:
    model = llm_of("Hello.")
    assert model.chat(HELLO, **CORE).message.content == "Hello."
    assert model.chat(HELLO, tool_choice=None, tools=None).message.content == "Hello."
    with pytest.raises(UnknownOptionError, match=r"a call of SpecFuseLLM.*'max_tokens'"):
        model.chat(HELLO, max_token=3)
    with pytest.raises(UnknownOptionError, match="did you mean 'stop'"):
        model.chat(HELLO, stops=["x"])


async def failing(llm: Any, question: Any, error: type[Exception], **call: Any) -> None:
    """The same error in every mode, and none that synthesizers swallow."""
    messages = question if isinstance(question, list) else [ChatMessage(content=question)]
    prompt = messages[0].content or ""
    raised: list[BaseException] = []
    for ask in (
        lambda: llm.chat(messages, **call),
        lambda: list(llm.stream_chat(messages, **call)),
        lambda: llm.complete(prompt, **call),
        lambda: list(llm.stream_complete(prompt, **call)),
    ):
        with pytest.raises(error) as caught:
            ask()
        raised.append(caught.value)
    with pytest.raises(error) as caught:
        await llm.achat(messages, **call)
    raised.append(caught.value)
    with pytest.raises(error) as caught:
        [each async for each in await llm.astream_chat(messages, **call)]
    raised.append(caught.value)
    with pytest.raises(error) as caught:
        await llm.acomplete(prompt, **call)
    raised.append(caught.value)
    assert not [each for each in raised if isinstance(each, ValueError | TypeError | RuntimeError)]


async def test_errors_surface_as_themselves_in_every_mode() -> None:
    model = llm_of("Hello")
    await failing(model, "Hello", UnknownOptionError, tempature=1)
    await failing(model, "Hello", UnknownModelError, model="z")
    await failing(model, "", EmptyConversationError)
    await failing(model, "word " * 5000, PromptTooLongError)
    await failing(SpecFuseLLM(models=["./nowhere"]), "Hello", FusionError)

    def broken(request: Any, response: str) -> str:
        raise ZeroDivisionError("in a model")

    await failing(llm_of(broken), "Hello", ZeroDivisionError)


@pytest.mark.parametrize("kind", [ValueError, TypeError, RuntimeError])
async def test_what_a_model_raises_is_never_taken_for_an_empty_answer(
    kind: type[Exception],
) -> None:
    def broken(request: Any, response: str) -> str:
        raise kind("in a model")

    await failing(llm_of(broken), "Hello", ModelFailedError)
    nodes = [NodeWithScore(node=TextNode(text="One."), score=1.0)]
    made = get_response_synthesizer(llm=llm_of(broken), response_mode=ResponseMode.REFINE)
    with pytest.raises(ModelFailedError, match="in a model") as caught:
        made.synthesize("What?", nodes)
    assert isinstance(caught.value.__cause__, kind)
    with pytest.raises(ModelFailedError):
        await made.asynthesize("What?", nodes)


def test_a_bad_request_is_told_when_a_stream_is_asked_for() -> None:
    backend = ScriptedBackend("a", "Hello")
    model = SpecFuseLLM(engine=FusionEngine([backend]))
    with pytest.raises(PromptTooLongError):
        model.stream_chat([ChatMessage(content="word " * 5000)])
    with pytest.raises(UnknownOptionError):
        model.stream_complete("Hello", tempature=1)
    assert backend.sessions == []


async def test_a_bad_request_is_told_when_an_async_stream_is_awaited() -> None:
    with pytest.raises(PromptTooLongError):
        await llm_of("Hello").astream_chat([ChatMessage(content="word " * 5000)])


async def test_a_time_limit_is_an_error_of_both_names() -> None:
    model = llm_of("word " * 200, timeout=1e-9)
    await failing(model, "Hello", AnswerTimeoutError)
    await failing(model, "Hello", TimeoutError)
    await failing(model, "Hello", LLMTimeoutError)
    assert model.complete("Hello", timeout=60, max_tokens=20).text


# --- models -----------------------------------------------------------------------------------


def test_a_call_may_use_some_of_the_models() -> None:
    model = llm_of("One.", "Two.", "Three.")
    answer = model.complete("Hello", model="b")
    assert answer.raw is not None
    assert (answer.text, answer.raw["specfuse"]["model"]) == ("Two.", "b")
    assert model.complete("Hello", model=["c"]).text == "Three."
    alone = model.as_single("c")
    assert alone.complete("Hello").text == "Three."
    assert alone.metadata.model_name == "c"
    with pytest.raises(UnknownModelError, match="use one of: a, b, c"):
        model.as_single("d")


def test_one_engine_serves_both_frameworks_and_all_copies() -> None:
    release_engines()
    model = SpecFuseLLM()
    others: list[Any] = [
        ChatSpecFuse(),
        copy.copy(model),
        copy.deepcopy(model),
        model.model_copy(deep=True),
        SpecFuseLLM.from_dict(model.to_dict()),
        SpecFuseLLM.from_json(model.to_json()),
        SpecFuseLLM(temperature=0.5),
    ]
    for other in others:
        assert other._base() is model._base()
    copied = copy.deepcopy(model)
    copied.temperature = 0.7
    assert model.temperature is None
    engine = FusionEngine([ScriptedBackend("a", "Hello.")])
    assert copy.deepcopy(SpecFuseLLM(engine=engine))._base() is engine


def test_configurations_are_told_apart(tmp_path: Path) -> None:
    engine = FusionEngine([ScriptedBackend("a", "x")])
    models = [
        SpecFuseLLM(),
        SpecFuseLLM(engine=engine),
        SpecFuseLLM(models=[tmp_path, ModelConfig(path="org/name")]),
        SpecFuseLLM(temperature=0.5),
        SpecFuseLLM(max_tokens=7),
        SpecFuseLLM(segment_tokens=3),
        SpecFuseLLM(system_prompt="Be brief."),
    ]
    keys = [model.to_json() for model in models]
    assert len(set(keys)) == len(keys)
    assert SpecFuseLLM.from_json(keys[2]).model_name == f"{tmp_path.name},name"


def test_nothing_but_an_answer_loads_a_runtime() -> None:
    code = (
        "import sys; from llamaindex_specfuse import SpecFuseLLM; model = SpecFuseLLM();"
        "model.to_payload(); model.to_json(); window = model.metadata.context_window;"
        "model.tokenizer; print(model.model_name, window, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["clerk,reader,reckoner", "2048", "False"]


def test_metadata_tell_of_the_smallest_window() -> None:
    windows = [ScriptedBackend(n, "x", context_window=w) for n, w in (("a", 900), ("b", 300))]
    metadata = SpecFuseLLM(engine=FusionEngine(windows)).metadata
    assert metadata.context_window == 300
    assert metadata.num_output == 150
    assert metadata.is_chat_model
    assert metadata.is_function_calling_model
    assert metadata.model_name == "a,b"
    assert SpecFuseLLM(max_tokens=100).metadata.num_output == 100
    assert not SpecFuseLLM(is_function_calling_model=False).metadata.is_function_calling_model
    # Whatever is asked for, there is room for a prompt.
    assert SpecFuseLLM(max_tokens=5000).metadata.num_output == 1024


def test_a_window_that_no_file_tells_is_measured_and_not_for_an_event() -> None:
    class Silent(ScriptedBackend):
        @property
        def declared_window(self) -> int | None:
            return None

    backends = [Silent("a", "x", context_window=200), ScriptedBackend("b", "x")]
    model = SpecFuseLLM(engine=FusionEngine(backends))
    assert model.metadata.context_window == 200
    assert model.to_payload()["context_window"] == 4096


# --- the tokenizer ----------------------------------------------------------------------------

TEXTS = [
    "The hall has 12 lamps. The attic has 7 lamps.",
    "Grüße aus Köln: 東京は日本の首都です。 😀",
    "x" * 200,
    '{"name": "order_lamps", "arguments": {"quantity": 19}}',
]


def test_the_tokenizer_counts_as_the_model_with_most_tokens() -> None:
    model = SpecFuseLLM()
    backends = model._base().backends
    for text in TEXTS:
        counts = [backend.count_tokens(text) for backend in backends]
        assert len(model.tokenizer(text)) == max(counts)
    assert any(len({backend.count_tokens(text) for backend in backends}) > 1 for text in TEXTS)
    assert copy.deepcopy(model.tokenizer)("Hi") == model.tokenizer("Hi")


@pytest.mark.parametrize("limit", [8, 200, None])
def test_packed_prompts_fit_the_smallest_window(settings: Any, limit: int | None) -> None:
    model = SpecFuseLLM(max_tokens=limit)
    settings.tokenizer = model.tokenizer
    helper = PromptHelper.from_llm_metadata(model.metadata)
    prompt = PromptTemplate("Context:\n{context_str}\nQuery: Which one?\nAnswer: ")
    words = [f"{word} {number}. " for number in range(400) for word in ("Lamp", "Größe", "Ω")]
    chunks = helper.repack(prompt, ["".join(words)], llm=model)
    assert len(chunks) > 1
    backends = model._base().backends
    for chunk in chunks:
        turns = turns_of(prompt.format_messages(context_str=chunk))
        for backend in backends:
            assert backend.count_prompt_tokens(turns) < backend.context_window
    # As many as fit: the densest tokenizer has little room left.
    turns = turns_of(prompt.format_messages(context_str=chunks[0]))
    longest = max(backend.count_prompt_tokens(turns) for backend in backends)
    assert longest > 2048 - model.metadata.num_output - 100


# --- time -------------------------------------------------------------------------------------


class Watched(ScriptedBackend):
    """Tells how many drafts there were, and in which threads."""

    drafts = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.threads: set[int] = set()

    def start(self, request: Any) -> Any:
        session: Any = super().start(request)
        draft = session.draft

        def watched(tokens: int) -> Any:
            self.drafts += 1
            self.threads.add(threading.get_ident())
            return draft(tokens)

        session.draft = watched
        return session


async def test_models_never_run_on_the_event_loop() -> None:
    backend = Watched("a", "word " * 60)
    model = SpecFuseLLM(engine=FusionEngine([backend]))
    await model.achat(HELLO)
    await model.acomplete("Hello")
    async for _ in await model.astream_chat(HELLO):
        pass
    async for _ in await model.astream_complete("Hello"):
        pass
    assert backend.drafts > 20
    assert threading.get_ident() not in backend.threads


async def test_a_stream_is_pulled_round_by_round() -> None:
    backend = Watched("a", "word " * 200)
    model = SpecFuseLLM(engine=FusionEngine([backend]), max_tokens=2000)
    stream: Any = await model.astream_chat(HELLO)
    assert backend.drafts == 0
    for round in range(1, 5):
        await anext(stream)
        # Let whatever may run ahead do so.
        for _ in range(20):
            await asyncio.sleep(0)
        assert backend.drafts == round
    await stream.aclose()
    del stream
    for _ in range(20):
        await asyncio.sleep(0)
    assert backend.drafts == 4
    assert backend.sessions[-1].closed


def test_an_abandoned_stream_runs_no_further_model() -> None:
    backend = Watched("a", "word " * 200)
    model = SpecFuseLLM(engine=FusionEngine([backend]), max_tokens=2000)
    asks: list[Callable[[], Any]] = [
        lambda: model.stream_chat(HELLO),
        lambda: model.stream_complete("Hello"),
    ]
    for ask in asks:
        backend.drafts = 0
        stream = ask()
        next(stream)
        stream.close()
        del stream
        assert backend.drafts == 1
        assert backend.sessions[-1].closed
    # One of which nothing was ever asked for.
    unused = model.stream_chat(HELLO)
    del unused
    assert backend.drafts == 1
    assert backend.sessions[-1].closed


async def test_cancelling_stops_within_a_round() -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(Watched):
        def start(self, request: Any) -> Any:
            session: Any = super().start(request)
            draft = session.draft

            def slow(tokens: int) -> Any:
                drafted = draft(tokens)
                if self.drafts == 3:
                    entered.set()
                    assert leave.wait(30)
                return drafted

            session.draft = slow
            return session

    backend = Slow("a", "word " * 2000)
    model = SpecFuseLLM(engine=FusionEngine([backend]), max_tokens=2000)
    task = asyncio.create_task(model.achat(HELLO))
    await asyncio.to_thread(entered.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    leave.set()
    while not backend.sessions[-1].closed:
        await asyncio.sleep(0)
    assert backend.drafts == 3


async def test_other_tasks_run_between_the_rounds() -> None:
    model = llm_of("word " * 100)
    rounds: list[int] = []
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += 1

    beating = asyncio.create_task(beat())
    async for _ in await model.astream_chat(HELLO):
        rounds.append(beats)
    beating.cancel()
    assert len(rounds) > 5
    # The last response shares its round with the one before.
    assert all(later > earlier for earlier, later in pairwise(rounds[:-1]))


async def test_answers_beside_each_other_are_those_one_after_another() -> None:
    model = SpecFuseLLM(temperature=0.8, seed=5, max_tokens=12)
    questions = [f"How many lamps are in room {n}?" for n in range(4)]
    serial = [model.complete(question).text for question in questions]
    beside = await asyncio.gather(*(model.acomplete(question) for question in questions))
    assert [answer.text for answer in beside] == serial


async def test_the_answer_is_the_engines() -> None:
    question = "The hall has 12 lamps. How many lamps are in the hall?"
    several: list[dict[str, Any]] = [{}, {"temperature": 0.9, "seed": 4}]
    for options in several:
        told = FusionEngine.bundled().generate(question, max_new_tokens=30, **options)
        model: LLM = SpecFuseLLM(max_tokens=30, **options)
        assert model.complete(question).text == told.text
        assert "".join(each.delta or "" for each in model.stream_complete(question)) == told.text


# --- other libraries ----------------------------------------------------------------------------


async def test_the_arguments_of_ragas_are_accepted() -> None:
    # What LlamaIndexLLMWrapper of ragas 0.4.3 passes to complete and acomplete.
    model = llm_of("Hello.")
    for n, callbacks in ((1, None), (1, [])):
        options: dict[str, Any] = {
            "n": n,
            "temperature": 0.01,
            "stop": None,
            "callbacks": callbacks,
        }
        assert model.complete("Hi", **options).text == "Hello."
        assert (await model.acomplete("Hi", **options)).text == "Hello."
