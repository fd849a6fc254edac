"""Values of any type and form, at every entry of the engine: they work, or a FusionError says why.

No model runs before that error. ``support/odd.py`` has the values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from odd import ODD, nested

from specfuse_core import (
    Choice,
    FusionConfig,
    FusionEngine,
    Grammar,
    JsonSchema,
    Message,
    ModelConfig,
    Regex,
    Request,
    SamplingParams,
    Tool,
    ToolCall,
)
from specfuse_core.answer.deadline import Deadline
from specfuse_core.errors import (
    FusionError,
    InvalidConstraintError,
    InvalidMessageError,
    InvalidOptionError,
    InvalidToolError,
    ModelNotFoundError,
)
from specfuse_core.models.location import located
from specfuse_core.testing import ScriptedBackend
from specfuse_core.values import check_json, shown

Entry = Callable[[FusionEngine, Any], Any]


def asked(engine: FusionEngine, *turns: Message | dict[str, Any], **options: Any) -> None:
    engine.generate([{"role": "user", "content": "Hello"}, *turns], **options)


def call(**values: Any) -> Message:
    return Message("assistant", "", (ToolCall(**{"name": "add", "arguments": {}, **values}),))


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def options() -> list[str]:
    own = [name for name in Request.__dataclass_fields__ if name != "messages"]
    return [*own, *SamplingParams.model_fields]


ENTRIES: dict[str, Entry] = {
    **{
        f"generate({name}=)": lambda e, v, name=name: e.generate("Hello", **{name: v})
        for name in (*options(), "cancel")
    },
    "generate(value)": lambda e, v: e.generate(v),
    "generate([value])": lambda e, v: e.generate([v]),
    **{
        f"Request({name}=)": lambda e, v, name=name: e.generate(
            Request(**{"messages": (Message("user", "x"),), name: v})
        )
        for name in Request.__dataclass_fields__
    },
    **{
        f"Message.of({name}) of a {role}": lambda e, v, name=name, role=role: asked(
            e, {"role": role, "content": "x", name: v}
        )
        for role in ("user", "assistant", "tool")
        for name in (*Message.__dataclass_fields__, "refusal", "function_call")
    },
    **{
        f"Message({name}=)": lambda e, v, name=name: asked(
            e, Message(**{"role": "assistant", "content": "x", name: v})
        )
        for name in Message.__dataclass_fields__
    },
    **{
        f"ToolCall({name}=)": lambda e, v, name=name: asked(e, call(**{name: v}))
        for name in ToolCall.__dataclass_fields__
    },
    "an argument of a ToolCall": lambda e, v: asked(e, call(arguments={"a": v})),
    **{
        f"Tool({name}=)": lambda e, v, name=name: asked(e, tools=[Tool(**{"name": "f", name: v})])
        for name in Tool.__dataclass_fields__
    },
    **{
        f"Tool.of({name})": lambda e, v, name=name: asked(e, tools=[{"name": "f", name: v}])
        for name in (*Tool.__dataclass_fields__, "function")
    },
    "a parameter of a Tool": lambda e, v: asked(e, tools=[Tool("f", "", schema(a=v))]),
    "JsonSchema": lambda e, v: asked(e, constraint=JsonSchema(v)),
    "a property of a JsonSchema": lambda e, v: asked(e, constraint=JsonSchema(schema(a=v))),
    "an enum of a JsonSchema": lambda e, v: asked(e, constraint=JsonSchema({"enum": v})),
    "Regex": lambda e, v: asked(e, constraint=Regex(v)),
    "Grammar": lambda e, v: asked(e, constraint=Grammar(v)),
    "Choice": lambda e, v: asked(e, constraint=Choice(v)),
    "an option of Choice": lambda e, v: asked(e, constraint=Choice(["a", v])),
    **{
        f"FusionConfig({name}=)": lambda e, v, name=name: FusionConfig(**{name: v})
        for name in FusionConfig.model_fields
    },
    **{
        f"SamplingParams({name}=)": lambda e, v, name=name: SamplingParams(**{name: v})
        for name in SamplingParams.model_fields
    },
    **{
        f"ModelConfig({name}=)": lambda e, v, name=name: ModelConfig(**{"path": "x", name: v})
        for name in ModelConfig.model_fields
    },
    "ModelConfig.of": lambda e, v: ModelConfig.of(v),
    "located": lambda e, v: located(v),
    "located([value])": lambda e, v: located([v]),
    "from_models": lambda e, v: FusionEngine.from_models(v),
    "from_models([value])": lambda e, v: FusionEngine.from_models([v]),
    **{
        f"FusionEngine({name}=)": lambda e, v, name=name: FusionEngine(e.backends, **{name: v})
        for name in ("config", "drafters", "verifiers", "weights")
    },
    "FusionEngine": lambda e, v: FusionEngine(v),
    "with_config": lambda e, v: e.with_config(v),
    "subset": lambda e, v: e.subset(v),
    "count_prompt_tokens": lambda e, v: e.count_prompt_tokens(v),
    "count_prompt_tokens(tools=)": lambda e, v: e.count_prompt_tokens([Message("user", "x")], v),
    "Deadline": lambda e, v: Deadline(v),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_any_value_works_or_is_refused_before_a_model_runs(entry: str) -> None:
    for name, value in ODD.items():
        backend = ScriptedBackend("a", "Hello there.")
        try:
            ENTRIES[entry](FusionEngine([backend]), value)
        except FusionError as error:
            assert not backend.sessions, (name, error)
            assert str(error)
            assert len(str(error)) < 2_000, name
        except Exception as error:
            raise AssertionError(f"{entry} with {name}") from error


LONE = "a \ud800 b"
BAD: list[tuple[Callable[[], Any], type[FusionError], str]] = [
    (
        lambda: Message("user", LONE),
        InvalidMessageError,
        "the content of a user message has '\\ud800' at position 2, which is not a character; use "
        "text.encode('utf-8', 'replace').decode().",
    ),
    (
        lambda: call(arguments={"a": LONE}),
        InvalidMessageError,
        "the tool call 'add' has '\\ud800' at position",
    ),
    (lambda: Tool("f", LONE), InvalidToolError, "the description of the tool 'f' has '\\ud800'"),
    (
        lambda: Tool("f", "", schema(a={"description": LONE})),
        InvalidToolError,
        "the schema of the tool 'f' has '\\ud800'",
    ),
    (lambda: Request.of("x", stop=LONE), InvalidOptionError, "a stop string has '\\ud800'"),
    (lambda: Choice(["a", LONE]), InvalidConstraintError, "an option of Choice has '\\ud800'"),
    (lambda: Regex(LONE), InvalidConstraintError, "the pattern has '\\ud800' at position 2"),
    (lambda: Grammar(LONE), InvalidConstraintError, "the grammar has '\\ud800' at position 2"),
    (lambda: JsonSchema({"const": LONE}), InvalidConstraintError, "the schema has '\\ud800'"),
    (
        lambda: JsonSchema(nested(500)),
        InvalidConstraintError,
        "the schema has more than 100 levels of lists and mappings within each other; use fewer.",
    ),
    (
        lambda: Tool("f", "", schema(a=nested(500))),
        InvalidToolError,
        "the schema of the tool 'f' has more than 100 levels of lists and mappings",
    ),
    (
        lambda: JsonSchema({"const": object()}),
        InvalidConstraintError,
        "the schema cannot be written as JSON (object is not a JSON value); use only JSON values.",
    ),
    (
        lambda: Choice(5),  # type: ignore[arg-type]
        InvalidConstraintError,
        "Choice: the options must be a list of strings, got 5.",
    ),
    (
        lambda: Request.of("x", tools=5),
        InvalidOptionError,
        "tools must be a list of tools, got 5.",
    ),
    (
        lambda: Deadline([]),  # type: ignore[arg-type]
        InvalidOptionError,
        "timeout must be a number of seconds, got [].",
    ),
    (lambda: located(["x/" * 3_000]), ModelNotFoundError, "there is no such directory"),
]


@pytest.mark.parametrize(("make", "error", "says"), BAD)
def test_what_is_wrong_is_told(
    make: Callable[[], Any], error: type[FusionError], says: str
) -> None:
    with pytest.raises(error, match=re.escape(says)):
        make()


def test_the_original_error_is_the_cause() -> None:
    for make in (
        lambda: Message("user", LONE),
        lambda: JsonSchema({"const": object()}),
        lambda: SamplingParams(temperature="hot"),  # type: ignore[arg-type]
        lambda: Message.of({"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}),
    ):
        with pytest.raises(FusionError) as caught:
            make()
        assert isinstance(caught.value.__cause__, Exception)


def test_a_secret_is_in_no_cause() -> None:
    with pytest.raises(InvalidOptionError) as caught:
        ModelConfig(path="x", token=b"hf_secret")  # type: ignore[arg-type]
    assert "hf_secret" not in f"{caught.value}{caught.value.__cause__}"


def test_a_value_is_shown_whole_if_it_is_short() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise KeyError("x")

    assert shown({"a": [1, "b"]}) == "{'a': [1, 'b']}"
    assert shown(Broken()) == "an object of the type Broken"
    assert shown(nested(5_000)) == "an object of the type dict"
    assert len(shown("x" * 10_000)) < 500


def test_a_value_may_have_a_hundred_levels_and_be_in_several_places() -> None:
    check_json(nested(99), "it", FusionError)
    twice: list[Any] = [1]
    for _ in range(60):
        twice = [twice[0], twice[0]] if len(str(twice)) > 100 else [twice, twice]
    check_json(twice, "it", FusionError)
    endless: list[Any] = []
    endless += [endless, endless]
    with pytest.raises(FusionError, match="more than 100 levels"):
        check_json(endless, "it", FusionError)
