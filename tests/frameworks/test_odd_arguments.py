"""Values of any type and form, at every entry of both integrations: they work or are refused.

A refusal is a FusionError, before a model runs, and never blames a model. ``support/odd.py`` has
the values.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms import CustomLLM
from odd import ODD

from langchain_specfuse import ChatSpecFuse
from llamaindex_specfuse import SpecFuseLLM
from llamaindex_specfuse.errors import ModelFailedError
from specfuse_core import FusionEngine, Tool
from specfuse_core.config import SamplingParams
from specfuse_core.errors import (
    FusionError,
    HiddenContentWarning,
    InvalidMessageError,
    InvalidOptionError,
    RequestError,
)
from specfuse_core.frameworks.fields import EngineFields
from specfuse_core.frameworks.foreign import NEUTRAL, RENAMED
from specfuse_core.testing import ScriptedBackend

Entry = Callable[[FusionEngine, Any], Any]

#: Fields of the frameworks whose values they use themselves.
_THEIRS = {name for cls in (BaseChatModel, CustomLLM) for name in cls.model_fields}
_MODELS = ("engine", "model", "model_name", "models")
_CALL = [
    *SamplingParams.model_fields,
    *RENAMED,
    *NEUTRAL,
    *("method", "segment_tokens", "call_segment_tokens", "score_mode", "min_models"),
    *("constraint", "context_window", "do_sample", "max_call_tokens", "max_tokens", "model"),
    *("on_limit", "parallel_tool_calls", "response_format", "stop", "timeout", "tool_choice"),
    *("tools", "strict"),
]


def ask(llm: Any, **options: Any) -> None:
    if isinstance(llm, ChatSpecFuse):
        llm.invoke("Hello", **options)
    else:
        llm.complete("Hello", **options)


def made(cls: Any, name: str) -> Entry:
    def entry(engine: FusionEngine, value: Any) -> None:
        llm = cls(**({name: value} if name in _MODELS else {"engine": engine, name: value}))
        if name not in (*_MODELS, *_THEIRS):
            ask(llm)

    return entry


def assigned(cls: Any, name: str) -> Entry:
    def entry(engine: FusionEngine, value: Any) -> None:
        llm = cls(engine=engine)
        setattr(llm, name, value)
        ask(llm)

    return entry


def block(kind: str, key: str) -> Entry:
    def entry(engine: FusionEngine, value: Any) -> None:
        told = AIMessage([{"type": kind, "name": "f", "id": "1", key: value}])
        ChatSpecFuse(engine=engine).invoke([HumanMessage("Hello"), told, HumanMessage("So?")])

    return entry


def chat(engine: FusionEngine) -> ChatSpecFuse:
    return ChatSpecFuse(engine=engine)


def llm(engine: FusionEngine) -> SpecFuseLLM:
    return SpecFuseLLM(engine=engine)


BLOCKS = {
    "text": ("text",),
    "refusal": ("refusal",),
    "search_result": ("content", "title"),
    "document": ("source", "title"),
    "file": ("base64", "file", "mime_type"),
    "non_standard": ("value",),
    "tool_use": ("name", "input", "id"),
    "function_call": ("name", "arguments", "call_id"),
    "server_tool_result": ("output",),
}
ENTRIES: dict[str, Entry] = {
    **{
        f"{cls.__name__}({name}=)": made(cls, name)
        for cls in (ChatSpecFuse, SpecFuseLLM)
        for name in (*cls.model_fields, *RENAMED, *NEUTRAL, "do_sample")
    },
    **{
        f"{cls.__name__}(engine, {name}=)": lambda e, v, cls=cls, name=name: cls(
            **{"engine": e, name: v}
        )
        for cls in (ChatSpecFuse, SpecFuseLLM)
        for name in ("model", "model_name")
    },
    **{
        f"a call of {cls.__name__} with {name}": lambda e, v, cls=cls, name=name: ask(
            cls(engine=e), **{"tools": [Tool("f")], name: v}
        )
        for cls in (ChatSpecFuse, SpecFuseLLM)
        for name in _CALL
    },
    **{
        f"{cls.__name__}.{name} =": assigned(cls, name)
        for cls in (ChatSpecFuse, SpecFuseLLM)
        for name in EngineFields.model_fields
        if name not in ("engine", "models")
    },
    **{
        f"as_single of {cls.__name__}": lambda e, v, cls=cls: cls(engine=e).as_single(v)
        for cls in (ChatSpecFuse, SpecFuseLLM)
    },
    "invoke": lambda e, v: chat(e).invoke(v),
    "invoke([value])": lambda e, v: chat(e).invoke([v]),
    **{f"{key} of {kind}": block(kind, key) for kind, keys in BLOCKS.items() for key in keys},
    "get_num_tokens": lambda e, v: chat(e).get_num_tokens(v),
    **{
        f"bind_tools({name}=)": lambda e, v, name=name: (
            chat(e).bind_tools(**{"tools": [Tool("f")], name: v}).invoke("Hello")
        )
        for name in ("tools", "tool_choice", "strict", "parallel_tool_calls", "response_format")
    },
    "bind_tools([value])": lambda e, v: chat(e).bind_tools([v]),
    **{
        f"with_structured_output(method={method!r})": lambda e, v, method=method: chat(
            e
        ).with_structured_output(v, method=method)
        for method in ("json_schema", "function_calling", "json_mode")
    },
    "with_structured_output(method=)": lambda e, v: chat(e).with_structured_output(
        {"title": "A", "type": "object"}, method=v
    ),
    "chat": lambda e, v: llm(e).chat(v),
    "stream_chat([value])": lambda e, v: llm(e).stream_chat([v]),
    "complete": lambda e, v: llm(e).complete(v),
    **{
        f"additional_kwargs[{key!r}]": lambda e, v, key=key: llm(e).chat(
            [
                ChatMessage(role="user", content="Hello"),
                ChatMessage(role="assistant", content="x", additional_kwargs={key: v}),
                ChatMessage(role="tool", content="x", additional_kwargs={key: v}),
            ]
        )
        for key in ("tool_calls", "name", "tool_call_id")
    },
    "chat_with_tools": lambda e, v: llm(e).chat_with_tools(v, user_msg="Hello"),
    "chat_with_tools([value])": lambda e, v: llm(e).chat_with_tools([v], user_msg="Hello"),
    "chat_with_tools(user_msg=)": lambda e, v: llm(e).chat_with_tools([], user_msg=v),
    "structured_predict": lambda e, v: llm(e).structured_predict(v, PromptTemplate("x")),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_any_value_works_or_is_refused_before_a_model_runs(entry: str) -> None:
    for name, value in ODD.items():
        backend = ScriptedBackend("a", "Hello there.")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HiddenContentWarning)
                warnings.filterwarnings("ignore", "Unrecognized keys in model profile")
                ENTRIES[entry](FusionEngine([backend]), value)
        except FusionError as error:
            assert not backend.sessions, (name, error)
            assert not isinstance(error, ModelFailedError), name
            assert len(str(error)) < 2_000, name
        except Exception as error:
            raise AssertionError(f"{entry} with {name}") from error


def test_a_models_own_error_is_told_as_one() -> None:
    class Broken(ScriptedBackend):
        def start(self, request: Any) -> Any:
            raise ValueError("no room")

    with pytest.raises(ModelFailedError, match="a base model failed with ValueError: no room"):
        llm(FusionEngine([Broken("a", "x")])).complete("Hello")


def test_an_applications_own_error_is_not_told_as_a_models() -> None:
    def to_prompt(text: str) -> str:
        raise KeyError(text)

    backend = ScriptedBackend("a", "x")
    asking = SpecFuseLLM(engine=FusionEngine([backend]), completion_to_prompt=to_prompt)
    with pytest.raises(RequestError) as caught:
        asking.complete("Hello")
    assert str(caught.value) == (
        "the request could not be read (KeyError: 'Hello'). Check the values that you gave; the "
        "cause of this error has the traceback."
    )
    assert isinstance(caught.value.__cause__, KeyError)
    assert not backend.sessions


def test_the_conversation_of_llamaindex_is_checked_before_its_events() -> None:
    asking = llm(FusionEngine([ScriptedBackend("a", "x")]))
    with pytest.raises(InvalidMessageError, match="list of ChatMessage"):
        asking.chat("Hello")  # type: ignore[arg-type]
    with pytest.raises(InvalidMessageError, match=r"the prompt must be a string, got 5\."):
        asking.complete(prompt=5)  # type: ignore[arg-type]
    assert asking.chat(messages=[ChatMessage(role="user", content="Hello")]).message.content == "x"
    assert asking.complete(prompt="Hello").text == "x"


def test_the_table_of_an_agents_mistakes() -> None:
    engine = FusionEngine([ScriptedBackend("a", "x")])
    for options, says in (
        ({"tools": 5}, "tools must be a list of tools, got 5."),
        ({"timeout": []}, "timeout must be a number of seconds, got []."),
        ({"stop": 5}, "stop must be a string or a list of strings, got 5."),
        (
            {"model": [None]},
            "model must be names separated by commas, or a list of names, got [None].",
        ),
        (
            {"tool_choice": []},
            "tool_choice must be 'auto', 'none', 'any', 'required', the name of a tool, a mapping "
            "or a bool, got [].",
        ),
    ):
        for asking in (chat(engine), llm(engine)):
            with pytest.raises(InvalidOptionError) as caught:
                ask(asking, **options)
            assert str(caught.value) == says
    with pytest.raises(InvalidOptionError, match=r"^seed must be a valid integer, got \[\]"):
        ChatSpecFuse(seed=[])
    with pytest.raises(InvalidMessageError, match="must be a list of tool calls, got 5"):
        llm(engine).chat(
            [
                ChatMessage(role="user", content="x"),
                ChatMessage(role="assistant", content="x", additional_kwargs={"tool_calls": 5}),
            ]
        )
    with pytest.raises(InvalidMessageError, match="the content of a tool message has"):
        chat(engine).invoke([HumanMessage("x"), ToolMessage("\ud800", tool_call_id="1")])
