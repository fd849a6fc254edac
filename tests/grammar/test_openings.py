"""Where a call opens: the same for the scanner of the text and for the grammar of the answer."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specfuse_core import Tool
from specfuse_core.answer.follower import Follower
from specfuse_core.grammar.answers import grammar_of
from specfuse_core.grammar.boundaries import complete_words
from specfuse_core.grammar.calls import write_call
from specfuse_core.grammar.openings import Offered, Place
from specfuse_core.grammar.thoughts import THINKING, end_of_thought, thinking_in

OFFERED = Offered(("wipe", "order_lamps"))
TOOLS = [Tool(name) for name in OFFERED.names]
CALL = write_call("wipe", {})
OTHER = write_call("shred", {})

#: Texts of whole answers, and whether they end with a call of an offered tool.
ANSWERS = [
    (CALL, True),
    (f"\n\n{CALL}", True),
    (f"I look.\n{CALL}", True),
    (f"I look.\r\n{CALL}", True),
    (f"   {CALL}", True),
    (f"{CALL}\n{CALL}", True),
    (f"{CALL}{CALL}", True),
    ('<tool_call>{"name":"wipe","arguments":{}}</tool_call>', True),
    ('<tool_call>\n{"name": "wipe", "parameters": {}}\n</tool_call>', True),
    (f"```\nx\n```\n{CALL}", True),
    (f"<think>\n{CALL}\n</think>\n{CALL}", True),
    (f"{OTHER}\n{CALL}", True),
    (f"`inline` code\n{CALL}", True),
    (f"The page says: {CALL}", False),
    (f"The page says: `{CALL}`.", False),
    (f'"{CALL}"', False),
    (f"> {CALL}", False),
    (f"- {CALL}", False),
    (f"    {CALL}", False),
    (f"\t{CALL}", False),
    (f"```\n{CALL}\n```", False),
    (f"```xml\n{CALL}", False),
    (f"~~~\n{CALL}\n~~~", False),
    (f"```\n~~~\n{CALL}\n```", False),
    (f"<think>{CALL}", False),
    (f"<think>\n{CALL}\n</think>\nNo.", False),
    (OTHER, False),
    (f"{OTHER} is a call.", False),
    ("<tool_call> opens a call.", False),
    ('<tool_call>\n{"name": "wipers"}', False),
    ('<tool_call>\n{"arguments": {}, "name": "wipe"}\n</tool_call>', False),
]


@pytest.mark.parametrize(("answer", "called"), ANSWERS)
def test_a_mark_opens_a_call_only_at_the_start_of_a_line_and_with_an_offered_name(
    answer: str, called: bool
) -> None:
    begins = answer.rfind("<tool_call>")
    head = answer[: answer.index("{}", begins) + 1] if called else answer
    assert OFFERED.in_call(head) is called
    assert not OFFERED.in_call(answer)


@pytest.mark.parametrize("thinks", [True, False])
@pytest.mark.parametrize(("answer", "called"), ANSWERS)
def test_the_grammar_takes_each_answer_and_lets_text_go_on(
    answer: str, called: bool, thinks: bool
) -> None:
    follower = Follower(grammar_of(None, TOOLS, thinks=thinks) or "")
    if thinks or "<think>" not in answer:
        assert follower.legal(answer) == len(answer)
        follower.push(answer)
        assert follower.may_end
        # After a call only another one may follow.
        assert follower.legal(" so") == (1 if called else 3)


def test_an_offered_name_must_have_arguments() -> None:
    follower = Follower(grammar_of(None, TOOLS, thinks=True) or "")
    follower.push('<tool_call>\n{"name": "wipe"')
    assert follower.legal(', "arguments": {}}') > 10
    assert follower.legal(", and so on") == 2


@pytest.mark.parametrize(
    ("before", "text", "begins"),
    [
        ("", "<", True),
        ("", "\n<tool_c", True),
        ("", '\n<tool_call>\n{"na', True),
        ("", '<tool_call>\n{"name": "wip', True),
        ("", '<tool_call>\n{"name": "wipx', False),
        ("", "", False),
        ("", "\n", False),
        ("", "14.\n<tool_call>", False),
        ("14. ", "<tool_call>", False),
        ("14.\n", "<tool_call>", True),
        ("```\n", "<tool_call>", False),
        ("<think>\n", "<tool_call>", False),
        ("", CALL, False),
        ("", "<b>bold", False),
    ],
)
def test_a_beginning_of_a_call_has_no_end_and_nothing_before_it(
    before: str, text: str, begins: bool
) -> None:
    assert OFFERED.begins_call(before, text) is begins


@pytest.mark.parametrize(
    ("before", "text", "kept"),
    [
        ("", f"The answer is 14.\n{CALL[:20]}", "The answer is 14.\n"),
        ("", "The answer is 14.\n<tool_", "The answer is 14.\n"),
        ("14.\n", CALL, CALL),
        ("14.\n", f"{CALL}\n<tool_call>", CALL),
        ("14.\n", f"\n{CALL[:30]}", f"\n{CALL[:30]}"),
        (f"14.\n{CALL[:-20]}", CALL[-20:] + "\n<tool_call>", CALL[-20:]),
        ("", "plain wor", "plain"),
        ("", "<", "<"),
        ("so ", f"{OTHER} is a", f"{OTHER} is"),
        ("<think>", f"I would {CALL} so", f"I would {CALL}"),
    ],
)
def test_segments_end_where_calls_begin_and_end(before: str, text: str, kept: str) -> None:
    assert OFFERED.complete_segment(before, text) == kept


def test_without_tools_segments_still_end_where_a_call_of_any_tool_would() -> None:
    none = Offered()
    assert none.find(CALL, Place()) is None
    assert none.complete_segment("", f"14.\n{OTHER}") == "14.\n"
    assert none.complete_segment("14.\n", f"{OTHER}\nso") == OTHER
    assert none.begins_call("", OTHER[:24]) and not none.begins_call("so ", OTHER[:24])


def test_an_argument_may_hold_the_mark_that_closes_a_call() -> None:
    call = write_call("wipe", {"path": "</tool_call>"})
    assert OFFERED.complete_segment("", call + "\n") == call
    assert OFFERED.in_call(call[:-5]) and not OFFERED.in_call(call)


def test_a_thought_before_a_constrained_answer_is_a_segment_of_its_own() -> None:
    text = '<think>So.</think>\n{"a": 1}'
    assert OFFERED.complete_segment("", text, free=False) == "<think>So.</think>"
    assert OFFERED.complete_segment("<think>So", ' it is.</think>{"a', free=False) == (
        " it is.</think>"
    )
    assert Offered(thinks=False).complete_segment("", text, free=False) == text


@pytest.mark.parametrize(("opening", "closing"), THINKING)
def test_reasoning_ends_with_the_mark_that_belongs_to_its_opening(
    opening: str, closing: str
) -> None:
    assert thinking_in(f"\n{opening}a </b>") == closing
    assert end_of_thought(f"{opening}a{closing} b") == len(f"{opening}a{closing}")
    assert end_of_thought(f"a {opening}") == 0
    assert thinking_in(f"{opening}a{closing}") == ""


parts = st.lists(
    st.sampled_from(
        [CALL, OTHER, "<tool_call>", '{"name": "wipe"', "{", "```", "~~~", "<think>", "</think>"]
    )
    | st.sampled_from([" ", "    ", "\n", "\r\n", "a", "14."]),
    max_size=9,
).map("".join)


@given(parts)
def test_scanner_and_grammar_agree_on_what_is_inside_a_call(text: str) -> None:
    follower = Follower(grammar_of(None, TOOLS, thinks=True) or "")
    legal = text[: follower.legal(text)]
    follower.push(legal)
    if OFFERED.in_call(legal):
        assert not follower.may_end
    else:
        # Outside of calls an answer may end, and text may go on. After a call only another one may.
        after_call = CALL in legal
        assert follower.may_end or after_call
        assert follower.legal("a") == 1 or after_call


@given(parts, parts.filter(bool), st.booleans())
def test_a_segment_is_a_start_of_the_draft_and_never_empty(
    before: str, text: str, free: bool
) -> None:
    kept = OFFERED.complete_segment(before, text, free=free)
    assert kept and text.startswith(kept)
    if free and "<" not in before + text:
        assert kept in (complete_words(text), text)


@given(parts, st.data())
def test_a_place_does_not_depend_on_how_a_text_is_cut(text: str, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=5).map(sorted))
    place = Place()
    for start, end in pairwise([0, *cuts, len(text)]):
        place = place.after(text[start:end])
    assert place == Place().after(text)
