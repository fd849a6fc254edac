"""Messages, requests and generations: what is accepted, and how the rest is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from specfuse_core.config import SamplingParams
from specfuse_core.errors import (
    EmptyConversationError,
    EmptyStopStringError,
    InvalidLimitError,
    InvalidMessageError,
    InvalidOptionError,
    UnknownOptionError,
)
from specfuse_core.request import Message, Request, ToolCall
from specfuse_core.types import Candidate, Cost, Generation, ModelUsage, Round, Segment, Usage

ROUND = Round(
    index=1,
    drafters=("a", "b"),
    candidates=(Candidate("left"), Candidate("right", True)),
    verifiers=("a", "b"),
    scores=((0.1, 0.2), (0.3, None)),
    weights=(0.5, 0.5),
    votes=(0.2, 0.2),
    winner=1,
)
USAGE = Usage(prompt_tokens=3, completion_tokens=2, seed=7, models=())


def used(name: str, rounds: int) -> ModelUsage:
    return ModelUsage(name, rounds, 0, 0, None, Cost(), 0.0)


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_every_role_makes_a_message(role: Any) -> None:
    assert Message.of({"role": role, "content": "x"}) == Message(role, "x")


def test_a_message_is_its_own_message() -> None:
    message = Message("user", "x")
    assert Message.of(message) is message


def test_a_message_without_content_is_empty() -> None:
    assert Message.of({"role": "assistant"}).content == ""
    assert Message.of({"role": "assistant", "content": None}).content == ""


def test_tool_calls_may_be_mappings_or_records() -> None:
    record = ToolCall("add", {"a": 1}, "c1")
    message = Message.of(
        {
            "role": "assistant",
            "tool_calls": [record, {"name": "add", "arguments": {"a": 2}}],
        }
    )
    assert message.tool_calls == (record, ToolCall("add", {"a": 2}, ""))
    answer = Message.of({"role": "tool", "content": "3", "tool_call_id": "c1", "name": "add"})
    assert (answer.tool_call_id, answer.name) == ("c1", "add")
    assert Message.of({"role": "assistant", "tool_calls": None}).tool_calls == ()


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"role": "robot", "content": "x"}, "unknown role 'robot'"),
        ({"role": ["user"], "content": "x"}, "unknown role"),
        ({"content": "x"}, "'role' and 'content'"),
        ("hello", "'role' and 'content'"),
        (("user", "hello"), "'role' and 'content'"),
        ({"role": "user", "content": b"x"}, "is bytes, not str"),
        ({"role": "user", "content": {"type": "text", "text": "x"}}, "is dict, not str"),
        ({"role": "assistant", "reasoning": {"effort": "low"}}, "reasoning of a.* is dict"),
        ({"role": "assistant", "tool_calls": [{"name": "add"}]}, "'name' and 'arguments'"),
        ({"role": "assistant", "tool_calls": ["add"]}, "'name' and 'arguments'"),
        ({"role": "assistant", "tool_calls": 3}, "must be a list of tool calls, got 3"),
    ],
)
def test_bad_messages_are_refused(given: Any, hint: str) -> None:
    with pytest.raises(InvalidMessageError, match=hint):
        Message.of(given)


def openai_call(arguments: Any, **options: Any) -> dict[str, Any]:
    """A call in OpenAI's form."""
    function = {"name": "add", "arguments": arguments}
    return {"id": "c1", "type": "function", "function": function, **options}


@pytest.mark.parametrize(
    ("arguments", "parsed"),
    [('{"a": 1, "b": [2]}', {"a": 1, "b": [2]}), ({"a": 1}, {"a": 1}), ("", {}), (None, {})],
)
def test_calls_in_openais_form_are_taken(arguments: Any, parsed: dict[str, Any]) -> None:
    expected = Message("assistant", "", (ToolCall("add", parsed, "c1"),))
    call = openai_call(arguments)
    assert Message.of({"role": "assistant", "content": None, "tool_calls": [call]}) == expected
    indexed = openai_call(arguments, index=0)
    assert Message.of({"role": "assistant", "tool_calls": [indexed]}) == expected


