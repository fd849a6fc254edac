"""Loads weights, tokenizer and chat template of a model, and checks that they are complete.

This module knows nothing of requests. The hub and its cache are in ``hub``.
"""

from __future__ import annotations

import threading
import weakref
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from specfuse_core.config import ModelConfig
from specfuse_core.errors import ModelLoadError, ModelNotFoundError, NoWeightsError
from specfuse_core.hf import adapter_files
from specfuse_core.hf.adapter_files import check_adapter, fetch_adapter, has_tokenizer
from specfuse_core.hf.adapters import checked_base, with_adapter
from specfuse_core.hf.damage import check_intact
from specfuse_core.hf.downloads import Watcher, download_weights, is_cached
from specfuse_core.hf.failures import failed, pickled
from specfuse_core.hf.hub import ask_hub, fetch, folder_of
from specfuse_core.hf.kinds import is_quantized, loader_of
from specfuse_core.hf.loaded import LoadedModel
from specfuse_core.hf.placement import device_of, dtype_of
from specfuse_core.hf.runner import Runner
from specfuse_core.hf.shapes import check_complete, check_size, loaded_dtype
from specfuse_core.prompts.template import ChatTemplate

__all__ = ["check_files", "download", "is_loaded", "load_model", "look_up", "template_of"]

_lock = threading.Lock()
#: Loaded weights that are in use, by all options that affect loading.
_in_use: weakref.WeakValueDictionary[str, LoadedModel] = weakref.WeakValueDictionary()
#: The same without adapters. Models with different adapters share these weights.
_bases: weakref.WeakValueDictionary[str, PreTrainedModel] = weakref.WeakValueDictionary()


def check_files(config: ModelConfig) -> None:
    """Check that a directory contains the files of a model. Does nothing for a hub id.

    Raises:
        ModelNotFoundError: if the directory contains no model.
        NoWeightsError: if the directory contains no weights.
        PickleWeightsError: if the directory contains only pickled weights and ``allow_pickle`` is
            not set.
        ModelLoadError: if the adapter is not for a causal language model.
    """
    source = config.adapter_source
    if source is not None and (folder := Path(source.path).expanduser()).is_dir():
        check_adapter(source, folder)
    directory = Path(config.path).expanduser()
    if not directory.is_dir():
        return
    if config.gguf_file is not None:
        return _check_gguf(config, directory)
    if not (directory / "config.json").is_file():
        converted = sorted(path.name for path in directory.glob("*.gguf"))
        hint = (
            f"name one of its GGUF files with gguf_file: {', '.join(converted)}"
            if converted
            else "give the directory that save_pretrained wrote"
        )
        raise ModelNotFoundError(f"{config.path!r}: the directory has no config.json; {hint}.")
    if any(directory.glob("*.safetensors")):
        return
    if not any(directory.glob("*.bin")) and not any(directory.glob("*.pt")):
        raise NoWeightsError(
            f"{config.path!r}: the directory has a config.json but no weights (*.safetensors); "
            "copy or download them into it."
        )
    if not config.allow_pickle:
        raise pickled(config)


def _check_gguf(config: ModelConfig, directory: Path) -> None:
    file = directory / str(config.gguf_file)
    if not file.is_file():
        there = ", ".join(sorted(path.name for path in directory.glob("*.gguf"))) or "none"
        raise ModelNotFoundError(
            f"{config.path!r}: the directory has no file {config.gguf_file!r}; its GGUF files: "
            f"{there}."
        )


def load_model(config: ModelConfig) -> tuple[LoadedModel, ChatTemplate]:
    """Load weights, tokenizer and template, and choose the model's context method.

    Local files (a directory or the hub's cache) are used without any network access. Only missing
    files are downloaded. Configurations that load the same weights in the same way share them,
    also if they have different adapters.

    Raises:
        ModelLoadError: if loading fails. The message names the model.
    """
    check_files(config)
    source = config.adapter_source
    base_key = _base_key(config)
    key = base_key if source is None else repr([base_key, _place(source), source.revision])
    with _lock:
        model = _in_use.get(key)
        if model is None:
            base = _bases.get(base_key)
            if base is None:
                base = _bases[base_key] = _weights(config)
            whole, trained_on = base, None
            if source is not None:
                whole = with_adapter(base, config, source)
                trained_on = checked_base(config, source)
            model = _in_use[key] = LoadedModel(Runner(whole), base=base, trained_on=trained_on)
        tokenizer = _tokenizer(config)
    template = template_of(
        model.runner.model,
        tokenizer,
        config.chat_template,
        config.chat_template_kwargs,
        config.response_template,
        owned=True,
    )
    return model, template


def is_loaded(config: ModelConfig) -> bool:
    """Whether the weights of ``config``, without its adapter, are in memory and will be shared."""
    return _base_key(config) in _bases


def look_up(config: ModelConfig) -> None:
    """Find out whether a hub id is a model or an adapter, if no local file tells.

    If it is an adapter, its ``adapter_config.json`` is in the hub's cache afterwards.

    Raises:
        ModelNotFoundError: if the hub does not answer, or has no such model.
    """
    with _lock:
        adapter_files.look_up(config)


