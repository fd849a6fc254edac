"""What the integrations share: options of models and calls, and errors under second names."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_specfuse import ChatSpecFuse
from llamaindex_specfuse import SpecFuseLLM
from specfuse_core import FusionEngine, SamplingParams
from specfuse_core.errors import (
    AnswerTimeoutError,
    EmptyEnsembleError,
    FusionError,
    InvalidLimitError,
    InvalidOptionError,
    PromptTooLongError,
    UnknownOptionError,
)
from specfuse_core.frameworks.aliases import renamed
from specfuse_core.frameworks.arguments import (
    KNOBS,
    SAMPLING,
    check_call,
    check_fields,
    request_options,
)
from specfuse_core.frameworks.fields import EngineFields
from specfuse_core.grammar.constraints import JsonObject
from specfuse_core.grammar.tools import Tool
from specfuse_core.testing import ScriptedBackend


class LateError(AnswerTimeoutError, TimeoutError):
    """An error with another name."""


def test_errors_get_their_second_name_once() -> None:
    names: dict[type[FusionError], type[FusionError]] = {AnswerTimeoutError: LateError}
    with pytest.raises(LateError, match="late") as caught, renamed(names):
        raise AnswerTimeoutError("too late")
    assert type(caught.value.__cause__) is AnswerTimeoutError
    first = LateError("so late")
    with pytest.raises(LateError) as kept, renamed(names), renamed(names):
        raise first
    assert kept.value is first
    for other in (PromptTooLongError("long"), KeyError("other")):
        with pytest.raises(type(other)) as same, renamed(names):
            raise other
        assert same.value is other


def test_every_field_can_be_said_of_a_call_but_what_makes_the_engine() -> None:
    said = set(KNOBS) | set(SAMPLING) | {"max_tokens", "stop", "timeout"}
    assert set(EngineFields.model_fields) - said == {
        "models",
        "engine",
        "drafters",
        "verifiers",
        "parallel",
    }
    check_call("a thing", dict.fromkeys(said))
    with pytest.raises(UnknownOptionError, match="a call of a thing has no option 'verbose'"):
        check_call("a thing", {"verbose": True})
    check_call("a thing", {"verbose": True, "api_key": "x"}, ignored=("verbose",))
    assert check_fields("a thing", {"seed": 1, "api_key": "x"}, ["seed"]) == {"seed": 1}


def test_options_of_a_request_are_those_that_were_set() -> None:
    tool = Tool("add")
    values: dict[str, Any] = {"temperature": 0.5, "seed": None, "max_tokens": 7}
    assert request_options(values, None, ()) == {"temperature": 0.5, "max_new_tokens": 7}
    values = {"tool_choice": "any", "parallel_tool_calls": 0, "response_format": None}
    assert request_options(values, ["x"], [tool]) == {
        "stop": ["x"],
        "tools": (tool,),
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    values = {"response_format": {"type": "json_object"}}
    assert request_options(values, "", ()) == {"constraint": JsonObject()}


def test_fields_make_the_engine_they_say() -> None:
    engine = FusionEngine([ScriptedBackend(name, "x") for name in "ab"])
    fields = EngineFields(engine=engine, segment_tokens=3, temperature=0.5)
    assert fields._fusion({}).config.segment_tokens == 3
    assert fields._fusion({"segment_tokens": 4, "model": "b"}).models == ("b",)
    assert fields._alone("a")["engine"].models == ("a",)
    assert "models" not in fields._alone("a")
    assert fields._window() == 4096
    assert fields.model_name == "a,b"
    assert set(SAMPLING) == set(SamplingParams.model_fields)


BAD: list[tuple[dict[str, Any], type[FusionError], str]] = [
    ({"models": []}, EmptyEnsembleError, "bundled"),
    ({"modles": ["a"]}, UnknownOptionError, "{llm}.*did you mean 'models'"),
    ({"temprature": 1}, UnknownOptionError, "{llm}.*did you mean 'temperature'"),
    ({"temperature": -1}, InvalidLimitError, "temperature"),
    ({"segment_tokens": 0}, InvalidLimitError, "segment_tokens"),
    ({"max_tokens": 0}, InvalidLimitError, "max_tokens"),
    ({"timeout": 0}, InvalidLimitError, "timeout"),
    (
        {"engine": FusionEngine([ScriptedBackend("a", "Hello")]), "models": ["a"]},
        InvalidOptionError,
        "one of them",
    ),
]


@pytest.mark.parametrize("llm", [ChatSpecFuse, SpecFuseLLM])
@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_bad_options_are_told_at_once(
    llm: type[ChatSpecFuse | SpecFuseLLM],
    options: dict[str, Any],
    error: type[FusionError],
    message: str,
) -> None:
    with pytest.raises(error, match=message.format(llm=llm.__name__)):
        llm(**options)


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_both_frameworks_refuse_in_the_same_words(
    options: dict[str, Any], error: type[FusionError], message: str
) -> None:
    with pytest.raises(error) as first:
        ChatSpecFuse(**options)
    with pytest.raises(error) as second:
        SpecFuseLLM(**options)
    # What follows the first semicolon are the names that each class knows.
    said = [str(caught.value).split(";")[0] for caught in (first, second)]
    assert said[0].replace("ChatSpecFuse", "SpecFuseLLM") == said[1]
