"""The files of a checkpoint: reads what they say of themselves, and names the one that is damaged.

This module opens local files with the standard library. It does not know where a checkpoint is
stored, and loads no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specfuse_core.errors import ModelLoadError

__all__ = ["check_gguf", "check_safetensors", "damaged", "header_of", "read_object", "weight_files"]

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
#: The first bytes of what Git LFS puts in place of a file that was not downloaded.
_POINTER = b"version https://git-lfs"
_GGUF = b"GGUF"
#: Versions of the GGUF format that transformers reads.
_GGUF_VERSIONS = (2, 3)


def damaged(model: str, file: Path, problem: str) -> ModelLoadError:
    """Return the error for a damaged file of a model.

    Args:
        model: hub id or directory of the model or adapter.
        file: the damaged file.
        problem: what is wrong with it, as a sentence that lacks only the name of the file.
    """
    hint = "copy or download the file again"
    if _first_bytes(file, len(_POINTER)) == _POINTER:
        problem, hint = "is a pointer of Git LFS, not the file itself", "run git lfs pull"
    return ModelLoadError(f"{model!r}: {file.name} {problem}; {hint}.")


def read_object(model: str, file: Path) -> dict[str, Any]:
    """Return the content of a JSON file, which must be an object.

    Args:
        model: hub id or directory of the model or adapter, for the error.
        file: the file.

    Raises:
        ModelLoadError: if the file cannot be read or contains anything else.
    """
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text)
    except OSError as error:
        raise damaged(model, file, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise damaged(model, file, "is not a text file in UTF-8") from error
    except (ValueError, RecursionError) as error:
        problem = f"is not valid JSON ({error})" if text.strip() else "is empty"
        raise damaged(model, file, problem) from error
    if not isinstance(content, dict):
        raise damaged(model, file, f"must contain a JSON object, not {text.strip()[:20]!r}")
    return content


def weight_files(model: str, folder: Path) -> list[Path]:
    """Return the safetensors files of a model that transformers loads.

    Some repositories have the weights twice, in other formats. A file that the index names may be
    missing.

    Args:
        model: hub id or directory of the model, for the error.
        folder: the folder with its files.

    Raises:
        ModelLoadError: if the index of the files is damaged.
    """
    single, index = folder / _SINGLE, folder / _INDEX
    if single.is_file():
        return [single]
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    named = read_object(model, index).get("weight_map")
    if not isinstance(named, Mapping):
        raise damaged(model, index, "has no 'weight_map'")
    return [folder / str(name) for name in dict.fromkeys(named.values())]


def header_of(file: Path) -> dict[str, Any]:
    """Return the header of a safetensors file: dtype, shape and place of each weight, by name.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if the file is not a safetensors file, or ends within its header.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > file.stat().st_size - 8:
            whole = opened.read(1) == b"{"
            raise ValueError("ends within its header" if whole else "is not a safetensors file")
        try:
            header = json.loads(opened.read(length))
        except ValueError:
            header = None
    if not isinstance(header, dict):
        raise ValueError("is not a safetensors file")
    return {name: weight for name, weight in header.items() if name != "__metadata__"}


def check_safetensors(model: str, file: Path) -> None:
    """Check that a safetensors file has as many bytes as its header says.

    Raises:
        ModelLoadError: if it is damaged.
    """
    size = file.stat().st_size
    if not size:
        raise damaged(model, file, "is empty")
    try:
        header = header_of(file)
        end = max((weight["data_offsets"][1] for weight in header.values()), default=0)
        with file.open("rb") as opened:
            expected = 8 + int.from_bytes(opened.read(8), "little") + end
    except OSError as error:
        raise damaged(model, file, f"cannot be read ({error.strerror})") from error
    except (LookupError, TypeError) as error:
        raise damaged(model, file, "has a header that is not of the safetensors format") from error
    except ValueError as error:
        raise damaged(model, file, str(error)) from error
    if size != expected:
        problem = f"has {size:,} bytes, but its header describes {expected:,}"
        raise damaged(model, file, problem)


def check_gguf(model: str, file: Path) -> None:
    """Check that a file begins as a GGUF file does.

    Raises:
        ModelLoadError: if it does not.
    """
    start = _first_bytes(file, 8)
    if not start:
        raise damaged(model, file, "is empty")
    if not start.startswith(_GGUF):
        raise damaged(model, file, f"is not a GGUF file; it begins with {start[:4]!r}")
    version = int.from_bytes(start[4:], "little")
    if version not in _GGUF_VERSIONS:
        known = " and ".join(map(str, _GGUF_VERSIONS))
        raise damaged(model, file, f"has the GGUF version {version}; versions {known} can be read")


def _first_bytes(file: Path, count: int) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(count)
    except OSError:
        return b""
