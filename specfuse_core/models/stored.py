"""Reads from a model's files what a report says before the model is loaded.

This module reads local files only: a model directory or the hub's cache. It does not load torch.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specfuse_core.checkpoint import header_of, weight_files
from specfuse_core.config import ModelConfig
from specfuse_core.errors import ModelLoadError
from specfuse_core.model_report import TemplateSource, WeightsReport
from specfuse_core.models.location import folder_of

__all__ = ["stored_counts", "stored_template", "stored_weights"]

#: Names of dtypes in safetensors files, with the names of torch and bytes per element.
_FLOATS = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
}
#: Packed weights, which loading does not convert. Others have one byte per element.
_PACKED = {"I64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")


def stored_weights(
    config: ModelConfig, counts: Mapping[str, int], device: str, free: int | None
) -> WeightsReport | None:
    """Return the memory that weights will need; None if it is not known.

    Args:
        config: the model, which will be loaded as a whole to one device.
        counts: number of elements in the weights by dtype, see :func:`stored_counts`.
        device: the device.
        free: free bytes on the device.
    """
    if not counts:
        return None
    wanted = _dtype(config, counts, device)
    itemsize = next((size for name, size in _FLOATS.values() if name == wanted), None)
    size = sum(
        count * (itemsize or _FLOATS[kind][1]) if kind in _FLOATS else count * _PACKED.get(kind, 1)
        for kind, count in counts.items()
    )
    # Packed weights (quantization) have several parameters per element.
    whole = all(kind in _FLOATS for kind in counts)
    return WeightsReport(size, wanted, sum(counts.values()) if whole else None, device, free)


def stored_counts(config: ModelConfig) -> Mapping[str, int]:
    """Return the number of elements in the weights by dtype, as safetensors files name it.

    Returns:
        The numbers; empty if there are no such files on this machine, one of them is damaged, or
        the weights are in a GGUF file.
    """
    folder = folder_of(config) if config.gguf_file is None else None
    counts: Counter[str] = Counter()
    try:
        for file in weight_files(config.path, folder) if folder is not None else []:
            for weight in header_of(file).values():
                counts[weight["dtype"]] += math.prod(weight["shape"])
    except (ModelLoadError, OSError, ValueError, LookupError, TypeError):
        # Loading the model reports what is wrong.
        return {}
    return counts


def stored_template(config: ModelConfig) -> TemplateSource | None:
    """Return where the chat template comes from; None if no local file is there."""
    if config.chat_template is not None:
        return "config"
    if config.gguf_file is not None and config.tokenizer is None:
        # The template is in the GGUF file, which is not read before loading.
        return None
    folders = [folder for folder in map(folder_of, _tokenizers(config)) if folder is not None]
    if not folders:
        return None
    return "model" if any(map(_has_template, folders)) else "none"


def _tokenizers(config: ModelConfig) -> list[ModelConfig]:
    """Where the tokenizer may be, in the form of models."""
    if config.tokenizer is not None:
        return [ModelConfig(path=config.tokenizer)]
    return [config] if config.adapter_source is None else [config.adapter_source, config]


def _has_template(folder: Path) -> bool:
    found = any((folder / name).exists() for name in _TEMPLATES)
    return found or bool(_read(folder / "tokenizer_config.json").get("chat_template"))


def _dtype(config: ModelConfig, counts: Mapping[str, int], device: str) -> str | None:
    """The dtype of the loaded weights."""
    if config.dtype != "auto":
        return config.dtype.removeprefix("torch.")
    folder = folder_of(config)
    described = _read(folder / "config.json") if folder is not None else {}
    dtype = described.get("dtype") or described.get("torch_dtype")
    if not isinstance(dtype, str):
        stored = {_FLOATS[kind][0]: count for kind, count in counts.items() if kind in _FLOATS}
        dtype = max(stored, key=lambda name: stored[name], default=None)
    # float16 is slow and imprecise on a CPU, so such weights are loaded as float32.
    return "float32" if dtype == "float16" and device.startswith("cpu") else dtype


def _read(file: Path) -> Mapping[str, Any]:
    """The content of a JSON file; empty if there is none."""
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, Mapping) else {}
