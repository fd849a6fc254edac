"""Checks of values that users give, and how error messages show them.

A value may be of any type and any depth. This module knows nothing of options and requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from specfuse_core.errors import FusionError, InvalidOptionError

__all__ = ["check_json", "check_text", "listed", "reason", "shown"]

#: Number of characters of a value that an error message shows.
_SHOWN = 400
#: Number of levels of lists and mappings within each other that a JSON value may have.
_LEVELS = 100


def shown(value: object) -> str:
    """Return ``repr(value)`` for an error message: never an error, and never a long text."""
    try:
        text = repr(value)
    # The representation of a user's object can raise any error.
    except Exception:
        return f"an object of the type {type(value).__name__}"
    return _shortened(text)


def reason(error: Exception | str) -> str:
    """Return the message of an error in one line, for the message of another one."""
    return _shortened(" ".join(str(error).split()).rstrip("."))


def _shortened(text: str) -> str:
    half = _SHOWN // 2
    return text if len(text) <= _SHOWN else f"{text[:half]} ... {text[-half:]}"


def check_text(text: str, what: str, error: type[FusionError]) -> None:
    """Check that a text can be encoded.

    Args:
        text: the text.
        what: what it is, for the error.
        error: the class of the error.

    Raises:
        FusionError: of the class ``error``, if the text has a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError as found:
        raise error(
            f"{what} has {text[found.start]!r} at position {found.start}, which is not a "
            "character; use text.encode('utf-8', 'replace').decode()."
        ) from found


def check_json(value: object, what: str, error: type[FusionError]) -> None:
    """Check that a value is JSON. The arguments and errors are those of :func:`check_text`."""
    _check_depth(value, what, error)
    try:
        text = json.dumps(value, ensure_ascii=False, default=_mapping)
    except (TypeError, ValueError) as found:
        raise error(
            f"{what} cannot be written as JSON ({reason(found)}); use only JSON values."
        ) from found
    check_text(text, what, error)


def _mapping(value: object) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _check_depth(value: object, what: str, error: type[FusionError]) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _LEVELS:
            raise error(
                f"{what} has more than {_LEVELS} levels of lists and mappings within each other; "
                "use fewer."
            )
        inner: list[object] = []
        for each in level:
            if isinstance(each, Mapping):
                inner += each.values()
            elif isinstance(each, list | tuple):
                inner += each
        # One object may be in several places, and contain itself.
        unique = {id(each): each for each in inner if isinstance(each, Mapping | list | tuple)}
        level = list(unique.values())


def listed(values: Any, option: str, what: str) -> list[Any]:
    """Return the entries of a list, tuple or other iterable.

    Args:
        values: the list.
        option: the name of the option.
        what: what its entries are.

    Raises:
        InvalidOptionError: if it is no list of several values.
    """
    if isinstance(values, str | bytes | Mapping | type) or not isinstance(values, Iterable):
        raise InvalidOptionError.of(option, f"must be a list of {what}, got {shown(values)}.")
    return list(values)
