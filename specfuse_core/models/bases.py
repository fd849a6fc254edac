"""Finds the base model of an adapter that is given as a model.

This module reads local files only: a directory or the hub's cache. It does not load torch.
"""

from __future__ import annotations

from pathlib import Path

from specfuse_core.checkpoint import read_object
from specfuse_core.config import ModelConfig
from specfuse_core.errors import ModelLoadError, ModelNotFoundError
from specfuse_core.models.location import check_location, folder_of

__all__ = ["with_base"]

_DESCRIPTION = "adapter_config.json"
#: Weights of a whole model.
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")


def with_base(config: ModelConfig) -> ModelConfig:
    """Return ``config`` with the path of the base model, if its own path is an adapter.

    The adapter's ``adapter_config.json`` names the base model and its revision.

    Raises:
        ModelNotFoundError: if the base model cannot be found.
        ModelLoadError: if the adapter names no base model, the base model is an adapter, too, or
            another adapter was given.
    """
    folder = folder_of(config)
    if folder is None or not _is_adapter(folder):
        return config
    if config.adapter is not None:
        raise ModelLoadError(
            f"{config.path!r} is an adapter, and the adapter {config.adapter!r} was given, too; "
            "give the base model as path, with one adapter."
        )
    described = read_object(config.path, folder / _DESCRIPTION)
    base, revision = described.get("base_model_name_or_path"), described.get("revision")
    if not isinstance(base, str) or not base:
        raise ModelLoadError(
            f"{config.path!r} is an adapter that does not name its base model; use "
            f"ModelConfig(path=..., adapter={config.path!r}) with the base model as path."
        )
    based = config.replace(
        path=base,
        revision=revision if isinstance(revision, str) else None,
        adapter=config.path,
        adapter_revision=config.revision,
    )
    try:
        check_location(based)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"{config.path!r} is an adapter whose base model was not found. If you have the base "
            f"model elsewhere, use ModelConfig(path=..., adapter={config.path!r}). [{error}]"
        ) from error
    below = folder_of(based)
    if below is not None and _is_adapter(below):
        raise ModelLoadError(
            f"{config.path!r} is an adapter for {base!r}, which is an adapter, too; merge "
            f"{base!r} into its base model first (merge_and_unload of PEFT)."
        )
    return based


def _is_adapter(folder: Path) -> bool:
    """Whether a folder has an adapter, without the weights of a whole model."""
    whole = any(next(folder.glob(pattern), None) for pattern in _WEIGHTS)
    return (folder / _DESCRIPTION).is_file() and not (whole and (folder / "config.json").is_file())