def test_the_older_form_of_a_call_is_taken() -> None:
    called = Message.of(
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": "add", "arguments": '{"a": 1}'},
        }
    )
    assert called == Message("assistant", "", (ToolCall("add", {"a": 1}),))
    result = Message.of({"role": "function", "name": "add", "content": "3"})
    assert result == Message("tool", "3", name="add")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('{"a": 1', r"tool call 'add' \(c1\) are not valid JSON \(.*\), got '{\"a\": 1'; pass a"),
        ("a=1", r"tool call 'add' \(c1\) are not valid JSON"),
        ("[1]", r"tool call 'add' \(c1\) must be a JSON object, got '\[1\]'"),
        ([1], r"tool call 'add' \(c1\) are list, not a mapping"),
    ],
)
def test_arguments_that_are_no_object_are_refused_with_their_call(
    arguments: Any, message: str
) -> None:
    with pytest.raises(InvalidMessageError, match=message):
        Message.of({"role": "assistant", "tool_calls": [openai_call(arguments)]})


def test_a_record_of_a_call_needs_parsed_arguments() -> None:
    call = ToolCall("add", '{"a": 1}')  # type: ignore[arg-type]
    with pytest.raises(InvalidMessageError, match="'add' are str, not a mapping; parse them"):
        Message("assistant", tool_calls=(call,))


@pytest.mark.parametrize("kind", ["text", "input_text", "output_text", None])
def test_parts_of_text_are_joined(kind: str | None) -> None:
    def part(text: str) -> dict[str, str]:
        return {"type": kind, "text": text} if kind else {"text": text}

    assert Message.of({"role": "user", "content": [part("How many?")]}).content == "How many?"
    several = [part("One."), part("Two."), "Three."]
    assert Message.of({"role": "user", "content": several}).content == "One.\nTwo.\nThree."
    assert Message.of({"role": "user", "content": []}).content == ""


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": "x"}}, "'image_url'"),
        ({"type": "input_audio", "input_audio": {}}, "'input_audio'"),
        ({"type": "file", "text": "x"}, "'file'"),
        ({"type": "text"}, "'text' whose 'text' is None; give a string"),
        ({"type": ["text"]}, r"\['text'\]"),
        (3, "'int'"),
    ],
)
def test_parts_that_are_not_text_are_refused_by_their_type(part: Any, kind: str) -> None:
    with pytest.raises(
        InvalidMessageError, match=f"user message has a content part of type {kind}"
    ):
        Message.of({"role": "user", "content": [{"type": "text", "text": "x"}, part]})


def test_a_developer_is_a_system() -> None:
    assert Message.of({"role": "developer", "content": "x"}) == Message("system", "x")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "thinking"])
def test_thoughts_are_kept_apart_from_the_content(name: str) -> None:
    message = Message.of({"role": "assistant", "content": "12", name: "Let me see."})
    assert message == Message("assistant", "12", reasoning="Let me see.")
    assert Message.of({"role": "assistant", "content": "12", name: None}).reasoning == ""


ANSWER = {
    "role": "assistant",
    "content": "Hi",
    "refusal": None,
    "annotations": [],
    "audio": None,
    "function_call": None,
    "tool_calls": None,
}


class ClientMessage:
    """Like the messages that OpenAI's client returns."""

    role, tool_calls = "assistant", None

    def model_dump(self) -> dict[str, Any]:
        return ANSWER


def test_an_answer_of_openai_can_be_part_of_the_next_conversation() -> None:
    assert Message.of(ANSWER) == Message("assistant", "Hi")
    assert Message.of(ClientMessage()) == Message("assistant", "Hi")  # type: ignore[arg-type]
    refused = {**ANSWER, "content": None, "refusal": "No."}
    assert Message.of(refused) == Message("assistant", "No.")
    with pytest.raises(UnknownOptionError, match="'audio'"):
        Message.of({**ANSWER, "audio": {"id": "x"}})


