"""The token budget of an answer, with counts of our own."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from specfuse_core.answer.budget import Budget, Gauge, Taken
from specfuse_core.answer.follower import Follower
from specfuse_core.answer.limits import Limits
from specfuse_core.grammar.answers import grammar_of
from specfuse_core.grammar.constraints import JsonSchema


def eights(text: str) -> int:
    """A tokenizer whose tokens have up to eight characters."""
    return -(-len(text) // 8)


def test_a_text_is_cut_to_the_longest_part_that_fits() -> None:
    budget = Budget(eights, Limits.of(2))
    assert budget.take("x" * 20) == Taken("x" * 16, limit="length")
    assert (budget.spent, budget.left) == (2, 0)


def test_segments_that_merge_into_one_token_use_the_whole_budget() -> None:
    budget = Budget(eights, Limits.of(3))
    while budget.left:
        budget.take("x")
    assert (len(budget.text), budget.spent) == (17, 3)


def test_text_without_tokens_ends() -> None:
    budget = Budget(lambda text: 0, Limits.of(7))
    segments = 0
    while budget.left:
        budget.take(" ")
        segments += 1
    assert segments == 8


def test_text_without_tokens_after_some_with_ends_too() -> None:
    budget = Budget(lambda text: len(text.strip()), Limits.of(7))
    budget.take("x")
    segments = 0
    while budget.left:
        budget.take(" ")
        segments += 1
    assert segments < 50


def test_a_cut_spends_the_whole_limit_where_counts_go_up_and_down() -> None:
    """Longer text may have fewer tokens, where its pieces are merged."""
    counts = [0, 1, 2, 3, 4, 5, 3, 5, 6, 4, 6, 7]
    for limit in (4, 5, 6):
        budget = Budget(lambda text: counts[len(text)], Limits.of(limit))
        assert counts[len(budget.take("x" * (len(counts) - 1)).text)] == limit


def test_what_a_stop_string_cuts_off_is_given_back() -> None:
    budget = Budget(eights, Limits.of(9))
    budget.take("x" * 40)
    budget.keep(12)
    assert (budget.text, budget.spent, budget.left) == ("x" * 12, 2, 7)


def test_the_count_may_fall() -> None:
    """What was merged is not counted twice."""
    budget = Budget(lambda text: len(text.replace("foobar", "_")), Limits.of(6))
    for segment, spent in (("foo", 3), ("bar", 1), ("foobar", 2)):
        assert budget.take(segment).text == segment
        assert budget.spent == spent


# Closing


class Endless(Follower):
    """The position in a grammar for which no closing text is found."""

    def closing(self, *, shortest: bool = False) -> str | None:
        return None


def test_an_answer_for_which_no_closing_text_is_found_goes_on_to_the_limit() -> None:
    budget = Budget(len, Limits.of(5), Endless('start: "a"+ "b"'))
    assert budget.take("aaa") == Taken("aaa")
    assert budget.take("a") == Taken("a")
    assert budget.take("aa") == Taken("a", limit="length")
    assert budget.close() == ""


@pytest.mark.parametrize(("room", "limit"), [(9, "length"), (4, "context")])
def test_text_is_closed_where_the_first_limit_is_reached(room: int, limit: Any) -> None:
    follower = Follower('start: "a"+ "b"')
    budget = Budget(len, Limits.of(7), follower, rooms=lambda: [Gauge(len, room)])
    shortest = min(room, 7)
    assert budget.take("a" * 20) == Taken("a" * (shortest - 1), "b", limit)


def test_calls_and_text_have_limits_of_their_own() -> None:
    limits = Limits(None, 3, 5)
    budget = Budget(len, limits, in_call=lambda text: text.count("<") > text.count(">"))
    assert (budget.left, budget.left_for_call) == (3, 5)
    budget.take("ab")
    assert (budget.left, budget.left_for_call) == (1, 5)
    budget.take("<cd")
    assert (budget.left, budget.left_for_call) == (2, 2)
    assert budget.limit_name == "max_call_tokens=5"
    budget.take(">")
    assert (budget.left, budget.left_for_call) == (1, 1)
    assert budget.take("ef") == Taken("e", limit="length")
    assert budget.limit_name == "max_new_tokens=3"


def test_room_is_kept_for_a_pattern_that_is_not_anchored() -> None:
    schema = {
        "type": "object",
        "properties": {"phone": {"type": "string", "pattern": r"\d{3}-\d{4}"}},
        "required": ["phone"],
        "additionalProperties": False,
    }
    budget = Budget(len, Limits.of(40), Follower(grammar_of(JsonSchema(schema)) or ""))
    budget.take('{"phone": "')
    while budget.left:
        budget.take("call me ")
    assert re.search(r"\d{3}-\d{4}", json.loads(budget.text)["phone"])
    assert len(budget.text) <= 40


def test_no_room_is_kept_for_many_items_whose_end_is_not_found() -> None:
    follower = Follower(grammar_of(JsonSchema({"type": "array", "minItems": 10_000})) or "")
    budget = Budget(len, Limits.of(12), follower)
    taken = [budget.take(text) for text in ("[", "0, ", "1, ", "2, ", "3, ")]
    assert [each.text for each in taken] == ["[", "0, ", "1, ", "2, ", "3,"]
    assert [each.closing for each in taken] == [""] * 5
    assert taken[-1].limit == "length"
