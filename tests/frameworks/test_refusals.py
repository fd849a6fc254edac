"""What the integrations share: options of models and calls, and errors under second names."""

from __future__ import annotations

import re
from typing import Any

import pytest

from langchain_specfuse import ChatSpecFuse
from llamaindex_specfuse import SpecFuseLLM
from specfuse_core import FusionEngine, SamplingParams
from specfuse_core.config.synonyms import SYNONYMS
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
from specfuse_core.frameworks.foreign import HOSTED, RENAMED
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
    said = (
        set(KNOBS)
        | set(SAMPLING)
        | {"context_window", "max_call_tokens", "max_tokens", "model", "on_limit", "stop"}
        | {"strict_schema", "timeout", "reasoning", "chat_template_kwargs", "schema_in_prompt"}
    )
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
    alone = EngineFields(**fields._alone("a"))
    assert (alone._base().models, alone.segment_tokens) == (("a",), 3)
    assert fields._window() == 4096
    assert fields.model_name == "a,b"
    assert set(SAMPLING) == set(SamplingParams.model_fields)


BAD: list[tuple[dict[str, Any], type[FusionError], str]] = [
    ({"models": []}, EmptyEnsembleError, "bundled"),
    ({"modles": ["a"]}, UnknownOptionError, "^{llm} has no option 'modles'; did you mean 'models'"),
    ({"temprature": 1}, UnknownOptionError, "^{llm} .* did you mean 'temperature'"),
    ({"temperature": -1}, InvalidLimitError, "^temperature must be at least 0, got -1"),
    ({"segment_tokens": 0}, InvalidLimitError, "^segment_tokens must be at least 1, got 0"),
    ({"max_tokens": 0}, InvalidLimitError, "^max_tokens must be at least 1, got 0"),
    ({"timeout": 0}, InvalidLimitError, "^timeout must be a positive number of seconds, got 0"),
    (
        {"engine": FusionEngine([ScriptedBackend("a", "Hello")]), "models": ["a"]},
        InvalidOptionError,
        "one of them",
    ),
    ({"models": [3]}, InvalidOptionError, "^a model must be a hub id, a path or a ModelConfig"),
    ({"models": [{"path": ""}]}, InvalidOptionError, "^path must not be empty"),
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


LLMS = (ChatSpecFuse, SpecFuseLLM)
FIELDS = [(llm, name) for llm in LLMS for name in llm.model_fields]
#: The types of the values below that a field takes.
GOOD: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "models": (str,),
    "name": (str,),
    "output_version": (str,),
    "seed": (int,),
    "stop": (str,),
    "system_prompt": (str,),
    **dict.fromkeys(("callback_manager", "output_parser", "rate_limiter"), (object, int, str)),
}
#: Classes of the core that a user of an integration does not see.
INNER = ("Value error", "Input should", "FusionConfig", "SamplingParams", "EngineFields", "Request")


@pytest.mark.parametrize(("llm", "name"), FIELDS, ids=[f"{c.__name__}-{n}" for c, n in FIELDS])
@pytest.mark.parametrize("value", [object(), -1, "odd"])
def test_a_bad_value_is_refused_by_the_name_of_the_field(
    llm: type[ChatSpecFuse | SpecFuseLLM], name: str, value: Any
) -> None:
    try:
        llm(**{name: value})
    except FusionError as error:
        said = str(error)
        assert re.match(rf"{name} must |a model must ", said)
        assert said.count("\n") == 0
        assert not [inner for inner in INNER if inner in said.replace("ModelConfig", "")]
    else:
        assert type(value) in GOOD.get(name, ())


CALLS: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": 0}, "max_tokens must be at least 1, got 0."),
    ({"max_tokens": "many"}, "max_tokens must be an integer, got 'many'."),
    ({"temperature": -1}, "temperature must be at least 0, got -1."),
    ({"top_p": "x"}, "top_p must be a valid number, got 'x'."),
    ({"method": "best"}, "method must be 'specem' or 'specfuse', got 'best'."),
    ({"segment_tokens": 0}, "segment_tokens must be at least 1, got 0."),
    ({"timeout": "soon"}, "timeout must be a number of seconds, got 'soon'."),
    ({"timeout": -1}, "timeout must be a positive number of seconds, got -1."),
    ({"model": 3}, "model must be names separated by commas, or a list of names, got 3."),
    ({"stop": 3}, "stop must be a string or a list of strings, got 3."),
]


