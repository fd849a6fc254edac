"""A chat template runs within limits, and whatever it raises is a TemplateError."""

from __future__ import annotations

import pytest
import tiny
from transformers import PreTrainedTokenizerFast

from specfuse_core import Message
from specfuse_core.errors import TemplateError
from specfuse_core.prompts import rendering
from specfuse_core.prompts.rendering import Rendering

ASK = [Message("user", "How?")]


def made(template: str | dict[str, str]) -> Rendering:
    tokenizer: PreTrainedTokenizerFast = tiny.tokenizer("bytelevel")
    tokenizer.chat_template = template
    return Rendering(tokenizer, None, {})


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{{ 1 / 0 }}",
        "{{ messages[7].content }}",
        "{{ messages[0].content + 1 }}",
        "{{ messages | no_such_filter }}",
        "{% for %}",
        "{{ range(10 ** 9) | list }}",
        "{{ ''.__class__.__mro__ }}",
        "{%- macro again() -%}{{ again() }}{%- endmacro -%}{{ again() }}",
    ],
)
def test_whatever_a_template_raises_is_a_template_error(template: str) -> None:
    with pytest.raises(TemplateError, match=r"refuses the conversation.*ModelConfig"):
        made(template).render(ASK)


def test_a_template_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_SECONDS", 0.05)
    endless = (
        "{% for a in range(90000) %}{% for b in range(90000) %}{% for c in range(90000) %}"
        "{% endfor %}{% endfor %}{% endfor %}"
    )
    with pytest.raises(TemplateError, match=r"did not finish within 0\.05 seconds"):
        made(endless).render(ASK)
    # Its thread ends too: a rendering after it has the machine for itself.
    for thread in rendering.running():
        thread.join(10)
    assert rendering.running() == []


def test_a_template_that_never_ends_is_not_run_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rendering, "_SECONDS", 0.05)
    marked = "{% if 'slow' in messages[0].content %}"
    slow = made(
        marked + "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}"
        "{% endfor %}{% endif %}done"
    )
    ask = [Message("user", "slow")]
    for _ in range(2):
        # One that takes too long once, such as while the machine sleeps, is tried again.
        with pytest.raises(TemplateError, match="did not finish"):
            slow.render(ask)
        assert slow.render(ASK) == "done"
    for _ in range(3):
        with pytest.raises(TemplateError, match=r"did not finish within 0\.05 seconds"):
            slow.render(ask)
    with pytest.raises(TemplateError, match="did not finish"):
        slow.render(ASK)


def test_a_template_that_writes_too_much_is_refused() -> None:
    long = "{% for i in range(200) %}{{ 'abcdefghij' * 1000 }}{% endfor %}"
    with pytest.raises(TemplateError, match=r"wrote 2,000,000 characters, more than the limit"):
        made(long).render(ASK)
    # A long conversation may have a long prompt.
    twice = made("{{ messages[0].content }}" * 2)
    assert len(twice.render([Message("user", "x" * 1_500_000)])) == 3_000_000


def test_conversations_with_tools_have_a_template_of_their_own() -> None:
    several = made({"default": "D{{ tools }}", "tool_use": "T{{ tools | length }}"})
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert several.render(ASK) == "DNone"
    assert several.render(ASK, [tool]) == "T1"


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "thinking"])
def test_thoughts_reach_a_template_under_the_name_that_it_knows(name: str) -> None:
    shown = made(f"{{% for m in messages %}}[{{{{ m.{name} }}}}]{{{{ m.content }}}}{{% endfor %}}")
    thought = Message("assistant", "12", reasoning="Let me see.")
    assert shown.render([*ASK, thought]) == "[]How?[Let me see.]12"
    silent = made("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert silent.render([*ASK, thought]) == "How?12"
