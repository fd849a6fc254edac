"""What a limit or a full context window cuts is never delivered as complete."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from cutting import KINDS, PARAMETERS, call_text, writer
from jsonschema import Draft202012Validator

from specfuse_core import FusionEngine, Generation, Request, Segment, Tool
from specfuse_core.errors import InvalidLimitError, InvalidOptionError
from specfuse_core.grammar.calls import CALL_OPEN, write_call
from specfuse_core.grammar.constraints import JsonSchema, Regex
from specfuse_core.testing import ScriptedBackend

OPTIONS: dict[str, Any] = {"tool_choice": "required", "parallel_tool_calls": False}


def tool(kind: str) -> Tool:
    return Tool("delete", "", PARAMETERS[kind])


def check_call(answer: Generation, kind: str, error: str) -> bool:
    """Check that the call is whole or invalid, and return whether it is whole."""
    whole = [dict(call.arguments) for call in answer.tool_calls]
    assert whole in ([], [{"value": KINDS[kind][1]}])
    assert CALL_OPEN.startswith(answer.text)
    assert answer.closed_by_force is not bool(whole)
    flagged = [part.call for part in answer.segments if part.call and part.closed_by_force]
    assert len(flagged) == len(answer.invalid_tool_calls)
    for call in answer.invalid_tool_calls:
        assert (call.name, call.arguments) == ("delete", {})
        assert call.error == f"the call is incomplete, because {error}."
    return bool(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_is_whole_or_invalid_at_any_limit(kind: str) -> None:
    text = call_text(kind)
    engine = writer(text, letters=True)
    for limit in range(1, len(text) + 2):
        answer = engine.generate("Hi", tools=[tool(kind)], max_new_tokens=limit, **OPTIONS)
        assert check_call(answer, kind, f"max_new_tokens={limit} was reached") is (
            limit >= len(text)
        )
        assert answer.finish_reason == ("stop" if limit >= len(text) else "length")
        assert answer.usage.completion_tokens <= limit


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("segment", [None, 2, 256])
def test_a_call_is_whole_or_invalid_in_any_window(kind: str, segment: int | None) -> None:
    text = call_text(kind)
    (backend,) = writer(text).backends
    prompt = backend.count_prompt_tokens(Request.of("Hi").messages, [tool(kind)])
    size = backend.count_tokens(text)
    for room in range(1, size + 2):
        engine = writer(text, window=prompt + room)
        engine = engine.with_config(call_segment_tokens=segment)
        answer = engine.generate("Hi", tools=[tool(kind)], **OPTIONS)
        assert check_call(answer, kind, "the context window is full") is (room >= size)
        assert answer.finish_reason == ("stop" if room >= size else "context")


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_is_closed_if_the_request_asks_for_it(kind: str) -> None:
    text = call_text(kind)
    engine = writer(text, letters=True)
    valid = Draft202012Validator(PARAMETERS[kind])
    closed = 0
    for limit in range(1, len(text), 4):
        answer = engine.generate(
            "Hi", tools=[tool(kind)], max_new_tokens=limit, on_limit="close", **OPTIONS
        )
        assert answer.closed_by_force
        for call in answer.tool_calls:
            closed += 1
            valid.validate(dict(call.arguments))
    assert closed


@pytest.mark.parametrize("kind", KINDS)
def test_a_constrained_text_stays_valid_and_is_flagged(kind: str) -> None:
    text = json.dumps({"value": KINDS[kind][1]}, ensure_ascii=False)
    engine, schema = writer(text, letters=True), PARAMETERS[kind]
    closed = 0
    for limit in range(1, len(text) + 2):
        answer = engine.generate("Hi", constraint=JsonSchema(schema), max_new_tokens=limit)
        assert answer.closed_by_force is (limit < len(text))
        if limit >= len(text):
            assert (answer.text, answer.finish_reason) == (text, "stop")
            continue
        assert answer.finish_reason == "length"
        assert answer.segments[-1].closed_by_force
        chosen = "".join(part.text for part in answer.segments if not part.closed_by_force)
        assert text.startswith(chosen)
        try:
            Draft202012Validator(schema).validate(json.loads(answer.text))
        except json.JSONDecodeError:
            assert not closed  # only limits that are too small for any object
        else:
            closed += 1
            assert all(part.author is None for part in answer.segments if part.closed_by_force)
    assert closed > 2


def test_a_number_that_a_limit_cuts_is_flagged_although_it_is_valid() -> None:
    engine = writer("123456789", letters=True)
    answer = engine.generate("Hi", constraint=JsonSchema({"type": "integer"}), max_new_tokens=3)
    assert (answer.text, answer.finish_reason, answer.closed_by_force) == ("123", "length", True)
    whole = engine.generate("Hi", constraint=JsonSchema({"type": "integer"}))
    assert (whole.text, whole.closed_by_force) == ("123456789", False)


def test_free_text_that_a_limit_cuts_is_not_flagged() -> None:
    engine = writer("One two three four.")
    answer = engine.generate("Hi", tools=[tool("string")], max_new_tokens=2)
    assert (answer.text, answer.finish_reason) == ("One two", "length")
    assert not answer.closed_by_force
    assert answer.usage.limit == "max_new_tokens=2"


def test_whole_calls_before_the_cut_one_stay_valid() -> None:
    first, second = (write_call("delete", {"value": name}) for name in ("one", "a b c d e f g"))
    answer = writer(f"{first}\n{second}").generate("Hi", tools=[tool("string")], max_new_tokens=13)
    assert [dict(call.arguments) for call in answer.tool_calls] == [{"value": "one"}]
    assert [call.name for call in answer.invalid_tool_calls] == ["delete"]
    assert answer.closed_by_force


def test_a_cancelled_call_is_invalid() -> None:
    cancel = threading.Event()
    engine = writer(call_text("string")).with_config(call_segment_tokens=None, segment_tokens=3)
    kept: list[Segment] = []
    for segment in engine.stream("Hi", tools=[tool("string")], cancel=cancel, **OPTIONS):
        kept.append(segment)
        if segment.call and segment.call.arguments:
            cancel.set()
    answer = Generation.of(kept)
    assert (answer.finish_reason, answer.tool_calls) == ("cancelled", ())
    assert check_call(answer, "string", "the answer was cancelled") is False


def test_a_stop_string_before_the_closing_text_ends_the_answer_there() -> None:
    text = '{"value": "one two three four five"}'
    schema = JsonSchema(PARAMETERS["string"])
    answer = writer(text).generate("Hi", constraint=schema, max_new_tokens=4, stop=["two"])
    assert (answer.text, answer.finish_reason) == ('{"value": "one ', "stop_sequence")
    assert answer.usage.completion_tokens == 3
    assert not answer.closed_by_force


# Full context windows


class Small(ScriptedBackend):
    """A scripted model that needs two tokens for every word."""

    def count_tokens(self, text: str) -> int:
        return 2 * super().count_tokens(text)


@pytest.mark.parametrize("room", range(8, 40, 3))
def test_an_answer_is_closed_in_the_smallest_window(room: int) -> None:
    schema = {
        "type": "object",
        "properties": {"risks": {"type": "array", "items": {"type": "string"}}},
        "required": ["risks"],
        "additionalProperties": False,
    }
    text = json.dumps({"risks": ["one two", "three four five", "six seven"] * 9})
    small = Small("b", text, context_window=2 + room)
    engine = FusionEngine([ScriptedBackend("a", text), small])
    answer = engine.with_config(segment_tokens=3).generate("Hi", constraint=JsonSchema(schema))
    Draft202012Validator(schema).validate(json.loads(answer.text))
    assert (answer.finish_reason, answer.closed_by_force) == ("context", True)
    assert answer.usage.limit == "the context window"
    assert small.count_tokens(answer.text) <= room


# Limits


def test_calls_have_a_limit_of_their_own() -> None:
    words = " ".join(["word"] * 5000)
    call = write_call("delete", {"value": words})
    engine = writer(f"{'Well. ' * 8}Well.\n{call}", window=20_000)
    answer = engine.generate("Hi", tools=[tool("string")])
    assert answer.invalid_tool_calls[0].error == (
        "the call is incomplete, because max_call_tokens=4096 was reached."
    )
    more = engine.generate("Hi", tools=[tool("string")], max_call_tokens=6000)
    assert [dict(call.arguments) for call in more.tool_calls] == [{"value": words}]
    less = engine.generate("Hi", tools=[tool("string")], max_new_tokens=100, max_call_tokens=50)
    assert less.invalid_tool_calls[0].error == (
        "the call is incomplete, because max_call_tokens=50 was reached."
    )
    # The line break before the call is a token only as long as the call has not begun.
    assert less.usage.completion_tokens == 60


def test_an_explicit_limit_bounds_text_and_calls() -> None:
    call = write_call("delete", {"value": "a b c d e f g h"})
    engine = writer(f"Well, well.\n{call}")
    answer = engine.generate("Hi", tools=[tool("string")], max_new_tokens=8)
    assert (answer.text, answer.tool_calls) == ("Well, well.", ())
    assert answer.usage.completion_tokens == 8


def test_a_long_call_fits_the_default_limits() -> None:
    value = " ".join(["word"] * 600)
    engine = writer(write_call("delete", {"value": value}))
    answer = engine.generate("Hi", tools=[tool("string")])
    assert [dict(call.arguments) for call in answer.tool_calls] == [{"value": value}]


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidLimitError, match=r"^max_call_tokens must be at least 1, got 0\.$"):
        Request.of("Hi", max_call_tokens=0)
    with pytest.raises(InvalidOptionError, match=r"^on_limit must be 'error' or 'close', got 'x'"):
        Request.of("Hi", on_limit="x")


def test_a_pattern_is_flagged_where_a_limit_ends_it() -> None:
    answer = writer("12345", letters=True).generate(
        "Hi", constraint=Regex(r"\d+"), max_new_tokens=2
    )
    assert (answer.text, answer.closed_by_force) == ("12", True)
