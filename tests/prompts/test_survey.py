"""What a report says of a chat template: its form of calls, its marks, and what it drops."""

from __future__ import annotations

import pytest
import tiny
from dialects import DIALECTS, Dialect, tokenizer

from specfuse_core import TemplateReport
from specfuse_core.prompts.survey import KINDS, survey
from specfuse_core.prompts.template import ChatTemplate

#: Writes the last message only, and refuses conversations of one message.
LAST_OF_SEVERAL = (
    "{% if messages | length < 2 %}{{ raise_exception('too short') }}{% endif %}"
    "<|im_start|>user\n{{ messages[-1].content }}<|im_end|>\n"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def surveyed(template: str | None, family: str = "bytelevel") -> TemplateReport:
    return survey(ChatTemplate(tiny.tokenizer(family, template), None, {}, []))


def repairs(report: TemplateReport) -> dict[str, tuple[str, ...]]:
    return {one.kind: one.repairs for one in report.conversations if one.repairs}


def test_every_kind_is_tried() -> None:
    report = surveyed(tiny.CHATML)
    assert [one.kind for one in report.conversations] == [kind.name for kind in KINDS]
    assert (report.closing, report.header, report.thinking) == ("<|im_end|>", "", None)
    assert (report.calls, report.describes_tools) == ("instruction", False)


def test_what_a_template_repairs_is_named() -> None:
    found = repairs(surveyed(tiny.STRICT))
    assert found["a system message"] == ("moves system messages into user messages",)
    assert found["two user messages in a row"] == ("joins neighbouring messages of one role",)
    assert found["an answer before the first question"] == (
        "adds a user message before the first answer",
    )
    assert "a question" not in found
    assert "an earlier answer" not in found


def test_only_calls_and_results_are_text_in_a_template_that_knows_no_tools() -> None:
    assert set(repairs(surveyed(tiny.CHATML)).values()) == {
        ("writes tool calls and results as text",)
    }


def test_what_a_template_drops_is_told() -> None:
    found = {one.kind: one for one in surveyed(LAST_OF_SEVERAL).conversations}
    assert found["a system message"].lost == ("system",)
    assert found["an earlier answer"].lost == ("user", "assistant")
    assert "too short" in found["a question"].refused


def test_a_template_may_write_the_last_message_only() -> None:
    report = surveyed("<|im_start|>{{ messages[-1].content }}<|im_end|>")
    assert {one.lost for one in report.conversations} == {()}
    assert repairs(report)["an earlier answer"] == (
        "writes the whole conversation as one user message",
    )


def test_a_template_that_refuses_everything_says_why() -> None:
    report = surveyed("{{ raise_exception('closed today') }}")
    assert all("closed today" in one.refused for one in report.conversations)


@pytest.mark.parametrize("dialect", DIALECTS[:4], ids=lambda dialect: dialect.form)
def test_native_forms_of_calls_are_named(dialect: Dialect) -> None:
    report = survey(ChatTemplate(tokenizer(dialect), None, {}, []))
    assert report.calls == ("common" if dialect.form == "tool_call" else dialect.form)
    assert report.describes_tools


def test_marks_of_thoughts_in_plain_text_are_found() -> None:
    thinking = tiny.CHATML + "{% if enable_thinking %}<think>{% endif %}"
    assert surveyed(thinking).thinking == ("<think>", "</think>")


@pytest.mark.parametrize("switch", ["enable_thinking", "thinking"])
def test_the_variable_that_opens_a_closed_thought_is_found(switch: str) -> None:
    closed = tiny.CHATML.removesuffix("{% endif %}") + (
        f"<think>\n{{% if not {switch} %}}\n</think>\n\n{{% endif %}}{{% endif %}}"
    )
    assert surveyed(closed).thinking_switch == switch
    own = tiny.tokenizer("bytelevel", closed)
    for value in (True, False):
        # The caller knows the variable, who has set it.
        assert survey(ChatTemplate(own, None, {switch: value}, [])).thinking_switch is None


@pytest.mark.parametrize(
    "after",
    [
        "",
        "<think>\n",
        "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}",
        "<think></think>",
        "{{ '<think></think>' if not enable_thinking else raise_exception('no') }}",
    ],
    ids=["none", "open", "open by default", "always closed", "refused"],
)
def test_a_template_without_a_switch_for_thoughts_has_none(after: str) -> None:
    template = tiny.CHATML.removesuffix("{% endif %}") + after + "{% endif %}"
    assert surveyed(template).thinking_switch is None


def test_marks_that_a_model_does_not_know_are_not_shown() -> None:
    """Some models of a family think; their form is that of the others."""
    dialect = next(one for one in DIALECTS if one.form == "tool-calls-list")
    plain, thinking = tokenizer(dialect), tokenizer(dialect)
    thinking.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    assert survey(ChatTemplate(plain, None, {}, [])).thinking is None
    assert survey(ChatTemplate(thinking, None, {}, [])).thinking == ("[THINK]", "[/THINK]")


def test_a_channel_header_is_shown() -> None:
    own = tiny.tokenizer(
        "bytelevel",
        "{% for m in messages %}<|im_start|>{{ m.role }}"
        "{{ '<|channel|>' if m.role == 'assistant' }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}",
    )
    own.add_special_tokens({"additional_special_tokens": ["<|channel|>"]})
    assert survey(ChatTemplate(own, None, {}, [])).header == "<|channel|>\n"
