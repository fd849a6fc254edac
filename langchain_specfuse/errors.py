"""Errors of the engine that are also errors of LangChain or Python.

Middleware, retries and fallbacks catch them by LangChain's and Python's classes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from langchain_core.exceptions import ContextOverflowError

from specfuse_core.errors import AnswerTimeoutError, PromptTooLongError
from specfuse_core.frameworks.aliases import renamed

__all__ = ["ChatTimeoutError", "PromptOverflowError", "both_names"]


class PromptOverflowError(PromptTooLongError, ContextOverflowError):
    """The prompt does not fit the context window of a base model.

    It is also LangChain's ``ContextOverflowError``, which summarization middleware catches.
    """


class ChatTimeoutError(AnswerTimeoutError, TimeoutError):
    """The answer took longer than ``timeout``. It is also a ``TimeoutError``."""


def both_names() -> AbstractContextManager[None]:
    """Raise errors of the engine as the classes of this module where there is one."""
    return renamed({PromptTooLongError: PromptOverflowError, AnswerTimeoutError: ChatTimeoutError})
