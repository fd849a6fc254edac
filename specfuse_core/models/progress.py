"""Shows on a terminal how models are downloaded and loaded.

This module knows nothing of files or models, only their names and sizes.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

__all__ = ["LoadingScreen", "Stopped"]

_WIDTH = 20


class Stopped(Exception):
    """The screen was closed, for example by Ctrl-C, so that a download has to end."""


class LoadingScreen:
    """One line per download with bytes, rate and remaining time, and one line for all models.

    It disappears when it is closed.

    Args:
        console: the terminal.
        count: number of models to load.
    """

    def __init__(self, console: Console, count: int) -> None:
        self.downloads = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_WIDTH),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._models = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_WIDTH),
            MofNCompleteColumn(),
            console=console,
        )
        self._all = self._models.add_task("downloading", total=count)
        self._live = Live(Group(self.downloads, self._models), console=console, transient=True)
        self.closed = False

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.closed = True
        self._live.__exit__(kind, error, traceback)

    def load(self, name: str) -> None:
        """Say that a model is loading."""
        self._models.update(self._all, description=f"loading {name}")

    def loaded(self) -> None:
        """Count one more loaded model."""
        self._models.advance(self._all)

    def watcher(self, name: str) -> ModelDownload:
        """Return what shows the downloads of one model."""
        return ModelDownload(self, name)


class ModelDownload:
    """The line of one model that is downloaded. It can be used in several threads.

    Args:
        screen: where it is shown.
        name: name of the model.
    """

    def __init__(self, screen: LoadingScreen, name: str) -> None:
        self._screen, self._name = screen, name
        self._bars: dict[int, tuple[int, int]] = {}
        self._task: TaskID | None = None
        self._lock = threading.Lock()

    def advance(self, bar: int, done: int, total: int | None) -> None:
        """Show the most advanced bar of the download.

        Raises:
            Stopped: if the screen was closed.
        """
        if self._screen.closed:
            raise Stopped
        downloads = self._screen.downloads
        with self._lock:
            self._bars[bar] = done, total or 0
            done, total = (max(column) for column in zip(*self._bars.values(), strict=True))
            if self._task is None:
                self._task = downloads.add_task(self._name, total=None)
            downloads.update(self._task, completed=done, total=total if total >= done else None)

    def finish(self) -> None:
        """Remove the line."""
        with self._lock:
            if self._task is not None:
                self._screen.downloads.remove_task(self._task)
                self._task = None
