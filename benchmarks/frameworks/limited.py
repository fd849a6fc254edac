"""Calls in another process, each under a time limit: what hangs or dies fails, and no more.

This module knows nothing of what is called.
"""

from __future__ import annotations

import multiprocessing
import os
import textwrap
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

__all__ = ["Limited"]

_START_SECONDS = 300.0  # to import what the function needs, on a busy machine
_LONGEST = 160  # of what is told of an error


class Limited:
    """A function whose calls run in one other process, which is replaced when a call ends it.

    What is printed there is not shown.

    Args:
        function: picklable, as its arguments are; what it returns is dropped.
        seconds: wall time that a call may take; to start a process is not counted.
    """

    def __init__(self, function: Callable[..., object], seconds: float) -> None:
        self._function = function
        self._seconds = seconds
        self._worker: tuple[BaseProcess, Connection] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def why_not(self, *arguments: Any) -> str | None:
        """Call the function; in a line, why the call failed, or None if it did not."""
        process, connection = self._started()
        try:
            connection.send(arguments)
            if not connection.poll(self._seconds):
                self._end()
                return f"took longer than {self._seconds:g} s"
            told: str | None = connection.recv()
        except (EOFError, OSError):
            self._end()
            return f"its process ended, exit code {process.exitcode}"
        return told

    def _started(self) -> tuple[BaseProcess, Connection]:
        if self._worker is None:
            # Spawned, since a forked process shares locks with whatever else runs here.
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(self._function, theirs), daemon=True)
            process.start()
            theirs.close()
            self._worker = process, ours
            try:
                if not ours.poll(_START_SECONDS):
                    raise EOFError
                ours.recv()
            except EOFError as error:
                self._end()
                raise RuntimeError(
                    "the other process did not start; call the function here to see why."
                ) from error
        return self._worker

    def _end(self) -> None:
        if self._worker is not None:
            process, connection = self._worker
            self._worker = None
            process.kill()  # a hanging thread does not heed anything gentler
            process.join()
            connection.close()


def _serve(function: Callable[..., object], connection: Connection) -> None:
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    connection.send(None)
    while True:
        try:
            arguments = connection.recv()
        except EOFError:
            return
        try:
            function(*arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # what ends an asyncio task is no Exception
            connection.send(_line(error))
        else:
            connection.send(None)


def _line(error: BaseException) -> str:
    first = str(error).strip().partition("\n")[0].strip()
    told = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return textwrap.shorten(told, _LONGEST, placeholder=" ...")
