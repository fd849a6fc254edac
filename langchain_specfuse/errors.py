"""Errors of the engine that others have a name for too, under both names.

Middleware, retries and fallbacks know LangChain's and Python's names; ours stay true.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from langchain_core.exceptions import ContextOverflowError

from specfuse_core.errors import AnswerTimeoutError, PromptTooLongError

__all__ = ["ChatTimeoutError", "PromptOverflowError", "both_names"]


class PromptOverflowError(PromptTooLongError, ContextOverflowError):
    """The prompt does not fit; middleware that summarizes catches it by LangChain's name."""


class ChatTimeoutError(AnswerTimeoutError, TimeoutError):
    """The answer took longer than ``timeout``; also a ``TimeoutError``, for retries."""


@contextmanager
def both_names() -> Iterator[None]:
    """Raise what the engine raises, under both names where there are two."""
    try:
        yield
    except PromptTooLongError as error:
        raise PromptOverflowError(str(error)) from error
    except AnswerTimeoutError as error:
        raise ChatTimeoutError(str(error)) from error
