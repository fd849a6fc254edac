"""Creates the backends of named or loaded models, and loads them with a progress bar.

A backend loads its model once, when it is first needed. Importing this module loads torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from os import PathLike
from threading import Thread
from typing import TYPE_CHECKING, Any

from rich.console import Console

from specfuse_core.backend import Backend
from specfuse_core.config import ModelConfig
from specfuse_core.errors import InvalidOptionError, ModelLoadError
from specfuse_core.hf import (
    LoadedModel,
    LocalBackend,
    Runner,
    check_distinct,
    check_files,
    device_of,
    download,
    free_memory,
    is_loaded,
    load_model,
    look_up,
    remote_counts,
    template_of,
)
from specfuse_core.model_report import ModelReport, WeightsReport
from specfuse_core.models.bases import with_base
from specfuse_core.models.declared import declared_window
from specfuse_core.models.location import check_location, folder_of
from specfuse_core.models.naming import default_name, last_part, unique_names
from specfuse_core.models.progress import LoadingScreen, ModelDownload
from specfuse_core.models.roster import load_quietly
from specfuse_core.models.stored import stored_counts, stored_template, stored_weights
from specfuse_core.prompts.template import ChatTemplate
from specfuse_core.values import listed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["adopted", "load_with_progress", "named"]


def named(configs: Sequence[ModelConfig]) -> tuple[list[Backend], dict[str, float]]:
    """Create the backends of configured models. Loads nothing yet.

    A model that is listed twice will be loaded once, as will the base model of several adapters.

    Returns:
        The backends, and the prior voting weight of each by its name.

    Raises:
        ConfigError: if the list is empty or two models have the same name.
        ModelLoadError: if a directory contains no model.
    """
    for model in configs:
        check_files(with_base(model))
    names = unique_names([(model.name, default_name(model)) for model in configs])
    backends: list[Backend] = [
        LocalBackend(
            name,
            partial(_loaded, model),
            declared_window(model),
            partial(_stored, model),
            partial(_downloaded, model),
            model,
        )
        for name, model in zip(names, configs, strict=True)
    ]
    return backends, {name: model.weight for name, model in zip(names, configs, strict=True)}


def adopted(
    models: Sequence[tuple[PreTrainedModel, PreTrainedTokenizerBase]],
    names: Sequence[str] | None = None,
) -> list[Backend]:
    """Create backends from models that are already loaded, and put the models in eval mode.

    Args:
        models: pairs of a causal LM and its tokenizer, or pipelines of transformers.
        names: one name per model; by default the last part of its ``name_or_path``.

    Raises:
        InvalidOptionError: if an entry is not a pair of a model and its tokenizer, or the number
            of names differs from the number of models.
        EmptyEnsembleError: if there is no model.
        DuplicateNameError: if two names are equal.
        ModelLoadError: if two models share a base model and the same adapter.
    """
    pairs = listed(models, "models", "pairs of a model and its tokenizer")
    models = [_pair(place, given) for place, given in enumerate(pairs, start=1)]
    check_distinct([model for model, _ in models])
    if names is not None and len(names) != len(models):
        raise InvalidOptionError(
            f"{len(models)} models were given, but {len(names)} names; give one name per model."
        )
    given: Sequence[str | None] = names or [None] * len(models)
    unique = unique_names(
        [
            (name, last_part(model.config.name_or_path or model.config.model_type))
            for name, (model, _) in zip(given, models, strict=True)
        ]
    )
    # A model that is listed twice is probed once.
    shared: dict[int, Callable[[], LoadedModel]] = {
        id(model): _once(partial(_adopted, model)) for model, _ in models
    }
    return [
        LocalBackend(name, partial(_joined, shared[id(model)], model, tokenizer))
        for name, (model, tokenizer) in zip(unique, models, strict=True)
    ]


def load_with_progress(backends: Sequence[Backend]) -> None:
    """Load each backend, with a progress bar on standard error if it is a terminal.

    What is not on this machine is downloaded first, for all models at the same time.
    """
    waiting = [
        backend for backend in backends if not (isinstance(backend, LocalBackend) and backend.ready)
    ]
    console = Console(stderr=True)
    if not waiting or not console.is_terminal:
        return load_quietly(waiting)
    with LoadingScreen(console, len(waiting)) as screen:
        _download(waiting, screen)
        for backend in waiting:
            screen.load(backend.name)
            backend.load()
            screen.loaded()


def _download(backends: Sequence[Backend], screen: LoadingScreen) -> None:
    """Download all models, each in a thread. Raises the first error."""
    jobs: list[Future[None]] = []
    for backend in backends:
        if isinstance(backend, LocalBackend):
            job: Future[None] = Future()
            jobs.append(job)
            # Not threads of a pool: Ctrl-C would wait for them.
            run = partial(_settle, job, backend, screen.watcher(backend.name))
            Thread(target=run, name="specfuse-download", daemon=True).start()
    for job in jobs:
        job.result()


def _settle(job: Future[None], backend: LocalBackend, watcher: ModelDownload) -> None:
    try:
        backend.download(watcher)
        job.set_result(None)
    except BaseException as error:
        job.set_exception(error)
    finally:
        watcher.finish()


def _downloaded(config: ModelConfig, watcher: ModelDownload) -> None:
    look_up(config)
    download(with_base(config), watcher)


def _loaded(config: ModelConfig) -> tuple[LoadedModel, ChatTemplate]:
    look_up(config)
    config = with_base(config)
    # Again: a directory may be gone by now.
    check_location(config)
    return load_model(config)


def _stored(config: ModelConfig) -> ModelReport:
    """Describe a model before it is loaded."""
    report = ModelReport("", config.path, adapter=config.adapter)
    try:
        look_up(config)
        config = with_base(config)
        return replace(
            report,
            adapter=config.adapter,
            template_source=stored_template(config),
            weights=_memory(config),
        )
    except ModelLoadError as error:
        return report.failing(error)


def _memory(config: ModelConfig) -> WeightsReport | None:
    """Return the memory that the weights of a model will need; None if it is not known."""
    # The memory is not known of weights that are spread over devices or quantized while loading,
    # and weights that are shared need no more of it.
    spread = config.device_map is not None or config.max_memory is not None
    if spread or config.quantization_config or is_loaded(config):
        return None
    device = device_of(config)
    counts = stored_counts(config)
    if folder_of(config) is None:
        counts = remote_counts(config)
    return stored_weights(config, counts, str(device), free_memory(device))


def _pair(place: int, given: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if hasattr(given, "model") and hasattr(given, "tokenizer"):
        # A pipeline of transformers.
        given = given.model, given.tokenizer
    match given:
        case (model, tokenizer) if hasattr(model, "generate") and _is_tokenizer(tokenizer):
            return model, tokenizer
        case (model, processor) if hasattr(model, "generate") and hasattr(processor, "tokenizer"):
            return model, processor.tokenizer
        case str() | PathLike():
            hint = " To load a model by name or directory, use from_pretrained([...])."
        case _:
            hint = ""
    raise InvalidOptionError(
        f"model {place} of from_models is not a pair of a loaded causal LM and its tokenizer; use "
        f"from_models([(model, tokenizer), ...]).{hint}"
    )


def _is_tokenizer(given: Any) -> bool:
    # Processors of images have a chat template and a tokenizer.
    return hasattr(given, "apply_chat_template") and not hasattr(given, "tokenizer")


def _adopted(model: PreTrainedModel) -> LoadedModel:
    model.eval()
    return LoadedModel(Runner(model))


def _joined(
    loaded: Callable[[], LoadedModel], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> tuple[LoadedModel, ChatTemplate]:
    return loaded(), template_of(model, tokenizer)


def _once(make: Callable[[], LoadedModel]) -> Callable[[], LoadedModel]:
    made: list[LoadedModel] = []

    def get() -> LoadedModel:
        if not made:
            made.append(make())
        return made[0]

    return get
