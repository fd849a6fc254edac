"""The error for a missing framework. This module imports no framework."""

from __future__ import annotations

__all__ = ["missing_extra"]


def missing_extra(error: ModuleNotFoundError, framework: str, extra: str) -> ModuleNotFoundError:
    """Return the error for a missing framework, with the command that installs it.

    Args:
        error: the error that the import raised.
        framework: the top-level name of the framework's modules.
        extra: the extra of specfuse that installs it.

    Returns ``error`` itself if another module is missing.
    """
    if error.name is None or error.name.split(".")[0] != framework:
        return error
    return ModuleNotFoundError(
        f"{framework} is not installed; install it with: pip install 'specfuse[{extra}]'",
        name=error.name,
    )
