"""A tool call is one segment, and the text before it is another."""

from __future__ import annotations

from specfuse_core import FusionConfig, FusionEngine, Tool
from specfuse_core.testing import ScriptedBackend

CALL = '<tool_call>\n{"name": "order_lamps", "arguments": {"count": 14}}\n</tool_call>'
COUNT = {"type": "object", "properties": {"count": {"type": "integer"}}}
TOOLS = [Tool("order_lamps", "", COUNT), Tool("sell_boats", "", COUNT)]


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
    answer = engine().generate("How many lamps?", tools=TOOLS)
    assert answer.text == "7 + 7 = 14. The answer is 14."
    assert [call.name for call in answer.tool_calls] == ["order_lamps"]
    assert answer.rounds[-1].candidate.text == CALL
    assert answer.rounds[-1].author == "clerk"


def test_calls_are_cut_like_other_text_where_that_is_asked_for() -> None:
    answer = engine(call_segment_tokens=None).generate("How many lamps?", tools=TOOLS)
    assert all(len(each.candidate.text.split()) <= 3 for each in answer.rounds)
    assert len(answer.tool_calls) == 1


def test_a_call_longer_than_its_limit_goes_on_in_the_next_segment() -> None:
    answer = engine(call_segment_tokens=4).generate("How many lamps?", tools=TOOLS)
    assert CALL not in [each.candidate.text for each in answer.rounds]
    assert [dict(call.arguments) for call in answer.tool_calls] == [{"count": 14}]


def test_without_tools_a_call_is_text_that_models_vote_on_as_a_whole() -> None:
    answer = engine().generate("How many lamps?")
    assert answer.text == f"7 + 7 = 14. The answer is 14.\n{CALL}"
    assert answer.rounds[-1].candidate.text == CALL