def test_an_unknown_field_of_a_message_is_refused_by_name() -> None:
    with pytest.raises(UnknownOptionError, match=r"'contents'; did you mean 'content'\?"):
        Message.of({"role": "user", "contents": "x"})


def test_a_question_becomes_one_user_message() -> None:
    request = Request.of("why?")
    assert request.messages == (Message("user", "why?"),)
    assert (request.max_new_tokens, request.stop) == (None, ())
    assert request.sampling == SamplingParams()


def test_messages_may_be_mixed_and_come_from_any_iterable() -> None:
    mixed = [{"role": "system", "content": "be brief"}, Message("user", "why?")]
    expected = (Message("system", "be brief"), Message("user", "why?"))
    assert Request.of(mixed).messages == expected
    assert Request.of(tuple(mixed)).messages == expected
    assert Request.of(iter(mixed)).messages == expected  # type: ignore[arg-type]


def test_a_conversation_may_end_with_any_role() -> None:
    for role in ("system", "user", "assistant", "tool"):
        assert Request.of([{"role": role, "content": "x"}]).messages[-1].role == role


def test_options_of_a_request() -> None:
    request = Request.of("x", max_new_tokens=3, stop=["a", "b"], temperature=0.5, seed=1)
    assert request.max_new_tokens == 3
    assert request.stop == ("a", "b")
    assert request.sampling == SamplingParams(temperature=0.5, seed=1)
    assert Request.of("x", stop="ab").stop == ("ab",)
    assert Request.of("x", stop=None).stop == ()


def test_single_sampling_options_go_over_a_whole_set() -> None:
    whole = SamplingParams(temperature=0.7, top_p=0.9)
    assert Request.of("x", sampling=whole).sampling is whole
    over = Request.of("x", sampling=whole, top_p=0.5).sampling
    assert over == SamplingParams(temperature=0.7, top_p=0.5)


def test_a_request_is_taken_over_and_changed_by_options() -> None:
    base = Request.of("x", max_new_tokens=3, stop="s", temperature=0.5)
    assert Request.of(base) == base
    changed = Request.of(base, max_new_tokens=4, top_k=2)
    assert changed == Request(base.messages, 4, ("s",), SamplingParams(temperature=0.5, top_k=2))
    assert Request.of(base, stop=()).stop == ()


def test_a_request_draws_a_seed_only_where_it_has_none() -> None:
    fixed = Request.of("x", seed=0)
    assert fixed.seeded() is fixed
    drawn = Request.of("x", temperature=0.5).seeded()
    assert drawn.sampling.seed is not None
    assert drawn.sampling.temperature == 0.5
    assert Request.of("x").seeded().sampling.seed != Request.of("x").seeded().sampling.seed


@pytest.mark.parametrize(
    "conversation", ["", [], [{"role": "user", "content": ""}], [Message("system")]]
)
def test_an_empty_conversation_is_refused(conversation: Any) -> None:
    with pytest.raises(EmptyConversationError, match="at least one message"):
        Request.of(conversation)


def test_a_tool_call_alone_is_not_an_empty_conversation() -> None:
    call = Message("assistant", tool_calls=(ToolCall("add", {}),))
    assert Request.of([call]).messages == (call,)


@pytest.mark.parametrize(
    "conversation", [None, 3, {"role": "user", "content": "x"}, Message("user", "x")]
)
def test_what_is_no_conversation_is_refused(conversation: Any) -> None:
    with pytest.raises(InvalidMessageError, match="a string or a list of messages"):
        Request.of(conversation)


