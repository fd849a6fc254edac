"""Errors of the engine as errors of the frameworks, with the frameworks' names of options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from specfuse_core.errors import FusionError, InvalidOptionError, RequestError
from specfuse_core.values import reason

__all__ = ["accepting", "renamed", "renamed_options"]

#: Options of the engine that have another name in both integrations.
_OPTIONS = {"max_new_tokens": "max_tokens"}


@contextmanager
def accepting() -> Iterator[None]:
    """Raise a ``RequestError`` instead of an error that is not one of specfuse.

    It is for the code that reads a request. Objects of applications, such as the class of an answer
    or a function that makes prompts, can raise any error there.
    """
    try:
        yield
    except FusionError:
        raise
    except Exception as error:
        raise RequestError(
            f"the request could not be read ({type(error).__name__}: {reason(error)}). Check the "
            "values that you gave; the cause of this error has the traceback."
        ) from error


@contextmanager
def renamed(names: Mapping[type[FusionError], type[FusionError]]) -> Iterator[None]:
    """Replace errors of the engine by those of the framework.

    Args:
        names: error classes of the engine, and the framework's classes that derive from them.
    """
    try:
        yield
    except FusionError as error:
        other = next((new for old, new in names.items() if isinstance(error, old)), None)
        if other is not None and not isinstance(error, other):
            raise other(str(error)) from error
        if isinstance(error, InvalidOptionError) and error.option in _OPTIONS:
            raise type(error).of(_OPTIONS[error.option], error.problem) from None
        raise


def renamed_options(text: str) -> str:
    """Return a message of the engine with the integrations' names of options."""
    for name, other in _OPTIONS.items():
        text = text.replace(name, other)
    return text
