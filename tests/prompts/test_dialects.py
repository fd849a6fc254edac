"""Native forms of tool calls: found by what a template writes, read and spelled alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
from dialects import DIALECTS, Dialect, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from specfuse_core import FusionEngine, Message, ModelConfig, Tool
from specfuse_core.errors import InvalidOptionError
from specfuse_core.grammar.calls import write_call
from specfuse_core.hf import LocalBackend
from specfuse_core.prompts.dialects.speech import Speech
from specfuse_core.prompts.template import ChatTemplate

WEATHER = Tool(
    "get_weather",
    "Tells the weather.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "units": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["city"],
    },
)
NAMES = [dialect.form for dialect in DIALECTS]


def made(dialect: Dialect, *, writes: bool = True) -> ChatTemplate:
    return ChatTemplate(tokenizer(dialect, writes=writes), None, {}, [])


def speech(owner: ChatTemplate, *tools: Tool) -> Speech:
    found = owner.speech(tools or (WEATHER,))
    assert found is not None
    return found


@pytest.mark.parametrize("dialect", DIALECTS, ids=NAMES)
def test_the_form_is_found_by_what_the_template_writes(dialect: Dialect) -> None:
    owner = made(dialect)
    assert owner.manner.form is not None
    assert owner.manner.form.name == dialect.form
    assert owner.manner.instructs
    marks = {owner.codec.control_id(mark) for mark in dialect.marks}
    assert speech(owner).drawable >= marks - owner.ends


@pytest.mark.parametrize(
    "dialect", [dialect for dialect in DIALECTS if dialect.told], ids=lambda dialect: dialect.form
)
def test_the_form_is_found_by_what_the_template_tells(dialect: Dialect) -> None:
    owner = made(dialect, writes=False)
    assert owner.manner.form is not None
    assert owner.manner.form.name == dialect.form


def test_a_template_that_tells_no_form_gets_the_instruction_of_the_engine() -> None:
    odd = Dialect("", "{% for c in m.tool_calls %}({{ c.function.name }}){% endfor %}")
    owner = made(odd)
    assert owner.manner.form is None
    text = tokenizer(odd).decode(owner.prompt([Message("user", "How?")], [WEATHER]).ids)
    assert text.count("get_weather") == 1
    assert "To call a tool, write:\n<tool_call>\n" in text


def test_a_template_that_tells_the_common_form_needs_no_translation() -> None:
    common = DIALECTS[0]
    owner = ChatTemplate(tiny.tokenizer("bytelevel", common.template()), None, {}, [])
    assert owner.manner.common
    assert owner.speech([WEATHER]) is None
    text = tokenizer(common).decode(owner.prompt([Message("user", "How?")], [WEATHER]).ids)
    assert "To call a tool, write" not in text


@pytest.mark.parametrize("dialect", DIALECTS, ids=NAMES)
@settings(max_examples=15, deadline=None)
@given(
    city=st.text(st.sampled_from("abc äß東 .,'-0"), min_size=1, max_size=12).map(str.strip),
    days=st.integers(-(2**40), 2**40),
    units=st.lists(st.sampled_from(["C", "F"]), max_size=2),
)
def test_what_is_spelled_is_read_back(
    dialect: Dialect, city: str, days: int, units: list[str]
) -> None:
    call = write_call("get_weather", {"city": city or "Oslo", "days": days, "units": units})
    found = speech(CACHE.setdefault(dialect.form, made(dialect)))
    (piece,) = found.spelling.pieces(call)
    assert piece.marked
    assert piece.text != call or dialect.form == "tool_call"
    assert found.reader.read("", piece.text, ended=True) == call


CACHE: dict[str, ChatTemplate] = {}


@pytest.mark.parametrize("dialect", DIALECTS, ids=NAMES)
def test_text_and_calls_are_parted(dialect: Dialect) -> None:
    found = speech(made(dialect))
    one = write_call("get_weather", {"city": "Oslo"})
    said = f"I look.\n{one}"
    native = "".join(piece.text for piece in found.spelling.pieces(said))
    assert found.reader.read("", native, ended=True) == said
    if not dialect.several:
        return
    both = f"{one}\n{write_call('get_weather', {'city': 'Rome', 'days': 2})}"
    native = "".join(piece.text for piece in found.spelling.pieces(both))
    assert found.reader.read("", native, ended=True) == both


@pytest.mark.parametrize("dialect", DIALECTS, ids=NAMES)
def test_a_call_that_has_not_ended_is_only_its_beginning(dialect: Dialect) -> None:
    found = speech(made(dialect))
    (piece,) = found.spelling.pieces(write_call("get_weather", {"city": "Oslo", "days": 3}))
    cut = piece.text[: piece.text.index("Oslo") + 2]
    assert found.reader.read("", cut, ended=False) == "<tool_call>"


def test_arguments_that_spell_control_tokens_stay_text() -> None:
    dialect = DIALECTS[3]
    found = speech(made(dialect))
    call = write_call("get_weather", {"city": "[TOOL_CALLS] <|im_end|>"})
    assert [piece.marked for piece in found.spelling.pieces(call)] == [False]


@pytest.mark.parametrize(
    "text",
    [
        'The answer is {"name": "Anna", "parameters": {}}.',
        '{"name": "Anna", "age": 31}',
        '{"title": "A", "parameters": [1, 2]}',
    ],
)
def test_json_that_is_no_call_is_no_call(text: str) -> None:
    reader = speech(made(DIALECTS[1])).reader
    assert reader.read("", text, ended=True) in (None, text)


def test_a_given_response_template_is_taken() -> None:
    template = {
        "start_anchor": "<|im_start|>assistant\n",
        "fields": {
            "tool_calls": {
                "open": "@@",
                "close": "@@",
                "repeats": True,
                "content": "json",
                "transform": {"type": "function", "function": "{content}"},
            },
            "content": {},
        },
    }
    own = tiny.tokenizer("bytelevel", DIALECTS[0].template(writes=False))
    own.response_template = template
    for owner in (
        ChatTemplate(own, None, {}, []),
        ChatTemplate(tiny.tokenizer("bytelevel"), None, {}, [], template),
    ):
        native = '@@{"name": "get_weather", "arguments": {"city": "Oslo"}}@@'
        read = speech(owner).reader.read("", native, ended=True)
        assert read == write_call("get_weather", {"city": "Oslo"})


def test_a_model_is_configured_with_a_response_template(tmp_path: Path) -> None:
    model, own = tiny.pair("llama", "bytelevel")
    model.save_pretrained(tmp_path)
    own.save_pretrained(tmp_path)
    template = {
        "start_anchor": "assistant",
        "fields": {
            "tool_calls": {
                "open": "@@",
                "close": "@@",
                "repeats": True,
                "content": "json",
                "transform": {"type": "function", "function": "{content}"},
            },
            "content": {},
        },
    }
    config = ModelConfig(path=str(tmp_path), response_template=template)
    engine = FusionEngine.from_pretrained([config], progress=False)
    (backend,) = engine.backends
    assert isinstance(backend, LocalBackend)
    assert backend.template.manner.form is not None
    assert backend.template.manner.form.template == template


@pytest.mark.parametrize("broken", [{"fields": {}}, {"start_anchor": "x", "fields": {"a": 1}}, 3])
def test_a_broken_response_template_is_refused(broken: Any) -> None:
    with pytest.raises(InvalidOptionError, match="response template"):
        ChatTemplate(tiny.tokenizer("bytelevel"), None, {}, [], broken)
