"""A model may think before a constrained answer, in its own form or in plain text."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import tiny
from speaking import speaks
from transformers import PreTrainedTokenizerFast

from specfuse_core import (
    Choice,
    FusionConfig,
    FusionEngine,
    Grammar,
    JsonObject,
    JsonSchema,
    Regex,
    Tool,
)
from specfuse_core.grammar.calls import write_call
from specfuse_core.hf import LoadedModel, LocalBackend, Runner, template_of

CITYLESS = Tool("get_weather", "", {"type": "object", "properties": {}})
#: A header that names the channel of an answer, and calls in a channel of their own.
CHANNELS = (
    "{% if tools %}<|start|>system<|message|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for m in messages %}<|start|>{{ m.role }}"
    "{% if m.role == 'assistant' and m.content %}<|channel|>final{% endif %}"
    "<|message|>{{ m.content }}<|end|>{% for c in m.tool_calls or [] %}"
    "<|start|>assistant to=functions.{{ c.function.name }}<|channel|>commentary json"
    "<|message|>{{ c.function.arguments | tojson }}<|call|>{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>")
THINKS = "<|channel|>analysis<|message|>We greet.<|end|><|start|>assistant"


@cache
def loaded(rows: int) -> LoadedModel:
    model = tiny.model("llama", rows)
    model.config.max_position_embeddings = 4096
    return LoadedModel(Runner(model), "packed-full")


def backend(own: PreTrainedTokenizerFast, name: str = "m") -> LocalBackend:
    model = loaded(len(own))
    return LocalBackend(name, lambda: (model, template_of(model.runner.model, own)))


def marked(template: str, *marks: str) -> PreTrainedTokenizerFast:
    made = tiny.tokenizer("bytelevel", template)
    made.add_special_tokens({"additional_special_tokens": list(marks)})
    return made


#: Ways to write a thought: what makes the tokenizer, a thought, and what opens the answer after it.
THINKERS = {
    "channels": (lambda: marked(CHANNELS, *HARMONY), THINKS, "<|channel|>final<|message|>"),
    "marks": (lambda: marked(tiny.CHATML, "[THINK]", "[/THINK]"), "[THINK]We greet.[/THINK]", ""),
    "tags": (lambda: marked(tiny.CHATML, "<think>", "</think>"), "<think>We greet.</think>", ""),
    "text": (
        lambda: marked(tiny.CHATML + "{# <think> #}"),
        "<think>\nWe greet.\n</think>\n\n",
        "",
    ),
}
PERSON = JsonSchema(
    {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
)
CONSTRAINED: dict[str, tuple[dict[str, Any], str]] = {
    "schema": ({"constraint": PERSON}, '{"name": "Anna"}'),
    "object": ({"constraint": JsonObject()}, '{"name": 1}'),
    "choice": ({"constraint": Choice(["yes", "no"])}, "yes"),
    "regex": ({"constraint": Regex(r"\d+ lamps")}, "12 lamps"),
    "grammar": ({"constraint": Grammar('start: "a" start | "b"')}, "aab"),
    "call": ({"tools": [CITYLESS], "tool_choice": "required"}, write_call("get_weather", {})),
    "both": ({"tools": [CITYLESS], "constraint": PERSON}, '{"name": "Anna"}'),
}


@pytest.mark.parametrize("size", [3, 40])
@pytest.mark.parametrize("kind", CONSTRAINED)
@pytest.mark.parametrize("thinker", THINKERS)
def test_a_model_may_think_before_a_constrained_answer(thinker: str, kind: str, size: int) -> None:
    make, thought, opens = THINKERS[thinker]
    options, wanted = CONSTRAINED[kind]
    speaker = speaks(backend(make()), thought + opens + wanted)
    answer = FusionEngine([speaker], FusionConfig(segment_tokens=size)).generate("Hi", **options)
    assert (answer.reasoning, answer.finish_reason) == ("We greet.", "stop")
    if kind == "call":
        assert [call.name for call in answer.tool_calls] == ["get_weather"]
    else:
        assert answer.text == wanted


@pytest.mark.parametrize("thinker", THINKERS)
def test_a_model_need_not_think_before_a_constrained_answer(thinker: str) -> None:
    make, _, opens = THINKERS[thinker]
    speaker = speaks(backend(make()), opens + '{"name": "Anna"}')
    answer = FusionEngine([speaker]).generate("Hi", constraint=PERSON)
    assert (answer.reasoning, answer.text) == ("", '{"name": "Anna"}')


@pytest.mark.parametrize("thinker", THINKERS)
def test_a_thought_is_not_allowed_where_it_was_switched_off(thinker: str) -> None:
    make, thought, opens = THINKERS[thinker]
    speaker = speaks(backend(make()), thought + opens + '{"name": "Anna"}')
    answer = FusionEngine([speaker]).generate("Hi", constraint=PERSON, reasoning=False)
    assert answer.reasoning == ""
    assert set(json.loads(answer.text)) == {"name"}


@pytest.mark.parametrize("thinker", THINKERS)
@pytest.mark.parametrize("limit", range(1, 60, 7))
def test_a_thought_that_takes_all_tokens_leaves_valid_json(thinker: str, limit: int) -> None:
    make, thought, opens = THINKERS[thinker]
    long = thought.replace("greet", "greet and greet " * 30)
    speaker = speaks(backend(make()), long + opens + '{"name": "Anna"}')
    answer = FusionEngine([speaker]).generate("Hi", constraint=PERSON, max_new_tokens=limit)
    assert (answer.finish_reason, answer.closed_by_force) == ("length", True)
    # The shortest object takes several tokens. With fewer, nothing can be closed.
    if answer.text and limit > 1:
        assert json.loads(answer.text) == {"name": ""}


def test_others_follow_a_thought_before_a_constrained_answer_in_their_own_form() -> None:
    thinkers = [
        speaks(backend(make(), name), thought + opens + '{"name": "Anna"}')
        for name, (make, thought, opens) in THINKERS.items()
    ]
    plain = speaks(backend(marked(tiny.CHATML), "plain"), '{"name": "Anna"}')
    answer = FusionEngine([*thinkers, plain]).generate("Hi", constraint=PERSON, seed=1)
    assert set(json.loads(answer.text)) == {"name"}
