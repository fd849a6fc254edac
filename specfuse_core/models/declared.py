"""Reads the context window from a model's ``config.json``, without loading the model or torch.

This module reads local files only: a model directory or the hub's cache.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from specfuse_core.config import ModelConfig
from specfuse_core.errors import ModelLoadError
from specfuse_core.models.bases import with_base
from specfuse_core.models.location import folder_of

__all__ = ["declared_window"]

#: Names under which configurations store the context window, in tokens.
_WINDOWS = ("max_position_embeddings", "max_seq_len", "seq_length", "n_positions", "n_ctx")
_NESTED = ("text_config", "llm_config", "language_config")


def declared_window(config: ModelConfig) -> int | None:
    """Return the context window in tokens; None if no local file states that of the model."""
    window = _stated(config)
    if window is None or config.context_window is None:
        return window
    return min(window, config.context_window)


def _stated(config: ModelConfig) -> int | None:
    try:
        folder = folder_of(with_base(config))
    except ModelLoadError:
        # Loading the model reports what is wrong.
        return None
    if folder is None:
        return None
    try:
        declared: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Loading the model reports what is wrong with the file.
        return None
    if not isinstance(declared, Mapping):
        return None
    for name in _NESTED:
        if isinstance(declared.get(name), Mapping):
            declared = declared[name]
    for name in _WINDOWS:
        size = declared.get(name)
        if isinstance(size, int) and size > 0:
            return int(size * _stretch(declared))
    return None


def _stretch(declared: Mapping[str, Any]) -> float:
    """Factor by which dynamic scaling of the position encodings extends the context window."""
    given = declared.get("rope_parameters") or declared.get("rope_scaling")
    if not isinstance(given, Mapping):
        return 1.0
    kind, factor = given.get("rope_type") or given.get("type"), given.get("factor")
    # With alpha, the frequencies are fixed.
    if kind != "dynamic" or given.get("alpha") or not isinstance(factor, int | float):
        return 1.0
    return max(float(factor), 1.0)
