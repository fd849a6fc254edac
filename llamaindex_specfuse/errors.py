"""Errors of the LlamaIndex integration, and errors of the engine that are also errors of Python.

No error is a ValueError, TypeError or RuntimeError. LlamaIndex's response synthesizers treat the
first two as an answer that cannot be parsed, and return "Empty Response". Its ``asyncio_run``
treats the last as a nested event loop, and raises "Detected nested async".
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

from specfuse_core import errors
from specfuse_core.errors import AnswerTimeoutError, GenerationError
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
    """The answer took longer than ``timeout``. It is also a ``TimeoutError``."""


class ModelFailedError(GenerationError):
    """A base model raised a ValueError, TypeError or RuntimeError while it ran.

    That error is the ``__cause__``.
    """


class StructuredAnswerError(GenerationError):
    """The answer is not a valid object of the requested class."""


class ToolCallError(GenerationError):
    """The answer calls no tool although a call is required, or a tool failed."""


class NotPicklableError(errors.NotPicklableError, pickle.PicklingError):
    """A ``SpecFuseLLM`` with ``engine=`` was pickled. It is also a ``PicklingError``."""


@contextmanager
def surfacing() -> Iterator[None]:
    """Replace errors that LlamaIndex would misinterpret, after a request was accepted."""
    try:
        with renamed({AnswerTimeoutError: LLMTimeoutError}):
            yield
    except (ValueError, TypeError, RuntimeError) as error:
        raise ModelFailedError(
            f"a base model failed with {type(error).__name__}: {error}. See the __cause__ of this "
            "error for its traceback."
        ) from error
