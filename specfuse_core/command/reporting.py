"""Reports errors and warnings on standard error, one line each, and chooses exit codes.

This module knows nothing of what the command does.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import typer

from specfuse_core.command.arguments import option_of
from specfuse_core.command.lines import one_line
from specfuse_core.errors import (
    EmptyStopStringError,
    FusionError,
    FusionWarning,
    InvalidConstraintError,
    InvalidOptionError,
    UnknownOptionError,
)

__all__ = ["INTERRUPTED", "complain", "reported", "say"]

#: The exit code after Ctrl-C.
INTERRUPTED = 130
_NOBODY_READS = 141
_BAD_OPTION = (
    UnknownOptionError,
    InvalidOptionError,
    InvalidConstraintError,
    EmptyStopStringError,
)


@contextmanager
def reported(debug: bool) -> Iterator[None]:
    """Report every error as one line and an exit code, and warnings of specfuse as one line."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_warn, warnings.showwarning)
            yield
    except typer.Exit:
        raise
    except BrokenPipeError:
        # The buffered output is discarded, or Python reports an error when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(_NOBODY_READS) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        complain(error, debug)
        raise typer.Exit(2 if isinstance(error, _BAD_OPTION) else 1) from None


def _warn(
    show_others: Callable[..., None], message: Warning | str, category: type[Warning], *rest: Any
) -> None:
    if issubclass(category, FusionWarning):
        say(f"warning: {message}")
    else:
        show_others(message, category, *rest)


def complain(error: Exception, debug: bool) -> None:
    """Report an error, with its traceback if ``debug`` is set."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, InvalidOptionError) and error.option:
        text = f"{option_of(error.option)} {error.problem}"
    elif isinstance(error, FusionError):
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    else:
        text = f"{type(error).__name__}: {error} (--debug shows where)"
    say(text)


def say(text: str) -> None:
    """Write one line to standard error."""
    typer.echo(f"specfuse: {one_line(text)}", err=True)
