"""Finds a model's files on this machine: in a directory or in the hub's cache.

This module looks at names and folders. It does not load torch and does not use the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from specfuse_core.config import ModelConfig
from specfuse_core.errors import ModelNotFoundError
from specfuse_core.values import listed, shown

__all__ = ["check_location", "folder_of", "located"]

#: The hub has no longer ids.
_LONGEST_ID = 256


def located(
    models: Sequence[str | PathLike[str] | ModelConfig | Mapping[str, Any]],
) -> list[ModelConfig]:
    """Convert hub ids, local paths and mappings to ``ModelConfig`` objects and check locations.

    Raises:
        ConfigError: if an entry does not name a model.
        ModelNotFoundError: if :func:`check_location` does not find a model.
    """
    if isinstance(models, str | PathLike | ModelConfig | Mapping):
        models = [models]
    configs = [ModelConfig.of(model) for model in listed(models, "models", "models")]
    for config in configs:
        check_location(config)
    return configs


def check_location(config: ModelConfig) -> None:
    """Check that a model can be found, as far as that is known without the network.

    Raises:
        ModelNotFoundError: if the directory of a local path does not exist, or a hub id is not in
            the cache while offline mode is on. The same holds for the adapter and the tokenizer.
    """
    _check(config, "config.json and weights")
    if config.adapter_source is not None:
        _check(config.adapter_source, "adapter_config.json and the adapter's weights")
    if config.tokenizer is not None:
        _check(ModelConfig(path=config.tokenizer), "the files of a tokenizer")


def _check(config: ModelConfig, content: str) -> None:
    if folder_of(config) is not None:
        return
    if _is(Path(config.path).expanduser(), Path.is_file):
        raise ModelNotFoundError(
            f"{shown(config.path)}: this is a file; give the directory that contains it, or a GGUF "
            "file."
        )
    if _looks_local(config.path):
        raise ModelNotFoundError(
            f"{shown(config.path)}: there is no such directory; give a directory with {content}, "
            "or a hub id like 'org/name'."
        )
    if constants.HF_HUB_OFFLINE:
        revision = f" --revision {config.revision}" if config.revision else ""
        raise ModelNotFoundError(
            f"{shown(config.path)}: not found: there is no directory of that name, the hub's cache "
            f"({constants.HF_HUB_CACHE}) does not have it, and offline mode is on "
            f"(HF_HUB_OFFLINE). Unset HF_HUB_OFFLINE and download the model first "
            f"(`hf download {config.path}{revision}`), or give a local directory."
        )


def folder_of(config: ModelConfig) -> Path | None:
    """Return the directory of a model, or the folder of its revision in the hub's cache.

    Returns:
        The folder; None if neither exists.
    """
    directory = Path(config.path).expanduser()
    if _is(directory, Path.is_dir):
        return directory
    if _looks_local(config.path):
        return None
    repository = Path(constants.HF_HUB_CACHE) / f"models--{config.path.replace('/', '--')}"
    revision = config.revision or "main"
    ref = repository / "refs" / revision
    commit = ref.read_text(encoding="utf-8").strip() if _is(ref, Path.is_file) else revision
    snapshot = repository / "snapshots" / commit
    return snapshot if _is(snapshot, Path.is_dir) else None


def _is(path: Path, kind: Callable[[Path], bool]) -> bool:
    try:
        return kind(path)
    except OSError:
        # The name is too long.
        return False


def _looks_local(path: str) -> bool:
    starts = path.startswith((".", "/", "~", "\\"))
    return starts or path.count("/") > 1 or "\\" in path or len(path) > _LONGEST_ID