@pytest.mark.parametrize("conversation", [b"bytes", ["x"], [3]])
def test_what_holds_no_messages_is_refused(conversation: Any) -> None:
    with pytest.raises(InvalidMessageError, match="'role' and 'content'"):
        Request.of(conversation)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_nothing_is_refused(limit: int) -> None:
    with pytest.raises(InvalidLimitError, match=f"at least 1, got {limit}"):
        Request.of("x", max_new_tokens=limit)


@pytest.mark.parametrize("limit", ["3", 2.0, True])
def test_a_limit_that_is_no_integer_is_refused(limit: Any) -> None:
    with pytest.raises(InvalidOptionError, match="must be an integer") as caught:
        Request.of("x", max_new_tokens=limit)
    assert not isinstance(caught.value, InvalidLimitError)


@pytest.mark.parametrize("stop", ["", [""], ["a", ""]])
def test_an_empty_stop_string_is_refused(stop: Any) -> None:
    with pytest.raises(EmptyStopStringError, match="leave it out"):
        Request.of("x", stop=stop)


@pytest.mark.parametrize("stop", [3, [3], ["a", None], b"ab"])
def test_a_stop_string_that_is_no_text_is_refused(stop: Any) -> None:
    with pytest.raises(InvalidOptionError, match="stop"):
        Request.of("x", stop=stop)


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(UnknownOptionError, match=r"'max_tokens'; use 'max_new_tokens'\."):
        Request.of("x", max_tokens=3)
    with pytest.raises(UnknownOptionError, match=r"'temprature'; did you mean 'temperature'\?"):
        Request.of("x", temprature=0.5)


def test_bad_sampling_is_refused() -> None:
    with pytest.raises(InvalidLimitError, match="temperature"):
        Request.of("x", temperature=-1)
    with pytest.raises(InvalidOptionError, match="must be a SamplingParams"):
        Request.of("x", sampling={"temperature": 1})


@pytest.mark.parametrize(
    "record",
    [Message("user", "x"), ToolCall("f", {}), Request.of("x"), Candidate("x"), ROUND, USAGE],
)
def test_records_are_frozen(record: Any) -> None:
    name = dataclasses.fields(record)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, getattr(record, name))


def test_a_round_names_its_author() -> None:
    assert ROUND.author == "b"
    assert ROUND.candidate == Candidate("right", True)
    assert Segment("right", ROUND).author == "b"
    assert Segment("").author is None


def test_models_per_round_is_a_mean_over_rounds() -> None:
    usage = Usage(1, 1, 0, (used("a", 4), used("b", 4), used("c", 1)))
    assert usage.models_per_round == pytest.approx(9 / 4)
    assert Usage(1, 0, 0, (used("a", 0),)).models_per_round == 0.0
    assert USAGE.models_per_round == 0.0


def test_a_generation_joins_its_segments() -> None:
    segments = (Segment("one ", ROUND), Segment("", ROUND), Segment("two", None, "length", USAGE))
    generation = Generation.of(iter(segments))
    assert generation == Generation("one two", "length", USAGE, segments)
    assert generation.rounds == (ROUND,)


def test_a_generation_is_shown_in_one_line() -> None:
    short = Generation("one\ntwo", "stop", USAGE, (Segment("one\ntwo", ROUND),))
    assert repr(short) == r"Generation(text='one\ntwo', finish_reason='stop', rounds=1)"
    rounds = tuple(Segment("", dataclasses.replace(ROUND, index=i)) for i in range(1000))
    long = Generation("\n\x1b" * 5000, "stop_sequence", USAGE, rounds)
    assert "rounds=1000" in repr(long)
    assert "..." in repr(long)
    assert len(repr(long)) < 110
    assert repr(long).isprintable()


@pytest.mark.parametrize(
    "segments",
    [[], [Segment("x", ROUND)], [Segment("x", finish_reason="stop")], [Segment("x", usage=USAGE)]],
)
def test_a_stream_without_its_end_is_refused(segments: list[Segment]) -> None:
    with pytest.raises(InvalidOptionError, match=r"does not include the answer.s last segment"):
        Generation.of(segments)
