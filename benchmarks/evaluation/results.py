"""Summarizes answers as proportions with intervals, and prints them as Markdown tables.

This module knows nothing of engines or of how answers are generated.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.evaluation.answers import Answer
from benchmarks.evaluation.intervals import Interval, paired, wilson

__all__ = ["Cell", "Results", "report"]

Show = Callable[[str, str | None], str]  # (row, task or None for all) -> text of a table cell


@dataclass(frozen=True, slots=True)
class Cell:
    """The answers of one row to some questions, in the order of the questions."""

    answers: tuple[Answer, ...]

    @property
    def accuracy(self) -> Interval:
        return wilson(sum(answer.right for answer in self.answers), len(self.answers))

    @property
    def models_per_round(self) -> float:
        rounds = sum(answer.rounds for answer in self.answers)
        return sum(answer.activity for answer in self.answers) / rounds

    @property
    def by_seed(self) -> list[float]:
        """The accuracy on the questions of each seed."""
        seeds = dict.fromkeys(answer.seed for answer in self.answers)
        return [
            statistics.fmean(answer.right for answer in self.answers if answer.seed == seed)
            for seed in seeds
        ]

    def gain_over(self, other: Cell) -> Interval:
        """Return the difference of the accuracies of this cell and ``other``."""
        pairs = list(zip(self.answers, other.answers, strict=True))
        gained = sum(ours.right and not theirs.right for ours, theirs in pairs)
        lost = sum(theirs.right and not ours.right for ours, theirs in pairs)
        return paired(gained, lost, len(pairs))

    def record(self) -> dict[str, float]:
        accuracy = self.accuracy
        return {
            "accuracy": round(accuracy.value, 4),
            "low": round(accuracy.low, 4),
            "high": round(accuracy.high, 4),
            "n": len(self.answers),
            "models_per_round": round(self.models_per_round, 3),
        }


@dataclass(frozen=True, slots=True)
class Results:
    """All answers of a run.

    Args:
        tasks: names of the tasks.
        rows: the answers by row.
        best: the best single model by task, if a row needs it.
    """

    tasks: tuple[str, ...]
    rows: dict[str, tuple[Answer, ...]]
    best: dict[str, str]

    def cell(self, row: str, task: str | None = None) -> Cell:
        """Return the answers of a row to one task, or to all tasks if ``task`` is None."""
        return Cell(tuple(a for a in self.rows[row] if task is None or a.task == task))

    def record(self) -> dict[str, dict[str, dict[str, float]]]:
        return {t: {row: self.cell(row, t).record() for row in self.rows} for t in self.tasks}


def report(results: Results, against: str | None = None) -> Iterator[str]:
    """Yield the lines of the report: tables and summaries.

    Args:
        results: the results of all rows.
        against: name of the row to compare the others with; None for no comparison.
    """

    def accuracy(row: str, task: str | None) -> str:
        cell = results.cell(row, task)
        return f"{_percent(cell.accuracy)}, {cell.models_per_round:.2f}"

    def seeds(row: str, task: str | None) -> str:
        shares = results.cell(row, task).by_seed
        return f"{100 * min(shares):.1f} to {100 * max(shares):.1f}"

    yield "Accuracy in percent (95 % Wilson interval), base models per round:\n"
    yield from _table(results, accuracy)
    yield "\nLowest and highest accuracy of the seeds, in percent:\n"
    yield from _table(results, seeds)
    if against is not None:
        baseline = against

        def gain(row: str, task: str | None) -> str:
            cell = results.cell(row, task)
            return _percent(cell.gain_over(results.cell(baseline, task)), "+.1f")

        yield f"\nDifference to {against} on the same questions, in points (95 % interval):\n"
        yield from _table(results, gain)
    calls = {row: sum(answer.invalid_calls for answer in results.rows[row]) for row in results.rows}
    if any(calls.values()):
        yield "\nTool calls that are cut off or that no tool of the question accepts:"
        yield ", ".join(f"{row} {count}" for row, count in calls.items())
    if results.best:
        best = ", ".join(f"{model} for {task}" for task, model in results.best.items())
        yield f"\nBest single model, which the self-ensemble copies: {best}."
    if {"specfuse", "complete-response"} <= set(results.rows):
        by_task = ", ".join(f"{task} {_latency(results, task):.3f}" for task in results.tasks)
        yield "\nTime to the first segment, specfuse / complete-response, median over questions:"
        yield f"{_latency(results, None):.3f} ({by_task})"


def _table(results: Results, show: Show) -> Iterator[str]:
    columns: list[str | None] = [*results.tasks]
    if len(columns) > 1:
        columns.append(None)
    yield f"| row | {' | '.join(task or 'all' for task in columns)} |"
    yield "|---|" + "---|" * len(columns)
    for row in results.rows:
        yield f"| {row} | {' | '.join(show(row, task) for task in columns)} |"


def _percent(interval: Interval, form: str = ".1f") -> str:
    value, low, high = (
        format(100 * share, form) for share in (interval.value, interval.low, interval.high)
    )
    return f"{value} ({low} to {high})"


def _latency(results: Results, task: str | None) -> float:
    pairs = zip(
        results.cell("specfuse", task).answers,
        results.cell("complete-response", task).answers,
        strict=True,
    )
    return statistics.median(ours.first_seconds / theirs.first_seconds for ours, theirs in pairs)
