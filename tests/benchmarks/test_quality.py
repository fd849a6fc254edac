"""The quality benchmark: its intervals, its rows and its measurements."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks import quality
from benchmarks.evaluation.answers import (
    Answer,
    FailedAnswerError,
    Job,
    answer,
    draw,
    workers,
)
from benchmarks.evaluation.intervals import paired, wilson
from benchmarks.evaluation.results import report
from benchmarks.evaluation.rows import (
    LISTS,
    MAX_NEW_TOKENS,
    Row,
    copies,
    select,
    single_rows,
    sweep_rows,
)
from benchmarks.quality import measure
from specfuse_core import FusionConfig, FusionEngine, Request
from specfuse_core.bundled import bundled_models
from specfuse_core.errors import ConfigError
from specfuse_core.testing import ScriptedBackend
from training.recipe import TASKS
from training.splits import Split

BUNDLED = [path.name for path in bundled_models()]
QUESTIONS = draw(["reading", "reckoning"], Split.VALIDATION, [1, 2], 2)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # Newcombe 1998, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_intervals_are_the_published_ones(
    right: int, count: int, low: float, high: float
) -> None:
    found = wilson(right, count)
    assert found.value == right / count
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_paired_intervals_are_those_of_agresti_and_min() -> None:
    found = paired(10, 4, 100)
    assert (found.value, found.low, found.high) == pytest.approx((0.06, -0.0147, 0.1324), abs=5e-5)
    mirrored = paired(4, 10, 100)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    assert paired(0, 0, 300).low < 0 < paired(0, 0, 300).high


@pytest.mark.parametrize("counts", [(3, 2), (-1, 2), (0, 0)])
def test_a_share_of_nothing_has_no_interval(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="is not a proportion"):
        wilson(*counts)
    with pytest.raises(ValueError, match="impossible"):
        paired(counts[0], 0, counts[1])


@pytest.mark.parametrize("rows", LISTS.values(), ids=LISTS)
def test_the_rows_of_a_list_have_names_of_their_own_and_differ(
    rows: Callable[[Sequence[str]], list[Row]],
) -> None:
    listed = rows(["a", "b"])
    assert len({row.name for row in listed}) == len(listed)
    told = [{**asdict(row), "name": "", "config": row.config.model_dump()} for row in listed]
    assert all(told.count(one) == 1 for one in told)
    assert {"specfuse", "specfuse-no-exit"} <= {row.name for row in listed}


def test_rows_are_selected_by_name_in_the_order_given() -> None:
    rows = select(["specem", "b", "complete-response", "specem"], ["a", "b"])
    assert [row.name for row in rows] == ["specem", "b", "complete-response"]
    assert [row.models for row in rows] == [("a", "b"), ("b",), ("a", "b")]


def test_any_setting_is_a_row() -> None:
    (row,) = select(["specem:learning_rate=3,segment_tokens=7,online_feedback=False"], ["a", "b"])
    wanted = FusionConfig(method="specem", learning_rate=3, segment_tokens=7, online_feedback=False)
    assert row.config.model_dump() == wanted.model_dump()
    listed = {row.name: row for row in sweep_rows(["a", "b"])}
    (again,) = select(["specem:learning_rate=2.0"], ["a", "b"])
    assert again == listed["specem:learning_rate=2.0"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("specfuze", "did you mean 'specfuse'"),
        ("nothing-like-it", "there are"),
        ("specem:", "no row is named"),
        ("other:segment_tokens=5", "no row is named"),
        ("specem:segment_token=5", "did you mean 'segment_tokens'"),
        ("specem:segment_tokens=zero", "segment_tokens"),
    ],
)
def test_a_bad_row_name_is_refused_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        select([name], ["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--rows", "specfuze"], "did you mean 'specfuse'"),
        (["--tasks", "singing"], "invalid choice: 'singing'"),
        (["--questions", "100"], "multiple of the 3 seeds"),
        (["--questions", "0"], "at least 1"),
        (["--models", "no/such/folder"], "no such directory"),
        (["--models", str(bundled_models()[0])], "two base models are named"),
        (["--rows", "specem", "--against", "specfuse"], "this run has no row 'specfuse'"),
    ],
)
def test_bad_options_are_told_before_anything_runs(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        quality.main(arguments)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


class Panel:
    """Models a and b without weights: a knows the answers of one task, b of the other."""

    def __init__(self) -> None:
        self.backends = [
            ScriptedBackend(copy, self._script(name, task), confidence=0.9 if name == "a" else 0.6)
            for name, task in (("a", "reading"), ("b", "reckoning"))
            for copy in copies(name, 2)
        ]
        self.engine = FusionEngine(self.backends)

    def ask(self, jobs: Sequence[Job], together: int) -> Iterator[Answer]:
        return (answer(self.engine, job) for job in jobs)

    def _script(self, name: str, task: str) -> Callable[[Request, str], str]:
        known = {
            question.sample.prompt[-1].content: question.sample.answer
            for question in QUESTIONS
            if question.task == task
        }

        def script(request: Request, response: str) -> str:
            wanted = known.get(request.messages[-1].content, f"It is for {name} to say I know not.")
            return wanted.removeprefix(response)

        return script


def rows_of(*names: str) -> list[Row]:
    return select(names, ["a", "b"])


def test_a_model_alone_is_right_where_it_knows() -> None:
    panel = Panel()
    results = measure(single_rows(["a", "b"]), QUESTIONS, panel.ask)
    found = results.record()
    assert found["reading"]["a"] == {
        "accuracy": 1.0,
        "low": round(wilson(4, 4).low, 4),
        "high": 1.0,
        "n": 4,
        "models_per_round": 1.0,
    }
    assert found["reckoning"]["a"]["accuracy"] == found["reading"]["b"]["accuracy"] == 0.0
    assert found["reckoning"]["b"]["accuracy"] == 1.0


def test_the_self_ensemble_is_copies_of_the_best_model_of_each_task() -> None:
    panel = Panel()
    # The models alone are asked even where their rows are not wanted.
    results = measure(rows_of("self-ensemble"), QUESTIONS, panel.ask)
    assert list(results.rows) == ["self-ensemble"]
    assert results.best == {"reading": "a", "reckoning": "b"}
    assert results.cell("self-ensemble").accuracy.value == 1.0
    assert results.cell("self-ensemble").models_per_round == 2.0
    # Each model alone on all, and its copy beside it on its own task.
    assert [len(backend.sessions) for backend in panel.backends] == [12, 4, 12, 4]
    assert "copies: a for reading, b for reckoning" in "\n".join(report(results))


def test_models_per_round_is_who_was_active_over_all_rounds() -> None:
    (row,) = rows_of("specfuse:segment_tokens=2,exit_warmup=0,exit_temperature=0.05")
    panel = Panel()
    results = measure([row], QUESTIONS, panel.ask)
    engine = panel.engine.subset(["a", "b"]).with_config(row.config)
    active = [
        len(played.drafters)
        for question in QUESTIONS
        for played in engine.generate(
            question.sample.prompt[-1].content, max_new_tokens=MAX_NEW_TOKENS
        ).rounds
    ]
    assert set(active) == {1, 2}
    assert results.cell(row.name).models_per_round == sum(active) / len(active)


def test_all_rows_of_a_question_are_asked_together() -> None:
    asked: list[list[Job]] = []

    def ask(jobs: Sequence[Job], together: int) -> Iterator[Answer]:
        asked.extend([*jobs[i : i + together]] for i in range(0, len(jobs), together))
        return Panel().ask(jobs, together)

    rows = rows_of("specfuse", "complete-response")
    results = measure(rows, QUESTIONS, ask)
    assert [[job.row.name for job in jobs] for jobs in asked] == [[row.name for row in rows]] * 8
    assert [jobs[0].question for jobs in asked] == QUESTIONS
    assert {one.rounds for one in results.rows["complete-response"]} == {1}


def test_an_answer_that_fails_ends_the_run_and_is_named() -> None:
    broken = ScriptedBackend("a", lambda request, response: 1 / 0)  # type: ignore[arg-type,return-value]
    engine = FusionEngine([broken])
    with pytest.raises(FailedAnswerError, match=r"^a on question 0 of reading, seed 1: ZeroDiv"):
        measure(
            single_rows(["a"]), QUESTIONS, lambda jobs, _: [answer(engine, job) for job in jobs]
        )


def test_the_report_compares_on_the_same_questions() -> None:
    results = measure(rows_of("a", "b", "specfuse"), QUESTIONS, Panel().ask)
    lines = list(report(results, against="a"))
    assert "| row | reading | reckoning | all |" in lines
    heading = next(i for i, line in enumerate(lines) if line.startswith("\nDifference to a on"))
    assert lines[heading + 3].startswith("| a | +0.0 (")
    assert lines[heading + 4].startswith("| b | -100.0 (")
    assert "+100.0 (" in lines[heading + 4]
    assert any(line.startswith("| a | 100.0 to 100.0 | 0.0 to 0.0 |") for line in lines)


def test_the_latency_is_a_median_over_the_questions() -> None:
    results = measure(rows_of("specfuse", "complete-response"), QUESTIONS, Panel().ask)
    ours = [
        replace(a, first_seconds=s)
        for a, s in zip(results.rows["specfuse"], [1, 1, 1, 9, 2, 2, 2, 9], strict=True)
    ]
    theirs = [replace(a, first_seconds=4) for a in results.rows["complete-response"]]
    rows = {"specfuse": tuple(ours), "complete-response": tuple(theirs)}
    *_, last = report(replace(results, rows=rows))
    assert last == "0.500 (reading 0.250, reckoning 0.500)"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, object]:
    quality.main(["--questions", "2", "--seeds", "1", *arguments])
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out, json.loads(printed.out.splitlines()[-1])


def test_the_last_line_has_the_form_that_was_promised(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = tmp_path / "answers.jsonl"
    rows = [BUNDLED[0], "specfuse"]
    out, record = run(capsys, "--jobs", "1", "--rows", *rows, "--answers", str(kept))
    assert isinstance(record, dict)
    assert list(record) == list(TASKS)
    for task in TASKS:
        assert list(record[task]) == rows
        for cell in record[task].values():
            assert list(cell) == ["accuracy", "low", "high", "n", "models_per_round"]
            assert 0 <= cell["low"] <= cell["accuracy"] <= cell["high"] <= 1
            assert cell["n"] == 2
        assert record[task][BUNDLED[0]]["models_per_round"] == 1.0
        assert 1.0 <= record[task]["specfuse"]["models_per_round"] <= len(BUNDLED)
    assert f"| row | {' | '.join(TASKS)} | all |" in out
    answers = [json.loads(line) for line in kept.read_text().splitlines()]
    assert len(answers) == len(TASKS) * 2 * len(rows)
    right = sum(one["right"] for one in answers if one["row"] == "specfuse")
    assert sum(2 * record[task]["specfuse"]["accuracy"] for task in TASKS) == right


def test_a_worker_process_answers_as_this_one_does() -> None:
    (question,) = draw([next(iter(TASKS))], Split.TEST, [1], 1)
    models = [(path.name, path) for path in bundled_models()]
    # One is drawn at random.
    rows = select(["self-ensemble", "specem"], BUNDLED)

    def texts(count: int) -> list[tuple[str, str, int]]:
        with workers(models, count) as ask:
            results = measure(rows, [question], ask)
        return [(a.row, a.text, a.rounds) for name in results.rows for a in results.rows[name]]

    assert texts(1) == texts(2)
