"""Errors of the engine that others have a name for too, under both names.

Middleware, retries and fallbacks know LangChain's and Python's names; ours stay true.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from langchain_core.exceptions import ContextOverflowError

from specfuse_core.errors import AnswerTimeoutError, PromptTooLongError
from specfuse_core.frameworks.aliases import renamed

__all__ = ["ChatTimeoutError", "PromptOverflowError", "both_names"]


class PromptOverflowError(PromptTooLongError, ContextOverflowError):
    """The prompt does not fit; middleware that summarizes catches it by LangChain's name."""


class ChatTimeoutError(AnswerTimeoutError, TimeoutError):
    """The answer took longer than ``timeout``; also a ``TimeoutError``, for retries."""


def both_names() -> AbstractContextManager[None]:
    """Raise what the engine raises, under both names where there are two."""
    return renamed({PromptTooLongError: PromptOverflowError, AnswerTimeoutError: ChatTimeoutError})
