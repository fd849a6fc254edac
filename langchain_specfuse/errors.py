"""Errors of the engine that LangChain has a name for, under both."""

from __future__ import annotations

from langchain_core.exceptions import ContextOverflowError

from specfuse_core.errors import PromptTooLongError

__all__ = ["PromptOverflowError"]


class PromptOverflowError(PromptTooLongError, ContextOverflowError):
    """The prompt does not fit; middleware that summarizes catches it by LangChain's name."""
