"""Errors of the LlamaIndex side, and those of the engine that Python has a name for too.

No error is a ValueError, TypeError or RuntimeError. LlamaIndex's response synthesizers take the
first two for an answer that could not be parsed, and return "Empty Response"; its ``asyncio_run``
takes the last for a nested event loop, and raises "Detected nested async".
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

from specfuse_core.errors import AnswerTimeoutError, FusionError, GenerationError
from specfuse_core.frameworks.aliases import renamed

__all__ = [
    "LLMTimeoutError",
    "ModelFailedError",
    "NotPicklableError",
    "StructuredAnswerError",
    "ToolCallError",
    "surfacing",
]


class LLMTimeoutError(AnswerTimeoutError, TimeoutError):
    """The answer took longer than ``timeout``; also a ``TimeoutError``, for retries."""


class ModelFailedError(GenerationError):
    """A base model raised a ValueError, TypeError or RuntimeError while it ran.

    That error is the ``__cause__``.
    """


class StructuredAnswerError(GenerationError):
    """The answer is no whole object of the class that was asked for."""


class ToolCallError(GenerationError):
    """No tool was called where a call was needed, or a tool failed where none may."""


class NotPicklableError(FusionError, pickle.PicklingError):
    """A model in memory cannot be sent to another process."""


@contextmanager
def surfacing() -> Iterator[None]:
    """Replace errors that LlamaIndex would take for something else."""
    try:
        with renamed({AnswerTimeoutError: LLMTimeoutError}):
            yield
    except (ValueError, TypeError, RuntimeError) as error:
        raise ModelFailedError(
            f"a base model failed with {type(error).__name__}: {error}. The original error is the "
            "__cause__ of this one."
        ) from error
