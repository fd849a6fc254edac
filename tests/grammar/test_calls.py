"""A tool call is one segment, and the text before it is another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specfuse_core import FusionConfig, FusionEngine
from specfuse_core.grammar.boundaries import complete_words
from specfuse_core.grammar.calls import (
    CALL_CLOSE,
    CALL_OPEN,
    begins_call,
    complete_segment,
    in_call,
)
from specfuse_core.testing import ScriptedBackend

CALL = '<tool_call>\n{"name": "order_lamps", "arguments": {"count": 14}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("", False),
        ("14.\n", False),
        ("14.\n<tool_call>\n{", True),
        (CALL, False),
        (f"{CALL}\n<tool_call>", True),
        ("</tool_call>", False),
    ],
)
def test_a_text_is_in_a_call_from_the_mark_that_opens_to_the_one_that_closes(
    text: str, inside: bool
) -> None:
    assert in_call(text) is inside


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("<", True),
        ("\n<tool_c", True),
        ('\n<tool_call>\n{"na', True),
        ("", False),
        ("\n", False),
        ("14.\n<tool_call>", False),
        (CALL, False),
        ("<b>bold", False),
    ],
)
def test_a_beginning_of_a_call_is_one_that_has_no_end_and_nothing_before_it(
    text: str, begins: bool
) -> None:
    assert begins_call(text) is begins


@pytest.mark.parametrize(
    ("before", "text", "kept"),
    [
        ("", "The answer is 14.\n<tool_call>\n{", "The answer is 14.\n"),
        ("", "The answer is 14.\n<tool_", "The answer is 14.\n"),
        ("", "so a <", "so a"),
        ("14.\n", CALL, CALL),
        ("14.\n", f"{CALL}\n<tool_call>", CALL),
        ("14.\n", "\n<tool_call>\n{", "\n<tool_call>\n{"),
        ("14.\n<tool_call>\n{", '"name": "or', '"name": "or'),
        ("14.\n<tool_call>\n{", '}\n</tool_call>\n<tool_call>\n{"', "}\n</tool_call>"),
        ("", "plain wor", "plain"),
        ("", "<", "<"),
    ],
)
def test_segments_end_where_calls_begin_and_end(before: str, text: str, kept: str) -> None:
    assert complete_segment(before, text) == kept


pieces = st.lists(st.sampled_from([CALL_OPEN, CALL_CLOSE, "<tool", " ", "\n", "a", "14.", "{"]))


@given(pieces.map("".join), pieces.map("".join).filter(bool))
def test_a_segment_is_a_start_of_the_draft_and_never_empty(before: str, text: str) -> None:
    kept = complete_segment(before, text)
    assert kept and text.startswith(kept)
    if CALL_OPEN not in before + text and "<" not in text:
        assert kept in (complete_words(text), text)


def engine(**config: int | None) -> FusionEngine:
    reckoner = ScriptedBackend(
        "reckoner",
        f"7 + 7 = 14. The answer is 14.\n{CALL.replace('order_lamps', 'sell_boats')}",
        scorer=lambda _, candidate: [0.9 if "order" in candidate.text else 0.5],
    )
    clerk = ScriptedBackend(
        "clerk",
        f"7 + 7 = 14. The answer is 14.\n{CALL}",
        scorer=lambda _, candidate: [0.9 if "order" in candidate.text else 0.5],
    )
    return FusionEngine(
        [reckoner, clerk], FusionConfig(segment_tokens=3, model_exit=False, **config)
    )


def test_models_vote_on_whole_calls() -> None:
    answer = engine().generate("How many lamps?")
    assert answer.text == f"7 + 7 = 14. The answer is 14.\n{CALL}"
    assert answer.segments[-1].text.strip() == CALL
    assert answer.segments[-1].author == "clerk"


def test_calls_are_cut_like_other_text_where_that_is_asked_for() -> None:
    answer = engine(call_segment_tokens=None).generate("How many lamps?")
    assert all(len(segment.text.split()) <= 3 for segment in answer.segments)


def test_a_call_longer_than_its_limit_goes_on_in_the_next_segment() -> None:
    answer = engine(call_segment_tokens=4).generate("How many lamps?")
    assert in_call("".join(segment.text for segment in answer.segments[:-1]))
    assert answer.text.endswith(CALL)
