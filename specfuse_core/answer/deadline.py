"""A time limit for one answer, as the engine's cancel event.

This module knows nothing of engines: it only tells when the time is over.
"""

from __future__ import annotations

import threading
import time

from specfuse_core.errors import AnswerTimeoutError, InvalidLimitError, InvalidOptionError

__all__ = ["Deadline"]


class Deadline(threading.Event):
    """An event that sets itself. Time runs from the first look at it.

    The engine looks before every round, so that the time to load the weights does not count, and
    an answer stops within a round of its limit.

    Args:
        seconds: None is no limit.

    Raises:
        InvalidOptionError: for a limit that is not a positive number.
    """

    def __init__(self, seconds: float | None) -> None:
        super().__init__()
        if seconds is not None and not isinstance(seconds, int | float):
            raise InvalidOptionError.of("timeout", f"must be a number of seconds, got {seconds!r}.")
        if seconds is not None and not seconds > 0:
            raise InvalidLimitError.of(
                "timeout", f"must be a positive number of seconds, got {seconds}."
            )
        self._seconds = seconds
        self._begun: float | None = None
        self._over = False

    def is_set(self) -> bool:
        """Whether the answer is to stop."""
        now = time.monotonic()
        if self._begun is None:
            self._begun = now
        if self._seconds is not None and now - self._begun >= self._seconds:
            self._over = True
            self.set()
        return super().is_set()

    def check(self) -> None:
        """For the end of an answer that was cancelled.

        Raises:
            AnswerTimeoutError: if that was because the time was over.
        """
        if self._over:
            raise AnswerTimeoutError(
                f"the answer took longer than timeout={self._seconds:g} seconds; allow more time, "
                "or fewer max_tokens."
            )
