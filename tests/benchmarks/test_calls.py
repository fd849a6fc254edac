"""The tools of the benchmark's questions, and the calls that count as invalid."""

from __future__ import annotations

from benchmarks.evaluation.answers import draw
from benchmarks.evaluation.calls import invalid_calls, take_tools
from specfuse_core import FusionEngine, Message, Tool
from specfuse_core.grammar.calls import write_call
from training.splits import Split

TOOL = Tool("add", "", {"properties": {"a": {"type": "integer"}}, "required": ["a"]})


def test_the_prompt_is_the_same_whether_the_tools_are_text_or_go_with_the_request() -> None:
    engine = FusionEngine.bundled(progress=False)
    engine.warm_up()
    seen = 0
    for question in draw(["tools", "then_call"], Split.VALIDATION, [7], 25):
        turns, tools = take_tools(question.sample.prompt)
        if not tools:
            assert turns == list(question.sample.prompt)
            continue
        seen += 1
        bare = [turn.as_dict() for turn in turns]
        told = [turn.as_dict() for turn in question.sample.prompt]
        for backend in engine.backends:
            template = backend.template  # type: ignore[attr-defined]
            apart = template.prompt([Message.of(turn) for turn in bare], tools)
            assert apart == template.prompt([Message.of(turn) for turn in told])
    assert seen > 30


def test_calls_are_invalid_if_no_tool_can_take_them() -> None:
    good = write_call("add", {"a": 1})
    assert invalid_calls(f"Well. {good}\n{good}", [TOOL]) == 0
    bad = [
        write_call("sub", {"a": 1}),
        write_call("add", {"a": "1"}),
        write_call("add", {"a": 1, "b": 2}),
        good[:-3],
        "<tool_call>\n{}\n</tool_call>",
        "<tool_call>\n[1]\n</tool_call>",
        "<tool_call>\nno JSON\n</tool_call>",
    ]
    assert [invalid_calls(text, [TOOL]) for text in bad] == [1] * len(bad)
