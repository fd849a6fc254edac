"""The text of an answer is split into channels, wherever it is cut into pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specfuse_core.answer.channels import Channels, Piece
from specfuse_core.grammar.calls import write_call
from specfuse_core.grammar.openings import Offered
from specfuse_core.grammar.thoughts import THINKING
from specfuse_core.request import ToolCall

CALL = write_call("get_weather", {"city": 'Os"lo}', "days": [1, {"a": "é"}]})
OTHER = write_call("order_lamps", {})
TEXTS = [
    "Hello there.",
    f"Let me see.\n{CALL}",
    f"{CALL}\n{OTHER}",
    f"{CALL}{OTHER}",
    f"<think>\nHm, {OTHER}? </thin\n</think>\n\nIt is <b>12</b>.",
    f"\n<think>So.</think>{CALL}",
    "<think>never ends",
    "<tool_call>\n{",
    "a < b, and <tool",
    "",
]


def parted(pieces: list[str], *, calls: bool = True, thinks: bool = True) -> list[Piece]:
    channels = Channels(Offered(("get_weather", "order_lamps") if calls else (), thinks))
    parts = [piece for text in pieces for piece in channels.feed(text)]
    return [*parts, *channels.flush("cut off")]


def joined(pieces: list[Piece]) -> list[object]:
    """Join the text of each channel, and return the complete calls in order."""
    found: list[object] = []
    for channel, group in itertools.groupby(pieces, lambda piece: piece.channel):
        parts = list(group)
        if channel != "tool_call":
            found.append((channel, "".join(piece.text for piece in parts)))
        for piece in parts:
            if piece.call and piece.call.call:
                found.append((piece.call.call.name, dict(piece.call.call.arguments)))
    return found


def test_text_before_a_call_is_text_and_nothing_of_the_call_is() -> None:
    assert joined(parted([f"Let me see.\n{CALL}"])) == [
        ("text", "Let me see."),
        ("get_weather", {"city": 'Os"lo}', "days": [1, {"a": "é"}]}),
    ]


def test_a_call_is_told_step_by_step() -> None:
    start, *arguments, end = (
        piece.call for piece in parted([*CALL, *OTHER]) if piece.call and piece.call.index == 0
    )
    assert start and end and all(arguments)
    assert (start.name, start.arguments, start.call) == ("get_weather", "", None)
    text = "".join(delta.arguments for delta in arguments if delta)
    assert text == '{"city": "Os\\"lo}", "days": [1, {"a": "é"}]}'
    assert end.call == ToolCall("get_weather", {"city": 'Os"lo}', "days": [1, {"a": "é"}]}, end.id)
    assert start.id == end.id and start.id.startswith("call_")


def test_each_call_has_an_id_and_an_index_of_its_own() -> None:
    deltas = [piece.call for piece in parted([f"{CALL}\n{OTHER}"]) if piece.call]
    assert [(delta.index, delta.call.name) for delta in deltas if delta.call] == [
        (0, "get_weather"),
        (1, "order_lamps"),
    ]
    assert len({delta.id for delta in deltas}) == 2


@pytest.mark.parametrize("opening, closing", THINKING)
def test_thinking_is_delivered_apart_without_its_marks(opening: str, closing: str) -> None:
    pieces = parted([f"{opening}\nOne and one.\n{closing}\n\nTwo. {opening}"])
    assert joined(pieces) == [("reasoning", "One and one."), ("text", f"Two. {opening}")]


def test_thinking_that_never_ends_is_thinking() -> None:
    assert joined(parted(["<think>Well, ", "well"])) == [("reasoning", "Well, well")]


def test_what_goes_on_from_a_begun_turn_does_not_begin_with_thinking() -> None:
    assert joined(parted(["<think>a"], thinks=False)) == [("text", "<think>a")]


def test_without_tools_a_call_is_text() -> None:
    assert joined(parted([f"So: {CALL}"], calls=False)) == [("text", f"So: {CALL}")]


@pytest.mark.parametrize("length", range(len(CALL)))
def test_a_call_that_was_cut_off_has_an_error(length: int) -> None:
    pieces = parted([CALL[:length]])
    begun = [piece.call for piece in pieces if piece.call]
    ended = [delta.call for delta in begun if delta.call]
    assert len(ended) == bool(begun)
    for call in ended:
        assert call == ToolCall("get_weather", {}, begun[0].id, error="cut off")
    # Up to the whole name it is no call yet, but text.
    said = CALL[:length] if length < len('<tool_call>\n{"name": "get_weather"') else ""
    assert "".join(piece.text for piece in pieces if piece.channel == "text") == said


@given(st.sampled_from(TEXTS), st.data())
def test_how_a_text_is_cut_into_pieces_changes_nothing(text: str, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=12).map(sorted))
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    assert joined(parted(pieces)) == joined(parted([text]))


@given(st.text(alphabet="<>/tolcahink_ \n{}", max_size=60), st.booleans())
def test_text_without_marks_comes_through_as_it_is(text: str, calls: bool) -> None:
    marked = "<tool_call>" in text or text.lstrip().startswith(tuple(o for o, _ in THINKING))
    if not marked:
        assert "".join(piece.text for piece in parted(list(text), calls=calls)) == text
