"""Answers generated questions in worker processes. A job is one question for one row.

An answer depends on its job only, so that the number of workers does not change results. This
module knows nothing of tables.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch

from benchmarks.evaluation.calls import invalid_calls, take_tools, written
from benchmarks.evaluation.rows import MAX_NEW_TOKENS, Row, copies
from specfuse_core import FusionEngine, Generation, ModelConfig
from training.evaluate import draw_questions
from training.sample import Sample, is_right
from training.splits import Split

__all__ = [
    "Answer",
    "Ask",
    "FailedAnswerError",
    "Job",
    "Question",
    "answer",
    "draw",
    "engine_over",
    "workers",
]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, with its correct answer.

    Args:
        task: name of the task.
        seed: seed that the question was drawn with.
        index: position among the questions of the task and the seed.
        sample: the prompt and the correct answer.
    """

    task: str
    seed: int
    index: int
    sample: Sample


@dataclass(frozen=True, slots=True)
class Job:
    """One question for one row."""

    row: Row
    question: Question


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a job.

    Args:
        row: name of the row.
        task: name of the task.
        seed: seed of the question.
        index: index of the question.
        expected: the correct answer.
        text: the generated answer.
        right: whether the generated answer is equivalent to the correct one.
        rounds: number of rounds.
        activity: number of active base models, summed over the rounds.
        first_seconds: wall time to the first segment, in seconds.
        seconds: wall time of the answer, in seconds.
        invalid_calls: number of tool calls that are cut off or that no tool accepts.
    """

    row: str
    task: str
    seed: int
    index: int
    expected: str
    text: str
    right: bool
    rounds: int
    activity: int
    first_seconds: float
    seconds: float
    invalid_calls: int = 0


class FailedAnswerError(RuntimeError):
    """Raised if a question could not be answered. The message names the question."""


#: Yields answers in the order of the jobs. The number is how many successive jobs a worker gets.
Ask = Callable[[Sequence[Job], int], Iterable[Answer]]


def draw(tasks: Sequence[str], split: Split, seeds: Sequence[int], count: int) -> list[Question]:
    """Draw ``count`` questions of each task and seed."""
    return [
        Question(task, seed, index, sample)
        for task in tasks
        for seed in seeds
        for index, sample in enumerate(draw_questions(task, split, count, seed=seed))
    ]


def engine_over(models: Sequence[tuple[str, Path]]) -> FusionEngine:
    """Create an engine over all models and their copies. Copies share their weights."""
    configs = [
        ModelConfig(path=str(path), name=copy, device="cpu")
        for name, path in models
        for copy in copies(name, len(models))
    ]
    return FusionEngine.from_pretrained(configs, progress=False)


def answer(engine: FusionEngine, job: Job) -> Answer:
    """Let the job's row answer the job's question.

    Raises:
        FailedAnswerError: if any error occurs.
    """
    row, question = job.row, job.question
    try:
        fused = engine.subset(row.models).with_config(row.config)
        fused.warm_up()
        bare, tools = take_tools(question.sample.prompt)
        turns = bare if row.constrained else question.sample.prompt
        started = time.perf_counter()
        stream = fused.stream(
            [turn.as_dict() for turn in turns],
            max_new_tokens=MAX_NEW_TOKENS,
            tools=tools if row.constrained else (),
            sampling=row.sampling.replace(seed=question.seed * 100_000 + question.index),
        )
        segments = [next(stream)]
        first = time.perf_counter()
        segments += stream
        ended = time.perf_counter()
        generation = Generation.of(segments)
    except Exception as error:
        raise FailedAnswerError(
            f"{row.name} on question {question.index} of {question.task}, seed {question.seed}: "
            f"{type(error).__name__}: {error}"
        ) from error
    text = written(generation)
    return Answer(
        row=row.name,
        task=question.task,
        seed=question.seed,
        index=question.index,
        expected=question.sample.answer,
        text=text,
        right=is_right(text, question.sample.answer),
        rounds=len(generation.rounds),
        activity=sum(len({*r.drafters, *r.verifiers}) for r in generation.rounds),
        first_seconds=first - started,
        seconds=ended - started,
        invalid_calls=invalid_calls(text, tools) + len(generation.invalid_tool_calls),
    )


@contextmanager
def workers(models: Sequence[tuple[str, Path]], count: int) -> Iterator[Ask]:
    """Start ``count`` processes with one torch thread each, or use this process if it is one."""
    work = partial(_answer, tuple(models))
    if count == 1:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield lambda jobs, together: map(work, jobs)
        finally:
            torch.set_num_threads(before)
        return
    # Spawned, because a forked process inherits locks that other threads hold.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, torch.set_num_threads, (1,)) as pool:
        yield lambda jobs, together: pool.map(work, jobs, chunksize=together)


def _answer(models: tuple[tuple[str, Path], ...], job: Job) -> Answer:
    return answer(_engine(models), job)


@cache
def _engine(models: tuple[tuple[str, Path], ...]) -> FusionEngine:
    return engine_over(models)
