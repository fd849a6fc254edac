"""Calls a function in another process with a time limit, so that a call may hang or crash.

This module knows nothing of the function.
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

_START_SECONDS = 300.0  # time limit for starting a process, with its imports
_LONGEST = 160  # maximum length of an error message


class Limited:
    """Runs calls of a function in another process, and replaces the process if a call ends it.

    The output of the process is not shown.

    Args:
        function: a picklable function. Its return value is dropped.
        seconds: time limit of a call, in seconds of wall time, without starting the process.
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
        """Call the function.

        Args:
            arguments: picklable arguments of the function.

        Returns:
            The error in one line; None if the call succeeded.
        """
        process, connection = self._started()
        try:
            connection.send(arguments)
            if not connection.poll(self._seconds):
                self._end()
                return f"took longer than {self._seconds:g} s"
            error: str | None = connection.recv()
        except (EOFError, OSError):
            self._end()
            return f"its process ended with exit code {process.exitcode}"
        return error

    def _started(self) -> tuple[BaseProcess, Connection]:
        if self._worker is None:
            # Spawned, because a forked process inherits locks that other threads hold.
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
                    "the other process did not start; call the function in this one to see why."
                ) from error
        return self._worker

    def _end(self) -> None:
        if self._worker is not None:
            process, connection = self._worker
            self._worker = None
            process.kill()  # a process that hangs may not react to terminate()
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
        except BaseException as error:  # asyncio.CancelledError is not an Exception
            connection.send(_line(error))
        else:
            connection.send(None)


def _line(error: BaseException) -> str:
    first = str(error).strip().partition("\n")[0].strip()
    line = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return textwrap.shorten(line, _LONGEST, placeholder=" ...")