def download(config: ModelConfig, watcher: Watcher) -> None:
    """Download the weights of a hub id, if they are not on this machine. Can run in parallel.

    Raises:
        ModelNotFoundError: if the hub does not answer, or has no such model.
    """
    if Path(config.path).expanduser().is_dir() or is_cached(config):
        return
    with _lock:
        ask_hub(config, "the weights", config.gguf_file or "config.json")
    download_weights(config, watcher)


def template_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chat_template: str | None = None,
    variables: dict[str, Any] | None = None,
    response_template: dict[str, Any] | None = None,
    *,
    owned: bool = False,
) -> ChatTemplate:
    """Return the chat template of a loaded model.

    Args:
        model: the model, whose generation config has end-of-turn ids.
        tokenizer: the model's tokenizer.
        chat_template: a template that replaces the tokenizer's own, or the name of one of its
            templates.
        variables: extra variables of the template.
        response_template: a response template of transformers, which says how the model writes
            calls and thoughts; None for the tokenizer's own, or for the form that is found.
        owned: whether nothing else uses the tokenizer, so that its vocabulary can be shared.

    Raises:
        InvalidOptionError: if the response template is not valid.
        NoEndTokenError: if no end-of-turn token is known.
        TemplateError: if the tokenizer has several templates and no default, and none is chosen.
    """
    ends = getattr(model.generation_config, "eos_token_id", None)
    if ends is None:
        ends = []
    return ChatTemplate(
        tokenizer,
        chat_template,
        variables or {},
        [ends] if isinstance(ends, int) else list(ends),
        response_template,
        owned=owned,
    )


#: The fields of ``ModelConfig`` that, besides ``path``, affect how weights are loaded.
_LOADING = (
    "revision",
    "gguf_file",
    "dtype",
    "device",
    "device_map",
    "max_memory",
    "attn_implementation",
    "quantization_config",
    "trust_remote_code",
)


def _base_key(config: ModelConfig) -> str:
    return repr([_place(config), *(getattr(config, name) for name in _LOADING)])


def _place(config: ModelConfig) -> str:
    directory = Path(config.path).expanduser()
    return str(directory.resolve()) if directory.is_dir() else config.path


def _tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    options: dict[str, Any] = {}
    adapter = config.adapter_source
    if config.tokenizer is not None:
        # The revision and the GGUF file are those of the weights.
        config = config.replace(path=config.tokenizer, revision=None, gguf_file=None)
        # A repository of a tokenizer alone need not have a config.json.
        options["file"] = "tokenizer_config.json"
    elif adapter is not None and has_tokenizer(fetch_adapter(adapter)):
        config = adapter
    elif config.gguf_file is not None:
        options["gguf_file"] = config.gguf_file
    tokenizer: PreTrainedTokenizerBase = fetch(config, "the tokenizer", AutoTokenizer, **options)
    return tokenizer


def _weights(config: ModelConfig) -> PreTrainedModel:
    device, dtype = device_of(config), dtype_of(config)
    options: dict[str, Any] = {}
    if config.gguf_file is not None:
        _need_gguf(config)
        options["gguf_file"] = config.gguf_file
    described = fetch(config, "the weights", AutoConfig, **options)
    if (folder := folder_of(config)) is not None:
        check_intact(config, folder, complete=Path(config.path).expanduser().is_dir())
    loader = loader_of(config, described)
    quantized = config.quantization_config is not None or is_quantized(described)
    check_size(
        config,
        described,
        loader,
        dtype=None if quantized else loaded_dtype(dtype, described, device),
        device=device if config.device_map is None and config.max_memory is None else None,
    )
    options["dtype"] = dtype
    # transformers looks for an adapter in the model's repository, on the hub if not told otherwise.
    options["adapter_kwargs"] = {"local_files_only": True}
    for name in ("attn_implementation", "quantization_config", "device_map", "max_memory"):
        if getattr(config, name) is not None:
            options[name] = getattr(config, name)
    if config.max_memory is not None:
        options.setdefault("device_map", "auto")
    elif config.device_map is None and quantized and (config.device or device.type != "cpu"):
        # Quantized weights are put on their device while they are loaded.
        options["device_map"] = {"": device}
    if not config.allow_pickle and config.gguf_file is None:
        options["use_safetensors"] = True
    model: PreTrainedModel
    model, found = fetch(
        config,
        "the weights",
        loader,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **options,
    )
    check_complete(config, found)
    if "device_map" not in options and not quantized:
        try:
            if device.type == "cpu" and dtype == "auto" and model.dtype == torch.float16:
                # float16 is slow and imprecise on a CPU, and some operations do not support it.
                model = model.float()
            model.to(device)  # type: ignore[arg-type]
        except (RuntimeError, ValueError, NotImplementedError) as error:
            raise failed(config, "the weights", error) from error
    model.eval()
    model.requires_grad_(False)
    return model


def _need_gguf(config: ModelConfig) -> None:
    """Check that the package is installed that reads GGUF files."""
    if find_spec("gguf") is None:
        raise ModelLoadError(
            f"{config.path!r}: only the package gguf can read {config.gguf_file!r}; install it "
            "with: pip install 'specfuse[gguf]'"
        )
