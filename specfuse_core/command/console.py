"""Shows an answer on a terminal, with colours and tables.

This module knows nothing of options or conversations. Text of models, files and users is never
read as markup, and its control characters never reach a terminal.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain, islice
from types import FrameType
from typing import NoReturn, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from specfuse_core.command.lines import Lines, one_line, printable
from specfuse_core.fusion import FusionEngine
from specfuse_core.trace import candidate_rows, model_rows
from specfuse_core.types import Generation, Round, Segment

__all__ = ["Screen", "stoppable"]

PALETTE = ("cyan", "magenta", "yellow", "green", "blue", "red")

_FINISHED = {
    "stop": "complete",
    "stop_sequence": "stop string",
    "length": "token limit",
    "context": "context full",
    "cancelled": "stopped",
}
_DOT, _WINNER, _ENDS, _NONE = "\u25cf", "\u25b6", "\u25a0", "\u2013"


@contextmanager
def stoppable(cancel: threading.Event) -> Iterator[None]:
    """Let Ctrl-C set ``cancel``, which ends an answer after its round. A second one interrupts."""

    def stop(number: int, frame: FrameType | None) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()

    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        # rich would exit the program here. The caller sets the exit code.
        raise BrokenPipeError


class Screen:
    """Writes answers to a terminal, or as plain text to another file.

    Args:
        file: the file, usually standard output.
        models: names of the base models, in ensemble order; each gets a colour.
    """

    def __init__(self, file: TextIO, models: Sequence[str] = ()) -> None:
        # Only a terminal gets colours, even if the environment forces them.
        self._console = _Console(
            file=file, force_terminal=file.isatty(), markup=False, highlight=False, emoji=False
        )
        self._models = tuple(models)
        self._open_line = False

    @property
    def terminal(self) -> bool:
        """Whether the file is a terminal."""
        return self._console.is_terminal

    def style(self, model: str | None) -> str:
        """Return the colour of a model; none if it is not in the ensemble."""
        if model not in self._models:
            return ""
        return PALETTE[self._models.index(model) % len(PALETTE)]

    def legend(self) -> None:
        """Show the names of the models, each in its colour."""
        line = Text()
        for name in self._models:
            line.append(f"{_DOT} ", self.style(name))
            line.append(f"{one_line(name)}  ", "dim")
        self._console.print(line)

    def answer(self, segments: Iterable[Segment], cancel: threading.Event) -> list[Segment]:
        """Show each segment at once, in the colour of its author. Reasoning is dimmed.

        If the file is not a terminal, only the text of the answer is written. Ctrl-C sets
        ``cancel``. A second Ctrl-C does not wait for the end of the round.

        Returns:
            The segments. If the answer was interrupted, the last one has no finish reason.
        """
        shown: list[Segment] = []
        stream, lines = iter(segments), Lines(self._console.width)
        try:
            with stoppable(cancel):
                with self.waiting("reading"):
                    first = list(islice(stream, 1))
                for segment in chain(first, stream):
                    shown.append(segment)
                    text = lines.feed(printable(segment.text)) if self.terminal else segment.text
                    if text and (self.terminal or segment.channel == "text"):
                        self.write(text, self._segment_style(segment))
        except KeyboardInterrupt:
            cancel.set()
        finally:
            self.end_line()
        return shown

    def _segment_style(self, segment: Segment) -> str:
        style = self.style(segment.author)
        return style if segment.channel == "text" else f"dim {style}".strip()

    def waiting(self, what: str) -> AbstractContextManager[object]:
        """Show a spinner on a terminal until there is other output."""
        return self._console.status(Text(what, "dim")) if self.terminal else nullcontext()

    def write(self, text: str, style: str = "") -> None:
        """Write ``text`` without a newline. On a terminal it is made printable and styled."""
        if self.terminal:
            self._console.out(printable(text), style=style or None, end="", highlight=False)
        else:
            self._console.file.write(text)
            self._console.file.flush()
        self._open_line = not text.endswith("\n")

    def end_line(self) -> None:
        """Write a newline, unless the last text ended with one."""
        if self._open_line:
            self.write("\n")
        self._open_line = False

    def note(self, text: str, style: str = "dim") -> None:
        """Write a line of the command itself."""
        self._console.print(Text(printable(text), style))

    def summary(self, generation: Generation, seconds: float) -> None:
        """Show what each model wrote, its cost, its method, and why the answer ended."""
        table = _table()
        table.add_column("model", overflow="fold", min_width=6)
        for heading in ("segments", "chars", "share", "drafted", "verified", "passes", "time"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("left", no_wrap=True)
        for row in model_rows(generation.usage):
            table.add_row(
                self._name(row.name),
                str(row.segments),
                str(row.characters),
                f"{row.share:.0%}",
                str(row.drafted_tokens),
                str(row.verified_tokens),
                str(row.forward_passes),
                f"{row.seconds:.2f} s",
                Text(_NONE, "dim") if row.exited is None else f"round {row.exited}",
            )
        self._console.print(table)
        self.note(self.totals(generation, seconds))
        users: dict[str, list[str]] = {}
        for model in generation.usage.models:
            if model.method is not None:
                users.setdefault(model.method, []).append(one_line(model.name))
        if users:
            shown = (f"{method}: {', '.join(names)}" for method, names in users.items())
            self.note("cache method " + " \u00b7 ".join(shown))

    def totals(self, generation: Generation, seconds: float) -> str:
        """Return the totals of an answer in one line."""
        usage = generation.usage
        rounds = len(generation.rounds)
        parts = (
            f"{rounds} round{'' if rounds == 1 else 's'} of {usage.models_per_round:.1f} models",
            f"{usage.prompt_tokens} + {usage.completion_tokens} tokens",
            f"{seconds:.2f} s",
            f"seed {usage.seed}",
            _FINISHED[generation.finish_reason],
        )
        return " \u00b7 ".join(parts)

    def rounds(self, rounds: Iterable[Round]) -> None:
        """Show every candidate of every round, with its vote and its scores."""
        rounds = list(rounds)
        rows = list(candidate_rows(rounds))
        verifiers = list(dict.fromkeys(name for row in rows for name in row.scores))
        weighted = any(len(set(played.weights)) > 1 for played in rounds)
        table = _table()
        table.add_column("round", justify="right", no_wrap=True)
        table.add_column("model", overflow="fold", min_width=6)
        table.add_column("candidate", overflow="fold", min_width=20, ratio=1)
        table.add_column("vote", justify="right", no_wrap=True)
        for name in verifiers:
            heading = Text(one_line(name), self.style(name))
            table.add_column(heading, justify="right", overflow="fold", min_width=5)
        if weighted:
            table.add_column("weight", justify="right", no_wrap=True)
        shown = 0
        for row in rows:
            style = self.style(row.model) if row.won else "dim"
            moves = " (returns)" * row.recalled + " (leaves)" * row.exited
            table.add_row(
                "" if row.round == shown else str(row.round),
                Text(f"{_WINNER if row.won else ' '} {one_line(row.model)}{moves}", style),
                Text(_quoted(row.text, row.ends), style),
                _number(row.vote),
                *(_number(row.scores.get(name)) for name in verifiers),
                *([_number(row.weight)] if weighted else []),
            )
            shown = row.round
        self._console.print(table)
        self.note(f"{_WINNER} emitted, {_ENDS} ends the answer; a column per model: its scores")

    def table(self, table: Table) -> None:
        """Show a table, and an empty line after it."""
        self._console.print(table)
        self._console.print()

    def models(self, engine: FusionEngine) -> None:
        """Show the base models, with their parts and context windows."""
        for backend in engine.backends:
            does = [
                what
                for what, who in (("drafts", engine.drafters), ("verifies", engine.verifiers))
                if backend.name in who
            ]
            line = Text(f"{_DOT} ", self.style(backend.name)).append(one_line(backend.name), "")
            line.append(f"  {' and '.join(does)}, {backend.context_window:,} tokens of context")
            self._console.print(line, soft_wrap=True)

    def _name(self, model: str) -> Text:
        return Text(one_line(model), self.style(model))


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="dim")


def _number(value: float | None) -> Text:
    return Text(_NONE, "dim") if value is None else Text(f"{value:.3f}")


def _quoted(text: str, ends: bool) -> str:
    """Return a candidate on one line, with a mark if it ends the answer."""
    shown = printable(text).replace("\n", "\u21b5").replace("\t", "\u21e5")
    return f"\u201c{shown}\u201d{f' {_ENDS}' if ends else ''}"
