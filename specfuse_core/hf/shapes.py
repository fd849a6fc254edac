"""Checks the size of a model before its weights are loaded, and their shapes afterwards.

The parameters are counted on the meta device, which allocates no memory. This module loads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from specfuse_core.checkpoint import weight_files
from specfuse_core.config import ModelConfig
from specfuse_core.errors import ModelLoadError, NoWeightsError
from specfuse_core.hf.placement import free_memory
from specfuse_core.model_report import amount

__all__ = ["check_complete", "check_size", "count_parameters", "loaded_dtype"]

#: More layers than any model has. To count their parameters would take long.
_LAYERS = 10_000
#: Bytes per parameter of a quantized model, at the least.
_QUANTIZED = 0.125


def check_size(
    config: ModelConfig,
    described: PretrainedConfig,
    loader: Any,
    *,
    dtype: torch.dtype | None,
    device: torch.device | None,
) -> None:
    """Check that a model fits the memory, and that its configuration fits its files.

    Args:
        config: the model.
        described: the configuration that is stored with the weights.
        loader: the auto class of the model.
        dtype: dtype of the loaded weights; None if the model is quantized.
        device: where the model will be; None if it is spread over devices.

    Raises:
        ModelLoadError: if the model is too large.
    """
    layers = getattr(described.get_text_config(decoder=True), "num_hidden_layers", 0)
    if isinstance(layers, int) and layers > _LAYERS:
        raise ModelLoadError(
            f"{config.path!r}: config.json describes a model of {layers:,} layers; check the file."
        )
    count = count_parameters(described, loader, trusted=config.trust_remote_code)
    if count is None:
        return
    size = _QUANTIZED if dtype is None else dtype.itemsize
    stored = _stored(config) if dtype is not None else 0
    # A weight that is not quantized takes more than a byte.
    if 0 < stored < count:
        raise ModelLoadError(
            f"{config.path!r}: config.json describes a model of {count:,} parameters "
            f"({amount(count * size)}), but the weights have only {amount(stored)}; check that "
            "config.json belongs to the weights and that all their files are there."
        )
    free = free_memory(device) if device is not None else None
    if free is not None and count * size > free:
        form = "when quantized" if dtype is None else f"in {str(dtype).removeprefix('torch.')}"
        raise ModelLoadError(
            f"{config.path!r}: the model has {count:,} parameters and needs {amount(count * size)} "
            f"{form}, but only {amount(free)} are free on {str(device)!r}; use a smaller dtype, a "
            "quantization_config, another device or device_map='auto'. If the model is not that "
            "large, check its config.json."
        )


def count_parameters(described: PretrainedConfig, loader: Any, *, trusted: bool) -> int | None:
    """Return the number of parameters of a model; None if it cannot be counted without weights.

    Args:
        described: the configuration of the model.
        loader: the auto class of the model.
        trusted: whether code that is stored with the weights may run.
    """
    try:
        with torch.device("meta"):
            model = loader.from_config(described, trust_remote_code=trusted)
    # Whatever the code of a model raises: loading will raise it again.
    except Exception:
        return None
    return sum(int(parameter.numel()) for parameter in model.parameters())


def loaded_dtype(dtype: Any, described: PretrainedConfig, device: torch.device) -> torch.dtype:
    """The dtype that loaded weights will have."""
    if isinstance(dtype, torch.dtype):
        return dtype
    stored = getattr(described, "dtype", None)
    if isinstance(stored, str):
        stored = getattr(torch, stored, None)
    if not isinstance(stored, torch.dtype):
        # The most usual one, and no estimate that is too large.
        return torch.bfloat16
    return torch.float32 if stored == torch.float16 and device.type == "cpu" else stored


def check_complete(config: ModelConfig, found: dict[str, Any]) -> None:
    """Check that each weight was in the files. transformers initializes the others at random.

    Args:
        config: the model.
        found: what transformers reports of the loaded weights.

    Raises:
        ModelLoadError: if a weight is missing or has another shape.
    """
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise NoWeightsError(
            f"{config.path!r}: {len(missing)} weights are missing, the first is {missing[0]!r}; "
            "check that all files are there and that it is a causal language model."
        )
    if found["mismatched_keys"]:
        name, stored, expected = sorted(found["mismatched_keys"])[0]
        raise ModelLoadError(
            f"{config.path!r}: {len(found['mismatched_keys'])} weights do not have the shape that "
            f"config.json describes. The first is {name!r}: {_shape(stored)} in the files, "
            f"{_shape(expected)} by config.json; check that they belong together."
        )


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _stored(config: ModelConfig) -> int:
    """The size of the weights in a directory, in bytes; 0 if it is not known."""
    # Not in the hub's cache: a download that was interrupted is continued.
    directory = Path(config.path).expanduser()
    if config.gguf_file is not None or not directory.is_dir():
        return 0
    files = weight_files(config.path, directory)
    return sum(file.stat().st_size for file in files if file.is_file())
