"""Base models draft in their own forms, and the ensemble votes on the common one."""

from __future__ import annotations

from functools import cache

import pytest
import tiny
from dialects import DIALECTS, Dialect, tokenizer
from speaking import speaks
from transformers import PreTrainedTokenizerFast

from specfuse_core import Choice, FusionConfig, FusionEngine, Message, Request, Tool, ToolCall
from specfuse_core.grammar.calls import write_call
from specfuse_core.hf import LoadedModel, LocalBackend, Runner, template_of
from specfuse_core.types import Candidate

WEATHER = Tool(
    "get_weather",
    "Tells the weather.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
)
CALL = write_call("get_weather", {"city": "Oslo", "days": 3})
NAMES = [dialect.form for dialect in DIALECTS]
#: Thoughts and answers in channels, as gpt-oss writes them.
CHANNELS = (
    "{% for m in messages %}<|start|>{{ m.role }}"
    "{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ m.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
#: A label of control tokens before every answer, and no way to think.
LABELLED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ '<|answer|>' if m.role == 'assistant' }}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def loaded(rows: int, seed: int) -> LoadedModel:
    model = tiny.model("llama", rows, seed=seed)
    model.config.max_position_embeddings = 4096
    return LoadedModel(Runner(model), "packed-full")


def backend(own: PreTrainedTokenizerFast, name: str = "m", seed: int = 0) -> LocalBackend:
    model = loaded(len(own), seed)
    return LocalBackend(name, lambda: (model, template_of(model.runner.model, own)))


def native(backend: LocalBackend, text: str) -> str:
    """``text`` in the form of a backend that may call the weather tool."""
    speech = backend.template.speech([WEATHER])
    assert speech is not None
    return "".join(piece.text for piece in speech.spelling.pieces(text))


def marked(template: str, *marks: str) -> PreTrainedTokenizerFast:
    made = tiny.tokenizer("bytelevel", template)
    made.add_special_tokens({"additional_special_tokens": list(marks)})
    return made


# Calls


@pytest.mark.parametrize("dialect", DIALECTS, ids=NAMES)
@pytest.mark.parametrize("said", ["", "Let me look that up for you now.\n"], ids=["call", "text"])
@pytest.mark.parametrize("call_tokens", [256, 12], ids=["short", "long"])
def test_a_native_call_is_a_call(dialect: Dialect, said: str, call_tokens: int) -> None:
    speaker = backend(tokenizer(dialect))
    speaks(speaker, native(speaker, said + CALL))
    engine = FusionEngine([speaker], FusionConfig(call_segment_tokens=call_tokens))
    answer = engine.generate("How is the weather?", tools=[WEATHER])
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [
        ("get_weather", {"city": "Oslo", "days": 3})
    ]
    assert answer.text == said.strip()
    assert answer.finish_reason == "stop"


@pytest.mark.parametrize("dialect", DIALECTS, ids=NAMES)
def test_what_was_committed_is_read_in_the_models_own_form(dialect: Dialect) -> None:
    speaker = backend(tokenizer(dialect))
    session = speaker.start(Request.of("How is the weather?", tools=[WEATHER]))
    prompt = list(session.ids)
    session.commit(Candidate("I look.\n"))
    session.commit(Candidate(CALL))
    written = native(speaker, "I look.\n" + CALL)
    assert speaker.template.codec.decode_marked(session.ids[len(prompt) :]) == written
    # What other models score, this one scores in its own form too.
    (found,) = session.verify([Candidate("", ends=True)])
    assert len(found.logprobs) == 1


def test_models_of_different_forms_understand_each_other() -> None:
    one, two, three = DIALECTS[1], DIALECTS[3], DIALECTS[6]
    backends = [backend(tokenizer(d), d.form, seed) for seed, d in enumerate((one, two, three))]
    for speaker in backends:
        speaks(speaker, native(speaker, CALL))
    answer = FusionEngine(backends).generate("How is the weather?", tools=[WEATHER])
    assert [call.arguments for call in answer.tool_calls] == [{"city": "Oslo", "days": 3}]
    (played,) = answer.rounds
    assert {candidate.text for candidate in played.candidates} == {CALL}


def test_several_calls_are_one_segment() -> None:
    speaker = backend(tokenizer(DIALECTS[3]))
    other = write_call("get_weather", {"city": "Rome"})
    speaks(speaker, native(speaker, f"{CALL}\n{other}"))
    answer = FusionEngine([speaker]).generate("How is the weather?", tools=[WEATHER])
    assert [call.arguments["city"] for call in answer.tool_calls] == ["Oslo", "Rome"]


@pytest.mark.parametrize(
    "call",
    [
        '[TOOL_CALLS][{"name": "launch_rocket", "arguments": {}}]',
        '[TOOL_CALLS][{"name": "get_weather", "arguments": {"days": 3}}]',
        '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": 7}}]',
        "[TOOL_CALLS][{]",
        "[TOOL_CALLS]",
    ],
    ids=["unknown", "missing", "mistyped", "broken", "empty"],
)
def test_what_no_tool_takes_is_not_called(call: str) -> None:
    speaker = speaks(backend(tokenizer(DIALECTS[3])), call)
    answer = FusionEngine([speaker]).generate("How is the weather?", tools=[WEATHER])
    assert answer.tool_calls == ()
    assert answer.text == call.removeprefix("[TOOL_CALLS]")


