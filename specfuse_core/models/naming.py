"""Unique names for the base models of an ensemble. This module knows nothing of the models."""

from __future__ import annotations

from collections.abc import Sequence

from specfuse_core.config import ModelConfig
from specfuse_core.errors import DuplicateNameError, EmptyEnsembleError

__all__ = ["default_name", "last_part", "unique_names"]


def unique_names(wanted: Sequence[tuple[str | None, str]]) -> list[str]:
    """Return one unique name per model.

    A name that the user gave is kept. A default name that is taken gets ``#2``, ``#3``, ...

    Args:
        wanted: per model, the name that the user gave (or None) and the default name.

    Raises:
        EmptyEnsembleError: if there is no model.
        DuplicateNameError: if the user gave one name twice.
    """
    if not wanted:
        raise EmptyEnsembleError("no base model was given; name at least one.")
    given = [name for name, _ in wanted if name is not None]
    doubled = next((name for name in given if given.count(name) > 1), None)
    if doubled is not None:
        raise DuplicateNameError(
            f"two base models are named {doubled!r}; give each its own name, for example with "
            "ModelConfig(name=...)."
        )
    taken = set(given)
    names: list[str] = []
    for name, default in wanted:
        copies = (f"{default}#{i}" for i in range(2, len(wanted) + 2))
        free = name or next(copy for copy in (default, *copies) if copy not in taken)
        taken.add(free)
        names.append(free)
    return names


def default_name(config: ModelConfig) -> str:
    """Return the default name of a configured model: that of its adapter, GGUF file or path."""
    file = config.gguf_file and config.gguf_file.removesuffix(".gguf")
    return last_part(config.adapter or file or config.path)


def last_part(path: str) -> str:
    """Return the last part of a path or hub id."""
    return path.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or path
