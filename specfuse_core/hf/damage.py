"""Finds the damaged file of a model: before its weights are loaded, or after loading failed.

Errors of transformers seldom name the file. This module knows which files a model may have;
``checkpoint`` opens them.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tokenizers import Tokenizer

from specfuse_core.checkpoint import (
    check_gguf,
    check_safetensors,
    damaged,
    read_object,
    weight_files,
)
from specfuse_core.config import ModelConfig
from specfuse_core.errors import ModelLoadError

__all__ = ["check_intact", "damage"]

_TOKENIZER = "tokenizer.json"
#: The other files of a tokenizer that contain a JSON object.
_TOKENIZING = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
)


def check_intact(config: ModelConfig, folder: Path, *, complete: bool) -> None:
    """Check the weights, and the generation config, which transformers ignores if it is damaged.

    Only the beginning of each file of weights is read.

    Args:
        config: the model.
        folder: the folder with its files.
        complete: whether all files of the weights must be there. The hub's cache may lack some,
            which are downloaded.

    Raises:
        ModelLoadError: if a file is damaged, or a file of the weights is missing.
    """
    if config.gguf_file is not None:
        return
    if (folder / "generation_config.json").is_file():
        read_object(config.path, folder / "generation_config.json")
    for file in weight_files(config.path, folder):
        if file.is_file():
            check_safetensors(config.path, file)
        elif complete:
            raise ModelLoadError(
                f"{config.path!r}: {file.name} is missing, although the index of the weights names "
                "it; copy or download it into the directory."
            )


def damage(config: ModelConfig, what: str, folder: Path) -> ModelLoadError | None:
    """Return the error for the file that is the reason why loading failed; None if none is.

    Args:
        config: the model.
        what: what could not be loaded: ``"the weights"`` or ``"the tokenizer"``.
        folder: the folder with its files.
    """
    try:
        if config.gguf_file is not None:
            _check_gguf(config.path, folder / config.gguf_file)
        elif what == "the tokenizer":
            _check_tokenizer(config.path, folder)
        else:
            _check_description(config.path, folder / "config.json")
    except ModelLoadError as error:
        return error
    return None


def _check_description(model: str, file: Path) -> None:
    described = read_object(model, file)
    if not isinstance(described.get("model_type"), str) and "auto_map" not in described:
        raise damaged(model, file, "does not name a 'model_type'")


def _check_tokenizer(model: str, folder: Path) -> None:
    for name in _TOKENIZING:
        if (folder / name).is_file():
            read_object(model, folder / name)
    if not (folder / _TOKENIZER).is_file():
        return
    read_object(model, folder / _TOKENIZER)
    try:
        Tokenizer.from_file(str(folder / _TOKENIZER))
    # The library raises a plain Exception.
    except Exception as error:
        raise damaged(
            model, folder / _TOKENIZER, f"does not describe a tokenizer ({error})"
        ) from error


def _check_gguf(model: str, file: Path) -> None:
    check_gguf(model, file)
    reader = import_module("gguf").GGUFReader
    try:
        reader(file)
    # It may read any nonsense after the place where the file ends.
    except Exception as error:
        problem = f"is truncated or damaged ({type(error).__name__}: {str(error).rstrip('.')})"
        raise damaged(model, file, problem) from error
