"""What a model's ``config.json`` declares, read without loading anything, not even torch.

Only what is on disk is looked at: a directory, or the hub's cache.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specfuse_core.config import ModelConfig

__all__ = ["declared_window"]

#: How configurations call the number of tokens that a model can take.
_WINDOWS = ("max_position_embeddings", "max_seq_len", "seq_length", "n_positions", "n_ctx")
_NESTED = ("text_config", "llm_config", "language_config")


def declared_window(config: ModelConfig) -> int | None:
    """The model's context window in tokens; None where no file on disk tells it."""
    file = _config_file(config)
    try:
        declared: Any = json.loads(file.read_text(encoding="utf-8")) if file else None
    except (OSError, ValueError):
        # Loading the model tells what is wrong with the file.
        return None
    if not isinstance(declared, Mapping):
        return None
    for name in _NESTED:
        if isinstance(declared.get(name), Mapping):
            declared = declared[name]
    for name in _WINDOWS:
        size = declared.get(name)
        if isinstance(size, int) and size > 0:
            return size
    return None


def _config_file(config: ModelConfig) -> Path | None:
    directory = Path(config.path).expanduser()
    if not directory.is_dir():
        directory = _snapshot(config.path, config.revision or "main")
    file = directory / "config.json"
    return file if file.is_file() else None


def _snapshot(name: str, revision: str) -> Path:
    """Where the hub's cache has a model (its layout is documented; its client is not needed)."""
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "huggingface"
    )
    cache = Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")).expanduser()
    folder = cache / f"models--{name.replace('/', '--')}"
    ref = folder / "refs" / revision
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    return folder / "snapshots" / commit
