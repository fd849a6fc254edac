"""Byte tables in the user's cache directory, for vocabularies whose table is slow to build.

A file that cannot be read, is damaged or has another label counts as missing. This module knows
nothing of tokenizers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

__all__ = ["directory", "load", "store"]

_DIGEST = hashlib.sha256
_NUMBER = np.dtype("<u4")


def directory() -> Path:
    """The directory of the stored tables: ``SPECFUSE_CACHE``, or the system's place for caches.

    Raises:
        RuntimeError: if the user has no home directory.
    """
    if chosen := os.environ.get("SPECFUSE_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "specfuse" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "specfuse"
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "specfuse"


def load(key: str, label: str, size: int) -> list[bytes] | None:
    """Return a stored table; None if there is none.

    Args:
        key: name of the file, without a suffix.
        label: says how the table was made. A table of another label is not returned.
        size: number of ids in the table.
    """
    try:
        stored = _path(key).read_bytes()
    except (OSError, RuntimeError):
        return None
    head = _head(label)
    start = len(head) + _DIGEST().digest_size
    digest, payload = stored[len(head) : start], stored[start:]
    if not stored.startswith(head) or _DIGEST(payload).digest() != digest:
        return None
    numbers, text = payload[: size * _NUMBER.itemsize], payload[size * _NUMBER.itemsize :]
    if len(numbers) < size * _NUMBER.itemsize:
        return None
    ends = np.frombuffer(numbers, _NUMBER).tolist()
    return [text[start:end] for start, end in pairwise([0, *ends])]


def store(key: str, label: str, table: Sequence[bytes]) -> None:
    """Store a table. Has no effect if the directory cannot be written."""
    ends = np.fromiter(accumulate(map(len, table)), _NUMBER, count=len(table))
    payload = ends.tobytes() + b"".join(table)
    with contextlib.suppress(OSError, RuntimeError):
        path = _path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written beside its place first: nobody ever reads half a file.
        handle, made = tempfile.mkstemp(dir=path.parent)
        try:
            with open(handle, "wb") as file:
                file.write(_head(label) + _DIGEST(payload).digest() + payload)
            os.replace(made, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(made)


def _path(key: str) -> Path:
    return directory() / f"{key}.bytes"


def _head(label: str) -> bytes:
    try:
        own = version("specfuse")
    except PackageNotFoundError:
        own = "not installed"
    return f"specfuse {own}; {label}\n".encode()
