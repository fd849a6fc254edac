"""No turn of a conversation is lost, whatever it says and whatever the template drops."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specfuse_core import Message, ToolCall
from specfuse_core.errors import TemplateError
from specfuse_core.prompts.fitting import Fitting

ASK = Message("user", "There are 12 rooms. How many lamps?")
CALL = Message("assistant", "", (ToolCall("count", {"of": "lamps"}, "1"),))


def lines(turns: Any, tools: Any = ()) -> str:
    """A template that renders everything, a line a turn."""
    written = []
    for turn in turns:
        calls = "".join(f"[{call.name}{dict(call.arguments)}]" for call in turn.tool_calls)
        written.append(f"{turn.role}:{turn.content}{calls}")
    return "\n".join(written)


def without(*roles: str) -> Fitting:
    """A template that silently drops turns of some roles, and calls."""

    def render(turns: Any, tools: Any = ()) -> str:
        kept = [turn for turn in turns if turn.role not in roles]
        return "\n".join(f"{turn.role}:{turn.content}" for turn in kept)

    return Fitting(render)


@pytest.mark.parametrize("result", ["12", "true", "[]", "ok", "rooms", "lamps", "count", "user"])
def test_a_result_that_stands_elsewhere_too_is_not_lost(result: str) -> None:
    turns = [ASK, CALL, Message("tool", result, tool_call_id="1")]
    text = without("tool").rendered(turns)
    assert f"<tool_response>\n{result}\n</tool_response>" in text


@pytest.mark.parametrize("result", ['{"a": "b"}', "plain", "two\nlines", "\\ \u2028"])
def test_the_form_of_a_history_does_not_depend_on_contents(result: str) -> None:
    def render(turns: Any, tools: Any = ()) -> str:
        # As templates that pass results through tojson.
        return lines([t if t.role != "tool" else Message("tool", repr(t.content)) for t in turns])

    text = Fitting(render).rendered([ASK, CALL, Message("tool", result, tool_call_id="1")])
    assert text.splitlines()[-1] == f"tool:{result!r}"


def test_a_system_turn_is_not_lost_beside_a_thought() -> None:
    def render(turns: Any, tools: Any = ()) -> str:
        # As templates that take the first system turn only, and drop thoughts of earlier turns.
        kept = [t for i, t in enumerate(turns) if t.role != "system" or i == 0]
        return lines([Message(t.role, t.content.split("</think>")[-1], t.tool_calls) for t in kept])

    turns = [
        Message("system", "Be brief."),
        Message("system", "In verse."),
        Message("user", "How?"),
        Message("assistant", "<think>Hm.</think>So."),
        Message("user", "Why?"),
    ]
    text = Fitting(render).rendered(turns)
    assert "Be brief." in text
    assert "In verse." in text
    assert "Hm." not in text


def test_a_template_that_drops_the_question_is_refused() -> None:
    with pytest.raises(TemplateError, match="drops the last turn of the user"):
        without("user").rendered([ASK])


def test_text_beside_a_call_is_kept_where_a_template_drops_it() -> None:
    def render(turns: Any, tools: Any = ()) -> str:
        return lines(
            [Message(t.role, "" if t.tool_calls else t.content, t.tool_calls) for t in turns]
        )

    said = Message("assistant", "I look.", CALL.tool_calls)
    text = Fitting(render).rendered([ASK, said, Message("tool", "7", tool_call_id="1")])
    assert "assistant:I look.\nassistant:[count" in text


def test_several_calls_are_single_turns_where_a_template_takes_one() -> None:
    def render(turns: Any, tools: Any = ()) -> str:
        if any(len(turn.tool_calls) > 1 for turn in turns):
            raise TemplateError("one call at a time")
        return lines(turns)

    both = Message("assistant", "", (ToolCall("a", {"x": 1}, "1"), ToolCall("b", {"y": 2}, "2")))
    results = [Message("tool", "B", tool_call_id="2"), Message("tool", "A", tool_call_id="1")]
    text = Fitting(render).rendered([ASK, both, *results])
    assert text.splitlines()[1:] == [
        "assistant:[a{'x': 1}]",
        "tool:A",
        "assistant:[b{'y': 2}]",
        "tool:B",
    ]


ROLES = st.sampled_from(["system", "user", "assistant", "tool"])


@settings(max_examples=200, deadline=None)
@given(
    turns=st.lists(st.tuples(ROLES, st.sampled_from(["12", "a", "rooms", "{}"])), max_size=6),
    dropped=st.sets(st.sampled_from(["system", "assistant", "tool"])),
    alternating=st.booleans(),
)
def test_every_turn_is_kept(
    turns: list[tuple[str, str]], dropped: set[str], alternating: bool
) -> None:
    made = [Message(role, f"{text} {i}.") for i, (role, text) in enumerate(turns)]  # type: ignore[arg-type]
    made.append(ASK)

    def render(given: Any, tools: Any = ()) -> str:
        roles = [turn.role for turn in given if turn.role in ("user", "assistant")]
        if alternating and any(a == b for a, b in itertools.pairwise(roles)):
            raise TemplateError("roles must alternate")
        return lines([turn for turn in given if turn.role not in dropped])

    text = Fitting(render).rendered(made)
    assert all(turn.content in text for turn in made)


def test_each_shape_is_tried_once() -> None:
    tried: list[str] = []

    def render(turns: Any, tools: Any = ()) -> str:
        tried.append(lines(turns))
        return tried[-1]

    fitting = Fitting(render)
    for question in ("How?", "Why?", "Where?"):
        fitting.rendered([Message("user", question)])
    assert len(tried) == 4
