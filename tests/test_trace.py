"""The trace of an answer as data: JSON lines and table rows."""

import io
import json
from itertools import islice

import pytest

from specfuse_core import Choice, FusionConfig, FusionEngine, Request
from specfuse_core.command.console import Screen
from specfuse_core.testing import ScriptedBackend
from specfuse_core.trace import candidate_rows, json_lines, model_rows, records


@pytest.fixture
def engine() -> FusionEngine:
    backends = [
        ScriptedBackend("reader", "The hall has 12 lamps. So 12 plus 7 is 20."),
        ScriptedBackend("reckoner", "The hall has 31 lamps. So 12 plus 7 is 19."),
    ]
    return FusionEngine(
        backends, FusionConfig(method="specfuse", segment_tokens=4, model_exit=False)
    )


REQUEST = Request.of("How many lamps?", seed=3, stop=["###"], max_new_tokens=40)


def parsed(lines: object) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines]  # type: ignore[attr-defined]


def test_a_stream_and_its_generation_give_the_same_lines(engine: FusionEngine) -> None:
    generation = engine.generate(REQUEST)
    streamed = list(json_lines(generation.segments, engine=engine, request=REQUEST))
    assert list(json_lines(generation, engine=engine, request=REQUEST)) == streamed
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in streamed)


def test_the_first_line_tells_the_request_and_comes_before_any_model_runs(
    engine: FusionEngine,
) -> None:
    lines = json_lines(engine.stream(REQUEST), engine=engine, request=REQUEST)
    first = json.loads(next(lines))
    assert first["type"] == "request"
    assert first["models"] == ["reader", "reckoner"]
    assert first["config"]["segment_tokens"] == 4
    assert first["config"]["score_mode"] == "prob"
    assert first["messages"][0]["content"] == "How many lamps?"
    assert first["stop"] == ["###"]
    assert first["sampling"]["seed"] == 3
    assert first["max_new_tokens"] == 40
    assert engine.backends[0].sessions[0].cost.forward_passes == 0  # type: ignore[attr-defined]


def test_each_round_is_written_as_soon_as_it_is_played(engine: FusionEngine) -> None:
    lines = json_lines(engine.stream(REQUEST), engine=engine, request=REQUEST)
    rounds = parsed(islice(lines, 1, 3))
    assert [record["index"] for record in rounds] == [1, 2]
    session = engine.backends[0].sessions[0]  # type: ignore[attr-defined]
    assert len(session.commits) == 1


def test_the_records_hold_what_the_rounds_hold(engine: FusionEngine) -> None:
    generation = engine.generate(REQUEST)
    _, *rounds, end = parsed(json_lines(generation, engine=engine, request=REQUEST))
    assert len(rounds) == len(generation.rounds) > 1
    for record, played in zip(rounds, generation.rounds, strict=True):
        assert record["type"] == "round"
        assert record["author"] == played.author
        assert record["winner"] == played.winner
        assert [c["model"] for c in record["candidates"]] == list(played.drafters)  # type: ignore[attr-defined]
        assert [c["vote"] for c in record["candidates"]] == list(played.votes)  # type: ignore[attr-defined]
        assert record["scores"] == {
            name: list(row) for name, row in zip(played.verifiers, played.scores, strict=True)
        }
        assert sum(record["weights"].values()) == pytest.approx(1)  # type: ignore[attr-defined]
    assert "".join(record["text"] for record in rounds) == generation.text  # type: ignore[misc]
    assert end["text"] == generation.text
    assert end["finish_reason"] == "stop"
    assert end["usage"]["seed"] == 3  # type: ignore[index]
    assert end["usage"]["models_per_round"] == 2  # type: ignore[index]
    assert [model["name"] for model in end["usage"]["models"]] == ["reader", "reckoner"]  # type: ignore[index]


def test_the_emitted_text_differs_from_the_candidate_where_a_stop_string_cut_it(
    engine: FusionEngine,
) -> None:
    generation = engine.generate(REQUEST, stop=" lamps")
    last = [record for record in records(generation.segments) if record["type"] == "round"][-1]
    assert " lamps" not in last["text"]
    assert " lamps" in last["candidates"][last["winner"]]["text"]


def test_lines_are_ascii_and_void_scores_are_null() -> None:
    def broken(response: str, candidate: object) -> list[float]:
        return [float("nan")]

    engine = FusionEngine(
        [
            ScriptedBackend("a", "caf\u00e9 \x1b[31m \u202e"),
            ScriptedBackend("b", "x", scorer=broken),
        ]
    )
    lines = list(json_lines(engine.generate("?")))
    assert all(line.isascii() and "\x1b" not in line for line in lines)
    assert parsed(lines)[1]["scores"]["b"] == [None, None]  # type: ignore[index]


