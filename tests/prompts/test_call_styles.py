"""Turns with calls are given to a template in the style that it reads, and keep its own form."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import tiny

from specfuse_core import Message, Tool, ToolCall
from specfuse_core.grammar.calls import write_call
from specfuse_core.prompts.template import ChatTemplate
from specfuse_core.prompts.turns import CallStyle

WEATHER = Tool("get_weather", "Tells the weather.", {"type": "object", "properties": {}})
ASK, MORE = Message("user", "How warm?"), Message("user", "And Rome?")
CALLED = (ToolCall("get_weather", {"city": "Oslo"}, "call00001"),)
BOTH = (*CALLED, ToolCall("get_weather", {"city": "Rome"}, "call00002"))
CALL, SAID = Message("assistant", "", CALLED), Message("assistant", "I look.", CALLED)
RESULT = Message("tool", "12", name="get_weather", tool_call_id="call00001")
ANSWER = Message("assistant", "12 degrees.")

NATIVE = '<function=get_weather>{"city": "Oslo"}</function>'
CALLING = "<|im_start|>assistant\n" + NATIVE + "<|im_end|>\n"

_ARGUMENTS = "{{ c.function.arguments | tojson }}"


def calls(arguments: str = _ARGUMENTS) -> str:
    return (
        "{% for c in m.tool_calls %}<function={{ c.function.name }}>"
        + arguments
        + "</function>{% endfor %}"
    )


def chatml(body: str, *, begin: str = "") -> str:
    """A template without tools that writes each turn ``m`` by ``body``."""
    return (
        begin
        + "{% for m in messages %}"
        + body
        + "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def turn(content: str) -> str:
    return "<|im_start|>{{ m.role }}\n" + content + "<|im_end|>\n"


def either(condition: str, arguments: str = _ARGUMENTS) -> str:
    """Calls where ``condition`` holds, else the content."""
    called, said = turn(calls(arguments)), turn("{{ m.content }}")
    return f"{{% if {condition} %}}{called}{{% else %}}{said}{{% endif %}}"


USUAL = chatml(turn("{{ m.content or '' }}" + calls()))
NONE = chatml(either("m.content is none"))
TEXT = chatml(either("m.content is none", "{{ '' + c.function.arguments }}"))
ABSENT = chatml(either("'content' not in m"))
#: Writes a turn for the content beside the one for the calls.
TWICE = chatml(
    "{% if m.tool_calls %}" + turn(calls()) + "{% endif %}"
    "{% if m.content is not none %}" + turn("{{ m.content }}") + "{% endif %}"
)
#: Turns of users and answers alternate, and calls have no content.
ALTERNATING = (
    "{% if tools %}Tools: {{ tools | tojson }}\n{% endif %}{% set ns = namespace(n=0) %}"
    "{% for m in messages if m.role != 'tool' and not m.tool_calls %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}"
    "{% endif %}{% endfor %}"
) + chatml(
    "{% if m.tool_calls %}" + turn(calls()) + "{% else %}" + turn("{{ m.content }}") + "{% endif %}"
)


def made(template: str) -> ChatTemplate:
    return ChatTemplate(tiny.tokenizer("bytelevel", template), None, {}, [])


def written(
    owner: ChatTemplate, turns: Sequence[Message], tools: Sequence[Tool] = (), *, free: bool = True
) -> str:
    return owner.codec.decode_marked(owner.prompt(turns, tools, free=free).ids)


def user(text: str) -> str:
    return f"<|im_start|>user\n{text}<|im_end|>\n"


TOLD = "<|im_start|>tool\n12<|im_end|>\n"
OPEN = "<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("template", "style"),
    [
        (USUAL, CallStyle()),
        (NONE, CallStyle("none")),
        (TEXT, CallStyle("none", "text")),
        (ABSENT, CallStyle("absent")),
        (TWICE, CallStyle("none")),
    ],
    ids=["usual", "none", "text", "absent", "twice"],
)
def test_a_turn_of_calls_is_given_as_the_template_reads_it(template: str, style: CallStyle) -> None:
    owner = made(template)
    assert owner.manner.style == style
    assert owner.manner.form is not None
    assert owner.manner.form.name == "function-json"
    assert written(owner, [ASK, CALL, RESULT]) == user("How warm?") + CALLING + TOLD + OPEN
    assert owner.fit([ASK, CALL, RESULT])[1].repairs == ()


@pytest.mark.parametrize("template", [NONE, TEXT, ABSENT])
def test_text_beside_a_call_is_a_turn_of_its_own(template: str) -> None:
    said = "<|im_start|>assistant\nI look.<|im_end|>\n"
    text = written(made(template), [ASK, SAID, RESULT])
    assert text == user("How warm?") + said + CALLING + TOLD + OPEN


def test_arguments_that_spell_a_control_token_stay_text() -> None:
    owner = made(TEXT)
    spelled = Message("assistant", "", (ToolCall("get_weather", {"city": "<|im_end|> ß"}, "1"),))
    ids = owner.prompt([ASK, spelled, RESULT]).ids
    assert '{"city": "<|im_end|> ß"}' in owner.codec.decode_marked(ids)
    # One at the end of each of the three turns.
    assert list(ids).count(owner.codec.control_id("<|im_end|>")) == 3


@pytest.mark.parametrize(
    "begin", ["\n", "\n\n", "  {% if true %}x{% endif %}\n", " a\n", "{# b #}\n"]
)
def test_a_template_begins_alike_in_every_style(begin: str) -> None:
    own = tiny.tokenizer("bytelevel", chatml(either("m.content is none"), begin=begin))
    theirs = own.apply_chat_template(
        [{"role": "user", "content": "How warm?"}], tokenize=False, add_generation_prompt=True
    )
    owner = ChatTemplate(own, None, {}, [])
    assert owner.manner.style.content == "none"
    assert written(owner, [ASK]) == theirs


def test_calls_in_an_unknown_form_are_not_given_as_text() -> None:
    """They would be in another form than the one that the prompt asks for."""
    unknown = (
        "{% for c in m.tool_calls %}>>{{ c.function.name + c.function.arguments }}{% endfor %}"
    )
    owner = made(chatml(turn("{{ m.content }}" + unknown)))
    assert owner.manner.style == CallStyle()
    assert write_call("get_weather", {"city": "Oslo"}) in written(owner, [ASK, CALL, RESULT])


@pytest.mark.parametrize("template", [USUAL, TEXT])
def test_the_instruction_is_in_the_form_of_the_history(template: str) -> None:
    owner = made(template)
    assert not owner.manner.describes_tools
    text = written(owner, [ASK, CALL, RESULT], [WEATHER])
    assert text.count('"name": "get_weather"') == 1
    assert text.startswith("<|im_start|>system\nYou can call these tools:\n")
    assert (
        "To call one, write this with its name and arguments:\n"
        '<function=name>{"argument": "value"}</function><|im_end|>' in text
    )
    assert "<tool_call>" not in text


def test_under_a_constraint_the_instruction_is_in_the_common_form() -> None:
    text = written(made(USUAL), [ASK], [WEATHER], free=False)
    assert "To call one, write:\n<tool_call>\n" in text
    assert "<function=" not in text


def test_a_question_after_a_result_keeps_calls_native() -> None:
    owner = made(ALTERNATING)
    turns = [ASK, CALL, RESULT, MORE]
    _, fit = owner.fit(turns)
    assert [repair.description for repair in fit.repairs] == [
        "adds an empty answer between a tool's result and the next user message"
    ]
    empty = "<|im_start|>assistant\n<|im_end|>\n"
    expected = user("How warm?") + CALLING + TOLD + empty + user("And Rome?") + OPEN
    assert written(owner, turns) == expected


def test_calls_that_are_written_as_text_are_in_the_native_form() -> None:
    owner = made(ALTERNATING)
    both = Message("assistant", "I look.", BOTH)
    second = Message("tool", "20", name="get_weather", tool_call_id="call00002")
    turns = [ASK, both, RESULT, second, ANSWER, MORE]
    _, fit = owner.fit(turns)
    assert "writes tool calls and results as text" in {each.description for each in fit.repairs}
    text = written(owner, turns)
    other = NATIVE.replace("Oslo", "Rome")
    assert f"<|im_start|>assistant\nI look.\n{NATIVE}{other}<|im_end|>" in text
    assert "<tool_response>\n12\n</tool_response>" in text
    assert "<tool_response>\n20\n</tool_response>" in text
    assert "<tool_call>" not in text
