"""The files of an adapter of PEFT: where they are, whether they are complete, what they say.

This module does not open adapters with PEFT; that is done in ``adapters``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from safetensors import safe_open

from specfuse_core.checkpoint import check_safetensors, damaged, read_object
from specfuse_core.config import ModelConfig
from specfuse_core.errors import ModelLoadError, ModelNotFoundError, NoWeightsError
from specfuse_core.hf.failures import pickled
from specfuse_core.hf.hub import cached, download, folder_of, missing

__all__ = [
    "check_adapter",
    "described",
    "fetch_adapter",
    "has_tokenizer",
    "look_up",
    "other_base",
    "shapes",
]

_DESCRIPTION = "adapter_config.json"
_WEIGHTS, _PICKLED = "adapter_model.safetensors", "adapter_model.bin"
#: An adapter may come with a tokenizer of its own.
_TOKENIZER = ("*token*.json", "*.model", "*.jinja", "vocab.json", "merges.txt")


def look_up(config: ModelConfig) -> None:
    """Find out whether a hub id is a model or an adapter, if the cache does not tell.

    If it is an adapter, its description is in the cache afterwards.

    Raises:
        ModelNotFoundError: if the hub does not answer, or has no such model.
    """
    known = any(cached(config, name) for name in ("config.json", _DESCRIPTION))
    # A repository with a GGUF file need not have a configuration.
    if known or config.gguf_file is not None or Path(config.path).expanduser().is_dir():
        return
    no_model = missing(config, "the weights", "config.json")
    if missing(config, "the weights", _DESCRIPTION) is None:
        download(config, "the adapter", [_DESCRIPTION])
    elif no_model is not None:
        raise no_model


def fetch_adapter(source: ModelConfig) -> Path:
    """Return the folder with the files of an adapter. Files that are missing are downloaded.

    Args:
        source: where the adapter is.

    Raises:
        ModelLoadError: if the files cannot be found.
    """
    directory = Path(source.path).expanduser()
    if directory.is_dir():
        return directory
    description = cached(source, _DESCRIPTION)
    if description is not None and (
        cached(source, _WEIGHTS) or (source.allow_pickle and cached(source, _PICKLED))
    ):
        return description.parent
    what = "the adapter"
    if error := missing(source, what, _DESCRIPTION):
        raise error
    wanted = [_DESCRIPTION, _WEIGHTS, *_TOKENIZER]
    if missing(source, what, _WEIGHTS):
        if error := missing(source, what, _PICKLED):
            raise error
        if not source.allow_pickle:
            raise pickled(source)
        wanted.append(_PICKLED)
    return download(source, what, wanted)


def check_adapter(source: ModelConfig, folder: Path) -> None:
    """Check the files of an adapter.

    Args:
        source: where the adapter is.
        folder: the folder with its files.

    Raises:
        ModelNotFoundError: if the folder contains no adapter.
        NoWeightsError: if the folder contains no weights.
        PickleWeightsError: if the folder contains only pickled weights and ``allow_pickle`` is not
            set.
        ModelLoadError: if a file is damaged, or the adapter is not for a causal language model.
    """
    content = described(source, folder)
    if not isinstance(content.get("peft_type"), str):
        raise damaged(source.path, folder / _DESCRIPTION, "does not name a 'peft_type'")
    task = content.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        raise ModelLoadError(
            f"{source.path!r}: the adapter was made for the task {task!r}; use an adapter for "
            "causal language models ('CAUSAL_LM')."
        )
    if content.get("alora_invocation_tokens"):
        raise ModelLoadError(
            f"{source.path!r}: the adapter becomes active only after certain tokens "
            "(alora_invocation_tokens), which specfuse does not support; use a LoRA adapter "
            "without them."
        )
    if (folder / _WEIGHTS).is_file():
        return check_safetensors(source.path, folder / _WEIGHTS)
    if not (folder / _PICKLED).is_file():
        raise NoWeightsError(
            f"{source.path!r}: the adapter has no weights ({_WEIGHTS}); copy or download them into "
            "its directory."
        )
    if not source.allow_pickle:
        raise pickled(source)


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder of an adapter has a tokenizer of its own."""
    return (folder / "tokenizer_config.json").is_file()


def described(source: ModelConfig, folder: Path) -> Mapping[str, Any]:
    """Return the content of ``adapter_config.json``.

    Raises:
        ModelNotFoundError: if the folder contains no adapter.
        ModelLoadError: if the file cannot be read, or the folder contains a model.
    """
    if not (folder / _DESCRIPTION).is_file():
        raise _no_adapter(source, folder)
    return read_object(source.path, folder / _DESCRIPTION)


def other_base(config: ModelConfig, source: ModelConfig, folder: Path) -> str | None:
    """Return the base model that an adapter was trained on, if that seems to be another one.

    Args:
        config: the model that the adapter is loaded on.
        source: where the adapter is.
        folder: the folder with its files.

    Returns:
        Its hub id or directory; None if the adapter names no base model, or the names agree.
    """
    named = described(source, folder).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        return None
    given = [config.path]
    files = folder_of(config)
    if files is not None and (files / "config.json").is_file():
        # Older versions of transformers wrote there what a model was made from.
        original = read_object(config.path, files / "config.json").get("_name_or_path")
        given += [original] if isinstance(original, str) and original else []
    return named if _names(named).isdisjoint(set().union(*map(_names, given))) else None


def _names(path: str) -> set[str]:
    """The names of a model by its hub id or directory, also one in the hub's cache or a link."""
    place = Path(path).expanduser()
    places = [PureWindowsPath(path), *([place.resolve()] if place.exists() else [])]
    names = [place.name for place in places]
    for part in (part for place in places for part in place.parts):
        if part.startswith("models--"):
            names.append(part.rpartition("--")[2])
    return {name.lower() for name in names if name}


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight of an adapter, by its name in the file."""
    if (folder / _WEIGHTS).is_file():
        with safe_open(folder / _WEIGHTS, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    pickled_weights = torch.load(folder / _PICKLED, map_location="cpu", weights_only=True)
    return {name: tuple(weight.shape) for name, weight in pickled_weights.items()}


def _no_adapter(source: ModelConfig, folder: Path) -> ModelLoadError:
    if (folder / "config.json").is_file():
        return ModelLoadError(
            f"{source.path!r} is a model, not an adapter; use ModelConfig(path={source.path!r})."
        )
    # PEFT writes each adapter whose name is not "default" into a folder of its own.
    inner = sorted(file.parent.name for file in folder.glob(f"*/{_DESCRIPTION}"))
    hint = (
        f"one of its folders with adapters: {', '.join(inner)}"
        if inner
        else "the directory that save_pretrained of PEFT wrote"
    )
    return ModelNotFoundError(f"{source.path!r}: the directory has no {_DESCRIPTION}; give {hint}.")