def test_a_stream_that_is_cut_off_has_no_end_record(engine: FusionEngine) -> None:
    segments = engine.generate(REQUEST).segments[:1]
    assert [record["type"] for record in records(segments)] == ["request", "round"]


def test_candidate_rows_mark_the_winner_and_who_leaves() -> None:
    backends = [
        ScriptedBackend("good", "one two three four five six seven eight nine ten."),
        ScriptedBackend("bad", "a b c d e f g h i j k l m n o p q r s t", confidence=0.05),
    ]
    config = FusionConfig(method="specfuse", segment_tokens=2, exit_warmup=1, exit_temperature=0.05)
    generation = FusionEngine(backends, config).generate("?")
    rows = list(candidate_rows(generation.rounds))
    assert sum(row.won for row in rows) == len(generation.rounds)
    assert [row.model for row in rows if row.exited] == ["bad"]
    left = next(row.round for row in rows if row.exited)
    assert all(row.model == "good" for row in rows if row.round > left)
    assert rows[0].text == "one"
    assert set(rows[0].scores) == {"good", "bad"}
    assert rows[0].weight == 0.5
    assert [(row.name, row.exited) for row in model_rows(generation.usage)] == [
        ("good", None),
        ("bad", left),
    ]


def test_candidate_rows_and_the_screen_mark_who_returns() -> None:
    def sure_of(name: str, script: str, **known: float) -> ScriptedBackend:
        return ScriptedBackend(
            name, script, scorer=lambda _, candidate: [known[candidate.text.strip()]]
        )

    backends = [
        sure_of("first", "x x q q", x=0.8, y=0.3, q=0.05, p=0.01),
        sure_of("second", "p p y y", x=0.7, y=0.9, q=0.02, p=0.02),
    ]
    config = FusionConfig(
        method="specfuse", segment_tokens=1, exit_warmup=0, exit_temperature=0.2, exit_recall=0.1
    )
    rounds = FusionEngine(backends, config).generate("?", max_new_tokens=4).rounds
    rows = list(candidate_rows(rounds))
    assert [(row.round, row.model) for row in rows if row.exited] == [(1, "second"), (3, "first")]
    assert [(row.round, row.model) for row in rows if row.recalled] == [(3, "second")]
    shown = io.StringIO()
    Screen(shown).rounds(rounds)
    for mark in ("second (leaves)", "first (leaves)", "second (returns)"):
        assert shown.getvalue().count(mark) == 1


def test_a_drafter_that_does_not_verify_has_no_weight(engine: FusionEngine) -> None:
    judged = FusionEngine(engine.backends, drafters=["reader"], verifiers=["reckoner"])
    row = next(candidate_rows(judged.generate("?").rounds))
    assert row.weight is None
    assert set(row.scores) == {"reckoner"}


def test_model_rows_share_out_all_characters(engine: FusionEngine) -> None:
    rows = model_rows(engine.generate(REQUEST).usage)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert all(row.drafted_tokens and row.forward_passes for row in rows)


def test_an_empty_answer_has_no_shares() -> None:
    engine = FusionEngine([ScriptedBackend("mute", "")])
    assert [row.share for row in model_rows(engine.generate("?").usage)] == [0.0]


def test_calls_and_forced_text_are_told_too() -> None:
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    fused = FusionEngine([ScriptedBackend("clerk", f"<think>Well.</think>So.\n{call}")])
    tools = [{"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}}}]
    request = Request.of("Hello", tools=tools, seed=1)
    told = parsed(json_lines(fused.stream(request), engine=fused, request=request))
    assert told[0]["tools"][0]["function"]["name"] == "add"  # type: ignore[index]
    assert (told[-1]["text"], told[-1]["reasoning"]) == ("So.", "Well.")
    assert told[-1]["tool_calls"][0]["arguments"] == {"a": 1}  # type: ignore[index]
    shown = "".join(str(record.get("text")) for record in told[1:-1])
    assert shown == 'Well.So.{"a": 1}'
    forced = Request.of("Hello", constraint=Choice(["only this"]), reasoning=False, seed=1)
    assert [record["type"] for record in parsed(json_lines(fused.stream(forced)))] == [
        "request",
        "segment",
        "end",
    ]
