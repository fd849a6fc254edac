"""A time limit for one answer, in the form of the engine's cancel event.

This module knows nothing of engines.
"""

from __future__ import annotations

import threading
import time

from specfuse_core.errors import AnswerTimeoutError, InvalidLimitError, InvalidOptionError
from specfuse_core.values import shown

__all__ = ["Deadline"]


class Deadline(threading.Event):
    """An event that sets itself after a time limit.

    The time starts at the first call of :meth:`is_set`. The engine makes that call before every
    round, so that loading the models does not count, and an answer stops at the first round that
    begins after the limit.

    Args:
        seconds: the time limit in seconds; None for no limit.

    Raises:
        InvalidOptionError: if the limit is not a positive number.
    """

    def __init__(self, seconds: float | None) -> None:
        super().__init__()
        if seconds is not None and not isinstance(seconds, int | float):
            raise InvalidOptionError.of(
                "timeout", f"must be a number of seconds, got {shown(seconds)}."
            )
        if seconds is not None and not seconds > 0:
            raise InvalidLimitError.of(
                "timeout", f"must be a positive number of seconds, got {seconds}."
            )
        self._seconds = seconds
        self._begun: float | None = None
        self._over = False

    def is_set(self) -> bool:
        """Whether the answer must stop, because it was cancelled or the time is over."""
        now = time.monotonic()
        if self._begun is None:
            self._begun = now
        if self._seconds is not None and now - self._begun >= self._seconds:
            self._over = True
            self.set()
        return super().is_set()

    def check(self) -> None:
        """Raise an error if the time limit stopped the answer.

        Raises:
            AnswerTimeoutError: if the time was over before the answer ended.
        """
        if self._over:
            raise AnswerTimeoutError(
                f"the answer took longer than timeout={self._seconds:g} seconds; increase timeout "
                "or reduce max_tokens."
            )
