"""Loads weights and tokenizers with transformers: from disk if possible, otherwise from the hub.

This module knows where files are stored and how a network can fail. It knows nothing of devices or
dtypes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import transformers.modeling_gguf_pytorch_utils as gguf_reader
from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_url,
    model_info,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoTokenizer
from transformers.utils import logging

from specfuse_core.config import ModelConfig
from specfuse_core.errors import ModelLoadError, ModelNotFoundError
from specfuse_core.hf.damage import damage
from specfuse_core.hf.failures import failed, not_found, pickled

__all__ = [
    "ask_hub",
    "cached",
    "download",
    "fetch",
    "folder_of",
    "missing",
    "remote_counts",
    "token_of",
]

#: Time limit in seconds for the first request to the hub about a model.
_PATIENCE = 5.0
_NO_CONVERSION = "DISABLE_SAFETENSORS_CONVERSION"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")

_NO_SUCH_MODEL = (
    RepositoryNotFoundError,
    RevisionNotFoundError,
    EntryNotFoundError,
    HFValidationError,
)


def fetch(
    config: ModelConfig, what: str, loader: Any, *, file: str = "config.json", **options: Any
) -> Any:
    """Call ``loader.from_pretrained`` with local files, or with the hub if some are missing.

    Callers must not run it in parallel, because it changes settings of the process temporarily.

    Args:
        config: the model.
        what: the loaded object in error messages, such as ``"the weights"``.
        loader: a class of transformers with ``from_pretrained``.
        file: a file by which the hub is asked whether it has the model.
        options: keyword arguments of ``from_pretrained``.

    Raises:
        ModelLoadError: if the files cannot be found or loaded.
    """
    directory = Path(config.path).expanduser()
    path = str(directory) if directory.is_dir() else config.path
    file = config.gguf_file or file
    options |= {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
    if config.token is not None:
        options["token"] = token_of(config)
    with _quiet():
        try:
            with _unseen():
                return loader.from_pretrained(path, local_files_only=True, **options)
        except Exception as error:
            # If the files of a tokenizer are missing, transformers can raise any error.
            absent = isinstance(error, OSError)
            if known := _damage(config, what, file):
                raise known from error
            if directory.is_dir() or not (absent or loader is AutoTokenizer):
                raise failed(config, what, error) from error
            try:
                ask_hub(config, what, file)
            except ModelNotFoundError:
                if absent:
                    raise
                raise failed(config, what, error) from error
        try:
            return loader.from_pretrained(path, **options)
        except Exception as error:
            if known := _damage(config, what, file):
                raise known from error
            if not isinstance(error, OSError):
                raise failed(config, what, error) from error
            if "safetensors" in str(error) and not config.allow_pickle:
                raise pickled(config) from error
            raise not_found(config, what, "does not have all of its files", error) from error


def download(config: ModelConfig, what: str, wanted: list[str]) -> Path:
    """Download those files of a repository that match ``wanted``, and return their folder."""
    with _quiet():
        try:
            return Path(
                snapshot_download(
                    config.path,
                    revision=config.revision,
                    token=token_of(config),
                    allow_patterns=wanted,
                )
            )
        except Exception as error:
            raise not_found(config, what, "does not have all of its files", error) from error


def cached(config: ModelConfig, name: str) -> Path | None:
    """Return a file of a repository in the hub's cache; None if it is not there."""
    try:
        found = try_to_load_from_cache(config.path, name, revision=config.revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def folder_of(config: ModelConfig, file: str = "config.json") -> Path | None:
    """Return the directory of a model, or the folder in the hub's cache that has ``file``.

    Returns:
        The folder; None if there is neither.
    """
    directory = Path(config.path).expanduser()
    if directory.is_dir():
        return directory
    found = cached(config, file)
    return found.parents[len(Path(file).parts) - 1] if found is not None else None


def _damage(config: ModelConfig, what: str, file: str) -> ModelLoadError | None:
    folder = folder_of(config, file)
    return damage(config, what, folder) if folder is not None else None


def missing(config: ModelConfig, what: str, file: str) -> ModelNotFoundError | None:
    """Return the error for a file that a repository of the hub does not have; None if it has it.

    Raises:
        ModelNotFoundError: if the hub does not answer, or has no such repository.
    """
    try:
        ask_hub(config, what, file)
    except ModelNotFoundError as error:
        if not isinstance(error.__cause__, RemoteEntryNotFoundError):
            raise
        return error
    return None


def token_of(config: ModelConfig) -> str | None:
    """Return the access token of a model; None for the one that is stored on this machine."""
    return config.token.get_secret_value() if config.token is not None else None


def remote_counts(config: ModelConfig) -> Mapping[str, int]:
    """Ask the hub for the number of elements in a model's weights by dtype, as in its files.

    Returns:
        The numbers; empty if the hub does not know them, has no such model or does not answer.
    """
    try:
        with _unseen():
            known = model_info(
                config.path,
                revision=config.revision,
                timeout=_PATIENCE,
                expand=["safetensors"],
                token=token_of(config),
            ).safetensors
    # A network or a proxy may cause any error. Loading the model reports it.
    except Exception:
        return {}
    return known.parameters if known is not None else {}


def ask_hub(config: ModelConfig, what: str, file: str) -> None:
    """Ask the hub for the model once. A download would retry many times and wait in between.

    Raises:
        ModelNotFoundError: if the hub does not answer, or has no such model.
        PickleWeightsError: if the hub does not answer and the cache has only pickled weights.
    """
    try:
        url = hf_hub_url(config.path, file, revision=config.revision)
        with _unseen():
            _ask(url, token_of(config))
    except GatedRepoError as error:
        answer = (
            "restricts access to it (request access on its page, then run `hf auth login` or give "
            "a token)"
        )
        raise not_found(config, what, answer, error) from error
    except _NO_SUCH_MODEL as error:
        answer = "has no such model or shows it only after `hf auth login` or with a token"
        raise not_found(config, what, answer, error) from error
    # A network or a proxy may cause any other error.
    except Exception as error:
        if not config.allow_pickle and any(cached(config, name) for name in _PICKLES):
            raise pickled(config) from error
        answer = "could not be reached"
        if isinstance(error, OfflineModeIsEnabled):
            answer = "was not asked, because offline mode is on (HF_HUB_OFFLINE)"
        raise not_found(config, what, answer, error) from error


def _ask(url: str, token: str | None) -> None:
    """Request a file's metadata and wait at most ``_PATIENCE`` seconds for the answer.

    The client's own limit applies to each step separately, and not to the address lookup at all.

    Raises:
        TimeoutError: if there is no answer in time. Errors of the client are raised as they are.
    """
    answer: Future[None] = Future()

    def wait() -> None:
        try:
            get_hf_file_metadata(url, timeout=_PATIENCE, token=token)
            answer.set_result(None)
        except BaseException as error:
            answer.set_exception(error)

    # Not a thread of a pool: the program would wait for it at its end.
    Thread(target=wait, name="specfuse-hub", daemon=True).start()
    try:
        answer.result(_PATIENCE)
    except TimeoutError:
        if answer.done():
            raise
        raise TimeoutError(f"no answer within {_PATIENCE:g} s") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Disable transformers' progress bars and its requests to convert pickled weights.

    specfuse shows its own progress bar, and loading a model must not start a conversion elsewhere.
    """
    shown, asked = logging.is_progress_bar_enabled(), os.environ.get(_NO_CONVERSION)
    logging.disable_progress_bar()
    os.environ[_NO_CONVERSION] = "1"
    # The bar of the conversion of a GGUF file has no setting.
    reader: Any = gguf_reader
    bar, reader.tqdm = reader.tqdm, partial(reader.tqdm, disable=True)
    try:
        yield
    finally:
        reader.tqdm = bar
        if shown:
            logging.enable_progress_bar()
        if asked is None:
            del os.environ[_NO_CONVERSION]
        else:
            os.environ[_NO_CONVERSION] = asked


@contextmanager
def _unseen() -> Iterator[None]:
    """Disable telemetry, which uses the network even if all files are on disk."""
    before = constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = before
