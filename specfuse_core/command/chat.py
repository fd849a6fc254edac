"""An interactive chat: its history, its slash commands and its loop.

This module knows nothing of options or exit codes.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from specfuse_core.command.console import Screen
from specfuse_core.command.options import with_context
from specfuse_core.errors import FusionError
from specfuse_core.fusion import FusionEngine
from specfuse_core.request import Message
from specfuse_core.types import Generation

__all__ = ["Chat", "keyboard"]


class Chat:
    """A chat with the ensemble.

    Args:
        engine: the engine that answers.
        screen: shows the answers.
        options: ``max_new_tokens``, ``stop`` and other options of ``FusionEngine.stream``.
        system: the system message, if any.
        context: text put before the first question.
        trace: show the rounds after each answer.
    """

    def __init__(
        self,
        engine: FusionEngine,
        screen: Screen,
        options: Mapping[str, Any] | None = None,
        *,
        system: str = "",
        context: str = "",
        trace: bool = False,
    ) -> None:
        self.history: list[Message] = []
        self.system = system
        self._engine = engine
        self._screen = screen
        self._options = dict(options or {})
        self._context = context
        self._trace = trace
        self._last: tuple[Generation, float] | None = None
        self._saved: set[Path] = set()

    def loop(self, read: Callable[[], str], complain: Callable[[Exception], None]) -> None:
        """Answer lines from ``read`` until it raises EOFError or a line is ``/exit``.

        ``complain`` reports errors. An error does not end the chat or change its history.
        """
        while True:
            try:
                line = read()
            except EOFError:
                if self._screen.terminal:
                    self._screen.write("\n")
                return
            except KeyboardInterrupt:
                self._screen.write("\n")
                self._screen.note("Ctrl-D or /exit leaves the chat.")
                continue
            try:
                if line.startswith("/"):
                    if not self.command(line):
                        return
                elif line.strip():
                    self.ask(line)
            except (FusionError, OSError) as error:
                if isinstance(error, BrokenPipeError):
                    raise
                complain(error)

    @property
    def messages(self) -> list[Message]:
        """The conversation so far, with the system message first."""
        return ([Message("system", self.system)] if self.system else []) + self.history

    def ask(self, question: str) -> None:
        """Show the answer to a question while it is generated, and add both to the history.

        If there is no text of an answer, the question is not added.
        """
        turn = Message("user", question if self.history else with_context(self._context, question))
        cancel = threading.Event()
        started = time.perf_counter()
        stream = self._engine.stream([*self.messages, turn], cancel=cancel, **self._options)
        shown = self._screen.answer(stream, cancel)
        seconds = time.perf_counter() - started
        text = "".join(segment.text for segment in shown if segment.channel == "text")
        if cancel.is_set() and not text:
            self._screen.note("Stopped before the first word; the question is not kept.")
            return
        self.history += [turn, Message("assistant", text)]
        if not shown or shown[-1].finish_reason is None:
            self._last = None
            self._screen.note("Stopped; what was written so far stays in the chat.")
            return
        self._last = (Generation.of(shown), seconds)
        if self._trace:
            self._show_trace()
        elif self._screen.terminal:
            self._screen.note(self._screen.totals(*self._last))

    def command(self, line: str) -> bool:
        """Run a slash command. Returns False if it ends the chat."""
        name, _, argument = line.strip().partition(" ")
        if name in ("/exit", "/quit"):
            return False
        commands: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/reset": self._reset,
            "/system": self._set_system,
            "/models": self._show_models,
            "/trace": self._show_trace,
            "/save": self._save,
        }
        if name in commands:
            commands[name](argument.strip())
        else:
            self._screen.note(
                f"There is no command {name}; /help lists them. A space before it sends it as text."
            )
        return True

    def _help(self, argument: str = "") -> None:
        for line in _HELP:
            self._screen.note(line, "")

    def _reset(self, argument: str = "") -> None:
        self.history.clear()
        self._last = None
        self._screen.note("The chat starts over; the system message stays.")

    def _set_system(self, argument: str = "") -> None:
        self.system = argument
        self._screen.note("System message set." if argument else "System message removed.")

    def _show_models(self, argument: str = "") -> None:
        self._screen.models(self._engine)

    def _show_trace(self, argument: str = "") -> None:
        if self._last is None:
            self._screen.note("There is no complete answer to show yet.")
            return
        generation, seconds = self._last
        self._screen.rounds(generation.rounds)
        self._screen.summary(generation, seconds)

    def _save(self, argument: str = "") -> None:
        if not argument:
            self._screen.note("Give the name of a file: /save FILE")
            return
        path = Path(argument).expanduser()
        turns = [{"role": turn.role, "content": turn.content} for turn in self.messages]
        # A file that this chat did not write is not overwritten.
        with path.open("w" if path.resolve() in self._saved else "x", encoding="utf-8") as file:
            json.dump(turns, file, indent=1, ensure_ascii=False)
            file.write("\n")
        self._saved.add(path.resolve())
        self._screen.note(f"{len(turns)} messages saved in {path}.")


def keyboard(prompt: str) -> Callable[[], str]:
    """Read a line from the keyboard, with editing and recall if the system supports them."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return input
    with suppress(ImportError):
        import readline  # noqa: F401  (input() uses it once it is imported)
    return lambda: input(prompt)


_HELP = (
    "/help          this list",
    "/reset         start over; the system message stays",
    "/system TEXT   set the system message; without TEXT, remove it",
    "/models        the base models",
    "/trace         the rounds of the last answer, and what they cost",
    "/save FILE     write the conversation to a JSON file",
    "/exit          leave (so does Ctrl-D)",
    "Ctrl-C         stop the answer; what was written stays in the chat",
)
