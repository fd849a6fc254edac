"""Errors of the engine under a framework's names too.

Retries, fallbacks and middleware know their framework's names and Python's; ours stay true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from specfuse_core.errors import FusionError

__all__ = ["renamed"]


@contextmanager
def renamed(names: Mapping[type[FusionError], type[FusionError]]) -> Iterator[None]:
    """Raise what the engine raises, as the class that has another name besides.

    Args:
        names: for classes of the engine's, classes that derive from them.
    """
    try:
        yield
    except FusionError as error:
        other = next((new for old, new in names.items() if isinstance(error, old)), None)
        if other is None or isinstance(error, other):
            raise
        raise other(str(error)) from error
