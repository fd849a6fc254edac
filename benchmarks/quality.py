"""Measures exact match of single models and ensembles, on questions that no model was trained on.

Run: ``python -m benchmarks.quality``. ``--quick`` asks 60 questions per task instead of 300.

    python -m benchmarks.quality            # the table of the documentation
    python -m benchmarks.quality --sweep    # settings, to choose the defaults
    python -m benchmarks.quality --models DIR DIR --against specfuse-no-exit    # model exit
    python -m benchmarks.quality --rows specem specem:learning_rate=2.0,segment_tokens=8

Decoding is greedy except in the self-ensemble, which consists of copies of the best single model
(as many as there are models) and samples with the temperature 0.6 and top_p 0.9 of the papers. The
best single model is chosen per task on the questions of the run, which favours this baseline. The
row complete-response drafts whole answers and votes once.

Accuracies have 95 % Wilson intervals. Models per round is the mean number of base models that
drafted or verified, over all rounds of all answers. The time to the first segment is compared per
question, in one process and one after the other. The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import track

from benchmarks.evaluation.answers import (
    Answer,
    Ask,
    FailedAnswerError,
    Job,
    Question,
    draw,
    engine_over,
    workers,
)
from benchmarks.evaluation.results import Results, report
from benchmarks.evaluation.rows import LISTS, Row, select, single_rows
from specfuse_core.bundled import bundled_models
from specfuse_core.errors import FusionError
from training.recipe import TASKS
from training.splits import Split

__all__ = ["main", "measure"]

_DESCRIPTION = __doc__.splitlines()[0]


def measure(rows: Sequence[Row], questions: Sequence[Question], ask: Ask) -> Results:
    """Let every row answer every question.

    All rows answer a question before the next one, so that other load on the machine affects all
    rows in the same way.
    """
    tasks = tuple(dict.fromkeys(question.task for question in questions))
    found: dict[str, list[Answer]] = {}

    def put(jobs: Sequence[Job], together: int) -> None:
        for answer in ask(jobs, together):
            found.setdefault(answer.row, []).append(answer)

    # The best single model must be known before copies of it can answer.
    best: dict[str, str] = {}
    if any(row.of_best for row in rows):
        alone = single_rows(next(row.models for row in rows if row.of_best))
        put([Job(row, question) for question in questions for row in alone], len(alone))
        best = {task: _best(found, task) for task in tasks}
    rest = [row for row in rows if row.name not in found]
    if rest:
        jobs = [
            Job(row.of(best[question.task]) if row.of_best else row, question)
            for question in questions
            for row in rest
        ]
        put(jobs, len(rest))
    return Results(tasks, {row.name: tuple(found[row.name]) for row in rows}, best)


def _best(found: Mapping[str, Sequence[Answer]], task: str) -> str:
    """Return the row with the most correct answers to a task; the earlier one of equals."""
    return max(found, key=lambda row: sum(a.right for a in found[row] if a.task == task))


def _shown(ask: Ask) -> Ask:
    """Add a progress bar on standard error to ``ask``, if it is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return ask
    return lambda jobs, together: track(
        ask(jobs, together), "answering", len(jobs), console=console, transient=True
    )


def _kept(ask: Ask, file: TextIO) -> Ask:
    """Make ``ask`` also write each answer to ``file``, as a line of JSON."""

    def keep(jobs: Sequence[Job], together: int) -> Iterable[Answer]:
        for answer in ask(jobs, together):
            file.write(json.dumps(asdict(answer)) + "\n")
            yield answer

    return keep


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=_DESCRIPTION)
    parser.add_argument("--quick", action="store_true", help="ask 60 questions per task")
    parser.add_argument(
        "--sweep", action="store_true", help="compare settings on the validation split"
    )
    parser.add_argument(
        "--models",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="models to add to the bundled ones",
    )
    parser.add_argument(
        "--rows", nargs="+", metavar="ROW", help="rows to measure: names, or specem:option=value"
    )
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--split", choices=["test", "validation"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument(
        "--questions", type=_positive, help="number of questions per task, over all seeds"
    )
    parser.add_argument("--jobs", type=_positive, default=2, help="number of worker processes")
    parser.add_argument("--against", metavar="ROW", help="also show the difference to this row")
    parser.add_argument(
        "--answers", type=Path, metavar="FILE", help="write all answers to this file"
    )
    given = parser.parse_args(arguments)
    given.seeds = list(dict.fromkeys(given.seeds))
    given.tasks = list(dict.fromkeys(given.tasks))
    given.split = Split(given.split or ("validation" if given.sweep else "test"))
    given.questions = given.questions or (60 if given.quick else 300)
    if given.questions % len(given.seeds):
        parser.error(f"--questions must be a multiple of the {len(given.seeds)} seeds")
    given.models = [(path.name, path) for path in (*bundled_models(), *_full(given.models))]
    names = [name for name, _ in given.models]
    kind = "sweep" if given.sweep else "exit" if len(names) > len(bundled_models()) else "report"
    try:
        engine_over(given.models)
        given.rows = select(given.rows, names) if given.rows else LISTS[kind](names)
    except FusionError as error:
        parser.error(str(error))
    if given.against not in (None, *(row.name for row in given.rows)):
        parser.error(f"--against: this run has no row {given.against!r}")
    return given


def _full(paths: Iterable[Path]) -> Iterable[Path]:
    return (path.expanduser().resolve() for path in paths)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    given: Any = _arguments(arguments)
    questions = draw(given.tasks, given.split, given.seeds, given.questions // len(given.seeds))
    with ExitStack() as opened:
        ask = _shown(opened.enter_context(workers(given.models, given.jobs)))
        if given.answers:
            ask = _kept(ask, opened.enter_context(given.answers.open("w", encoding="utf-8")))
        try:
            results = measure(given.rows, questions, ask)
        except FailedAnswerError as error:
            raise SystemExit(f"stopped: {error}") from error
    print(f"{given.questions} {given.split} questions per task, seeds {given.seeds}\n")
    for line in report(results, given.against):
        print(line)
    print(json.dumps(results.record()))


if __name__ == "__main__":
    main()
