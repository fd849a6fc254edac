"""From a name, a directory or a loaded object to weights that are ready to run.

This module knows where weights lie and what can go wrong with them; it knows nothing of requests.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from specfuse_core.config import ModelConfig
from specfuse_core.errors import ModelLoadError, ModelNotFoundError, NoWeightsError
from specfuse_core.hf.backend import LoadedModel
from specfuse_core.hf.hub import failed, fetch, pickled
from specfuse_core.hf.runner import Runner
from specfuse_core.prompts.template import ChatTemplate

__all__ = ["check_files", "load_model", "template_of"]

_lock = threading.Lock()
#: Weights in use, by all that decides how they are loaded: copies of a model share them.
_in_use: weakref.WeakValueDictionary[str, LoadedModel] = weakref.WeakValueDictionary()


def check_files(config: ModelConfig) -> None:
    """Look for the files of a model in a directory; the hub's cache is looked at while loading.

    Raises:
        ModelNotFoundError: a directory that holds no model.
        NoWeightsError: a directory without weights.
        PickleWeightsError: a directory with pickled weights only, and ``allow_pickle`` not set.
    """
    directory = Path(config.path).expanduser()
    if not directory.is_dir():
        return
    if not (directory / "config.json").is_file():
        raise ModelNotFoundError(
            f"{config.path!r}: the directory has no config.json; give the directory that "
            "save_pretrained wrote."
        )
    if any(directory.glob("*.safetensors")):
        return
    if not any(directory.glob("*.bin")) and not any(directory.glob("*.pt")):
        raise NoWeightsError(
            f"{config.path!r}: the directory has a config.json but no weights (*.safetensors); "
            "copy or download them into it."
        )
    if not config.allow_pickle:
        raise pickled(config)


def load_model(config: ModelConfig) -> tuple[LoadedModel, ChatTemplate]:
    """Load weights, tokenizer and template, and measure which method is right for the model.

    What is on disk, as a directory or in the hub's cache, is taken as it is, and the network left
    alone; only what is not there is fetched. Two configs that load the same weights in the same
    way share them.

    Raises:
        ModelLoadError: naming the model, what was tried and what to do.
    """
    check_files(config)
    directory = Path(config.path).expanduser()
    place = str(directory.resolve()) if directory.is_dir() else config.path
    key = repr([place, *(getattr(config, name) for name in _LOADING)])
    with _lock:
        model = _in_use.get(key)
        if model is None:
            model = LoadedModel(Runner(_weights(config)))
            _in_use[key] = model
        tokenizer = fetch(config, "the tokenizer", AutoTokenizer)
    template = template_of(
        model.runner.model, tokenizer, config.chat_template, config.chat_template_kwargs
    )
    return model, template


def template_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chat_template: str | None = None,
    variables: dict[str, Any] | None = None,
) -> ChatTemplate:
    """The chat template of a loaded model, with the end-of-turn ids of its generation config.

    Raises:
        NoEndTokenError: if nothing tells when the model ends its turn.
    """
    ends = getattr(model.generation_config, "eos_token_id", None)
    if ends is None:
        ends = []
    return ChatTemplate(
        tokenizer, chat_template, variables or {}, [ends] if isinstance(ends, int) else list(ends)
    )


#: The fields of ``ModelConfig`` that decide, besides the place, what is loaded and how.
_LOADING = (
    "revision",
    "dtype",
    "device",
    "device_map",
    "attn_implementation",
    "quantization_config",
    "trust_remote_code",
)


def _weights(config: ModelConfig) -> PreTrainedModel:
    options: dict[str, Any] = {"dtype": _dtype(config)}
    device = _device(config)
    for name in ("attn_implementation", "quantization_config", "device_map"):
        if getattr(config, name) is not None:
            options[name] = getattr(config, name)
    if not config.allow_pickle:
        options["use_safetensors"] = True
    model: PreTrainedModel
    model, found = fetch(
        config, "the weights", AutoModelForCausalLM, output_loading_info=True, **options
    )
    if found["missing_keys"]:
        # transformers makes them up at random, with no more than a log line.
        missing = sorted(found["missing_keys"])
        raise NoWeightsError(
            f"{config.path!r}: {len(missing)} weights are missing, the first is {missing[0]!r}; "
            "check that all files are there, and that it is a causal language model."
        )
    if config.device_map is None and config.quantization_config is None:
        if device.type == "cpu" and config.dtype == "auto" and model.dtype == torch.float16:
            # Half floats are slow and imprecise on a CPU, and not every operation has them.
            model = model.float()
        try:
            model.to(device)  # type: ignore[arg-type]
        except RuntimeError as error:
            raise failed(config, "the weights", error) from error
    model.eval()
    model.requires_grad_(False)
    return model


def _dtype(config: ModelConfig) -> Any:
    if config.dtype == "auto":
        return "auto"
    dtype = getattr(torch, config.dtype.removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ModelLoadError(
            f"{config.path!r}: weights cannot have the dtype {config.dtype!r}; use 'auto', "
            "'float32', 'bfloat16' or 'float16'."
        )
    return dtype


def _device(config: ModelConfig) -> torch.device:
    """The device that the model is to run on.

    Raises:
        ModelLoadError: if this machine does not have it.
    """
    if config.device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(config.device)
        torch.empty(0, device=device)
    # Builds without CUDA answer with an assertion.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelLoadError(
            f"{config.path!r}: the device {config.device!r} is not available. The devices of this "
            f"machine that PyTorch can use: {', '.join(_devices())}."
        ) from error
    return device


def _devices() -> list[str]:
    if not torch.accelerator.is_available():
        return ["cpu"]
    kind = torch.accelerator.current_accelerator()
    return ["cpu", *(f"{kind}:{index}" for index in range(torch.accelerator.device_count()))]