def test_under_a_constraint_every_model_writes_the_common_form() -> None:
    speaker = backend(tokenizer(DIALECTS[3]))
    request = Request.of("How is the weather?", tools=[WEATHER], tool_choice="required")
    # The weights are random, so that the model does not end the call itself.
    answer = FusionEngine([speaker]).generate(request, max_new_tokens=200, on_limit="close")
    assert answer.tool_calls[0].name == "get_weather"


def test_earlier_calls_are_shown_in_the_models_own_form() -> None:
    speaker = backend(tokenizer(DIALECTS[3]))
    call = ToolCall("get_weather", {"city": "Oslo"}, "1")
    turns = [
        Message("user", "How is the weather?"),
        Message("assistant", "", (call,)),
        Message("tool", "12", tool_call_id="1"),
    ]
    text = speaker.template.codec.decode_marked(speaker.template.prompt(turns, [WEATHER]).ids)
    assert '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Oslo"}}]' in text
    assert "<|im_start|>tool\n12" in text


# Channels


THINKS = "<|channel|>analysis<|message|>We greet.<|end|><|start|>assistant"
ANSWERS = "<|channel|>final<|message|>Hello, you!"
HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>")


def channels() -> PreTrainedTokenizerFast:
    tools = (
        "{% if tools %}<|start|>system<|message|>{{ tools | tojson }}<|end|>{% endif %}"
        + CHANNELS.replace(
            "{{ m.content }}<|end|>",
            "{{ m.content }}<|end|>{% for c in m.tool_calls or [] %}"
            "<|start|>assistant to=functions.{{ c.function.name }}<|channel|>commentary json"
            "<|message|>{{ c.function.arguments | tojson }}<|call|>{% endfor %}",
        ).replace("{% if m.role == 'assistant' %}", "{% if m.role == 'assistant' and m.content %}")
    )
    return marked(tools, *HARMONY)


@pytest.mark.parametrize("tools", [(), (WEATHER,)], ids=["bare", "tools"])
@pytest.mark.parametrize("thinks", [False, True])
def test_channels_are_thoughts_and_answers(tools: tuple[Tool, ...], thinks: bool) -> None:
    speaker = speaks(backend(channels()), (THINKS if thinks else "") + ANSWERS)
    answer = FusionEngine([speaker]).generate("Hi", tools=tools)
    assert answer.text == "Hello, you!"
    assert answer.reasoning == ("We greet." if thinks else "")
    assert answer.finish_reason == "stop"


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_marks_before_an_answer_are_no_tokens_of_it(limit: int) -> None:
    speaker = speaks(backend(channels()), ANSWERS)
    answer = FusionEngine([speaker]).generate("Hi", max_new_tokens=limit)
    assert answer.text == "Hello, you!"[: len(answer.text)] != ""
    assert answer.usage.completion_tokens == limit == speaker.count_tokens(answer.text)
    opening = [Message("user", "Hi"), Message("assistant", answer.text)]
    assert speaker.start(Request.of(opening)).count_tokens("") == 0


def test_a_channel_may_hold_a_call() -> None:
    call = ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Oslo"}'
    speaker = speaks(backend(channels()), THINKS + call)
    answer = FusionEngine([speaker]).generate("Hi", tools=[WEATHER])
    assert answer.reasoning == "We greet."
    assert [call.arguments for call in answer.tool_calls] == [{"city": "Oslo"}]


def test_others_read_an_answer_in_their_channels() -> None:
    session = backend(channels()).start(Request.of("Hi"))
    prompt = len(session.ids)
    session.commit(Candidate("<think>We greet.</think>"))
    session.commit(Candidate("Hello"))
    codec = backend(channels()).template.codec
    assert codec.decode_marked(session.ids[prompt:]) == (
        THINKS + "<|channel|>final<|message|>Hello"
    )


def test_under_a_constraint_the_prompt_opens_the_channel_of_the_answer() -> None:
    speaker = backend(channels())
    request = Request.of("Hi", constraint=Choice(["yes", "no"]), reasoning=False)
    ids = speaker.start(request).ids
    assert speaker.template.codec.decode_marked(ids).endswith(
        "<|start|>assistant<|channel|>final<|message|>"
    )
    assert FusionEngine([speaker]).generate(request).text in ("yes", "no")


def test_control_tokens_before_every_answer_go_into_the_prompt() -> None:
    speaker = backend(marked(LABELLED, "<|answer|>"))
    ids = speaker.start(Request.of("Hi")).ids
    assert speaker.template.codec.decode_marked(ids).endswith("assistant\n<|answer|>")


@pytest.mark.parametrize(("opening", "closing"), [("[THINK]", "[/THINK]"), ("<think>", "</think>")])
def test_thoughts_between_control_tokens_are_thoughts(opening: str, closing: str) -> None:
    speaker = backend(marked(tiny.CHATML, opening, closing))
    speaks(speaker, f"{opening}We greet.{closing}Hello, you!")
    answer = FusionEngine([speaker]).generate("Hi")
    assert (answer.reasoning, answer.text) == ("We greet.", "Hello, you!")
