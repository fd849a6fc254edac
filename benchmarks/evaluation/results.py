"""What was measured: shares with intervals, and tables of them in Markdown.

This module knows what an answer is, and nothing of how it came about.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.evaluation.answers import Answer
from benchmarks.evaluation.intervals import Interval, paired, wilson

__all__ = ["Cell", "Results", "report"]

Show = Callable[[str, str | None], str]  # (row, task or all) -> what the table says there


@dataclass(frozen=True, slots=True)
class Cell:
    """The answers of one row to some questions, in the questions' order."""

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
        """The difference to ``other`` on the same questions."""
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
    """All answers, by row; and which model alone was best at each task, where that mattered."""

    tasks: tuple[str, ...]
    rows: dict[str, tuple[Answer, ...]]
    best: dict[str, str]

    def cell(self, row: str, task: str | None = None) -> Cell:
        """The answers of a row to a task, or to all of them."""
        return Cell(tuple(a for a in self.rows[row] if task is None or a.task == task))

    def record(self) -> dict[str, dict[str, dict[str, float]]]:
        return {t: {row: self.cell(row, t).record() for row in self.rows} for t in self.tasks}


def report(results: Results, against: str | None = None) -> Iterator[str]:
    """Tables, and what else is worth a line.

    Args:
        results: of all rows.
        against: name of the row that the others are compared with.
    """

    def accuracy(row: str, task: str | None) -> str:
        cell = results.cell(row, task)
        return f"{_percent(cell.accuracy)}, {cell.models_per_round:.2f}"

    def seeds(row: str, task: str | None) -> str:
        shares = results.cell(row, task).by_seed
        return f"{100 * min(shares):.1f} to {100 * max(shares):.1f}"

    yield "Accuracy in percent (95 % Wilson interval), base models per round:\n"
    yield from _table(results, accuracy)
    yield "\nLowest and highest accuracy of a seed, in percent:\n"
    yield from _table(results, seeds)
    if against is not None:
        baseline = against

        def gain(row: str, task: str | None) -> str:
            cell = results.cell(row, task)
            return _percent(cell.gain_over(results.cell(baseline, task)), "+.1f")

        yield f"\nPoints over {against} on the same questions (95 % interval):\n"
        yield from _table(results, gain)
    calls = {row: sum(answer.invalid_calls for answer in results.rows[row]) for row in results.rows}
    if any(calls.values()):
        yield "\nCalls that are cut off, or that no tool of the question could take:"
        yield ", ".join(f"{row} {count}" for row, count in calls.items())
    if results.best:
        best = ", ".join(f"{model} for {task}" for task, model in results.best.items())
        yield f"\nBest model alone, which the self-ensemble copies: {best}."
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
