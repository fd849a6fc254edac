"""Names of base models, unique in their ensemble. Nothing here knows of models themselves."""

from __future__ import annotations

from collections.abc import Sequence

from specfuse_core.errors import DuplicateNameError, EmptyEnsembleError

__all__ = ["last_part", "unique_names"]


def unique_names(wanted: Sequence[tuple[str | None, str]]) -> list[str]:
    """Unique names: those given, and the defaults with ``#2``, ``#3``, ... where they collide.

    Args:
        wanted: of each model, the name that was given, if one was, and its default.

    Raises:
        EmptyEnsembleError: without a single model.
        DuplicateNameError: if one name was given twice.
    """
    if not wanted:
        raise EmptyEnsembleError("no base model was given; name at least one.")
    given = [name for name, _ in wanted if name is not None]
    doubled = next((name for name in given if given.count(name) > 1), None)
    if doubled is not None:
        raise DuplicateNameError(
            f"two base models are named {doubled!r}; give each its own ModelConfig(name=...)."
        )
    taken = set(given)
    names: list[str] = []
    for name, default in wanted:
        copies = (f"{default}#{i}" for i in range(2, len(wanted) + 2))
        free = name or next(copy for copy in (default, *copies) if copy not in taken)
        taken.add(free)
        names.append(free)
    return names


def last_part(path: str) -> str:
    """What a model is called by default: the last part of its path or hub id."""
    return path.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or path
