"""Downloads the weights of a model from the hub, and reports the progress to a watcher.

Several downloads can run at the same time, because no setting of the process is changed here. This
module knows nothing of screens. What fails here is tried again, and reported, when the model is
loaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from huggingface_hub import HfApi, constants, snapshot_download
from tqdm.std import tqdm  # type: ignore[import-untyped]

from specfuse_core.config import ModelConfig
from specfuse_core.hf.hub import cached, token_of

__all__ = ["Watcher", "download_weights", "is_cached"]

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


class Watcher(Protocol):
    """Sees how the download of one model advances."""

    def advance(self, bar: int, done: int, total: int | None) -> None:
        """Take the state of one bar. It is called in several threads.

        The hub's client can have two bars for the same bytes: one for the network and one for the
        disk.

        Args:
            bar: the number of the bar.
            done: number of bytes so far.
            total: number of bytes in all; None as long as it is not known.

        Raises:
            Exception: to stop the download.
        """


def is_cached(config: ModelConfig) -> bool:
    """Whether the weights of a hub id are in the cache, as far as they can be in it."""
    if constants.HF_HUB_OFFLINE:
        return True
    described = cached(config, config.gguf_file or "config.json")
    if described is None or config.gguf_file is not None:
        return described is not None
    folder = described.parent
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        return all((folder / file).is_file() for file in index["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return any(next(folder.glob(pattern), None) for pattern in ("*.safetensors", "*.bin"))


def download_weights(config: ModelConfig, watcher: Watcher) -> None:
    """Download the weights of a hub id into the cache. Ignores errors.

    Does nothing if the weights are not safetensors or GGUF files of the usual names: transformers
    finds others when it loads them.
    """
    token = token_of(config)
    # A network may cause any error.
    with suppress(Exception):
        files = HfApi().list_repo_files(config.path, revision=config.revision, token=token)
        wanted = _wanted(config, files)
        if wanted:
            snapshot_download(
                config.path,
                revision=config.revision,
                token=token,
                allow_patterns=wanted,
                tqdm_class=_bars(watcher),
            )


def _wanted(config: ModelConfig, files: Sequence[str]) -> list[str]:
    """The files of a repository that transformers will read the weights from."""
    if config.gguf_file is not None:
        return [file for file in files if file == config.gguf_file]
    if _WHOLE in files:
        return [_WHOLE]
    return [_INDEX, "model-*-of-*.safetensors"] if _INDEX in files else []


def _bars(watcher: Watcher) -> type[Any]:
    """Make a class of progress bars that a watcher shows."""

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            # Releases of the hub's client that have a name for each bar pass it on.
            options.pop("name", None)
            super().__init__(*arguments, **{**options, "gui": True, "disable": False})

        def display(self, *_: Any, **__: Any) -> None:
            # Other bars count files.
            if self.unit == "B" and self.n:
                watcher.advance(id(self), int(self.n), self.total or None)

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            self.display()
            return shown

        def clear(self, *_: Any, **__: Any) -> None:
            """Do nothing: the watcher owns the screen."""

    return Bar