@pytest.mark.parametrize(("options", "message"), CALLS)
def test_a_bad_value_of_a_call_is_refused_by_the_name_of_the_argument(
    options: dict[str, Any], message: str
) -> None:
    engine = FusionEngine([ScriptedBackend("a", "Hello")])
    for ask in (
        lambda: ChatSpecFuse(engine=engine).invoke("Hello", **options),
        lambda: SpecFuseLLM(engine=engine).complete("Hello", **options),
    ):
        with pytest.raises(InvalidOptionError) as caught:
            ask()
        assert str(caught.value) == message


HINTS = [
    ("model_id", "use models=[...]."),
    ("torch_dtype", "use ModelConfig(dtype=...) in models=[...]."),
    ("dtype", "use ModelConfig(dtype=...) in models=[...]."),
    ("device_map", "use ModelConfig(device_map=...) in models=[...]."),
    ("quantization_config", "use ModelConfig(quantization_config=...) in models=[...]."),
    ("num_output", "use 'max_tokens'."),
    ("request_timeout", "use 'timeout'."),
    (
        "generate_kwargs",
        "set each of its values as an option of its own, for example 'temperature'.",
    ),
    ("is_chat_model", "every base model is prompted with its own chat template. Leave it out."),
    ("num_ctx", "use 'context_window', which limits the prompt and the answer together."),
    ("stopping_ids", "use 'stop' with the texts of the tokens."),
    ("do_sample", "use 'temperature': 0 is greedy, a higher value samples."),
    ("json_mode", "use constraint=... in a call."),
    ("tool_choice", "use tool_choice=... in a call."),
    (
        "llm",
        "use models=[...] for models to load, or engine=FusionEngine.from_models([(model, "
        "tokenizer), ...]) for loaded models.",
    ),
    (
        "base_url",
        "the models run in this process. Use models=[...] with hub ids or directories.",
    ),
    (
        "tokenizer_name",
        "every base model uses the tokenizer that is stored with it. To use another one, use "
        "ModelConfig(tokenizer=...) in models=[...].",
    ),
    ("tempature", "did you mean 'temperature'?"),
    ("odd", "see its documentation."),
]


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize(("name", "hint"), HINTS)
def test_an_unknown_option_is_answered_with_what_to_use_here(
    llm: type[ChatSpecFuse | SpecFuseLLM], name: str, hint: str
) -> None:
    with pytest.raises(UnknownOptionError) as caught:
        llm(**{name: 1})
    assert str(caught.value) == f"{llm.__name__} has no option {name!r}; {hint}"


NAMES = [name for synonym in SYNONYMS for name in synonym.names.split()]


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_another_integration_is_answered(
    llm: type[ChatSpecFuse | SpecFuseLLM], name: str
) -> None:
    if name in llm.model_fields or name in HOSTED or name in RENAMED:
        return
    with pytest.raises(UnknownOptionError) as caught:
        llm(**{name: "odd"})
    said = str(caught.value)
    assert said.startswith(f"{llm.__name__} has no option {name!r}; ")
    assert "did you mean" not in said
    assert "documentation" not in said
    assert not [inner for inner in INNER if inner in said]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("num_predict", "use 'max_tokens'."),
        ("model_id", "use 'model'."),
        ("torch_dtype", "use ModelConfig(dtype=...) in models=[...]."),
        ("parallel", "use parallel=... when you make the model."),
        ("temprature", "did you mean 'temperature'?"),
    ],
)
def test_an_unknown_argument_of_a_call_is_answered(name: str, hint: str) -> None:
    with pytest.raises(UnknownOptionError) as caught:
        check_call("ChatSpecFuse", {name: 1})
    assert str(caught.value) == f"a call of ChatSpecFuse has no option {name!r}; {hint}"
