"""Names or loaded models -> FusionEngine: the one file that joins the layers.

Loading is lazy (at the first request, or with ``warm_up=True``), happens once, and shows its
progress on a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from specfuse_core.backend import Backend
from specfuse_core.bundled import bundled_models
from specfuse_core.config import FusionConfig, ModelConfig
from specfuse_core.declared import declared_window
from specfuse_core.errors import InvalidOptionError
from specfuse_core.fusion import FusionEngine
from specfuse_core.hf import (
    LoadedModel,
    LocalBackend,
    Runner,
    check_location,
    load_model,
    template_of,
)
from specfuse_core.hf.template import ChatTemplate
from specfuse_core.naming import last_part, unique_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["bundled", "from_models", "from_pretrained"]


def from_pretrained(
    models: Sequence[str | PathLike[str] | ModelConfig | Mapping[str, Any]],
    config: FusionConfig | None = None,
    *,
    drafters: Sequence[str] | None = None,
    verifiers: Sequence[str] | None = None,
    parallel: bool = False,
    warm_up: bool = False,
    progress: bool = True,
) -> FusionEngine:
    """An engine over models named by hub id, local path or ``ModelConfig`` (or a mapping like it).

    A model that is listed twice is loaded once, and drafts with other random numbers under its
    second name (a self-ensemble).

    Args:
        models: at least one.
        config: the algorithm's knobs.
        drafters: names of the models that draft; all by default.
        verifiers: names of the models that verify; all by default.
        parallel: one thread per model.
        warm_up: load now, not at the first request.
        progress: show a progress bar on standard error, if that is a terminal.

    Raises:
        ConfigError: for an empty list, an unknown option or doubled names.
        ModelLoadError: for a path that holds no model, or, with ``warm_up``, one that fails.
    """
    if isinstance(models, str | PathLike | ModelConfig | Mapping):
        models = [models]
    configs = [ModelConfig.of(model) for model in models]
    for model in configs:
        check_location(model)
    names = unique_names([(model.name, last_part(model.path)) for model in configs])
    backends = [
        LocalBackend(name, partial(load_model, model), declared_window(model))
        for name, model in zip(names, configs, strict=True)
    ]
    weights = {name: model.weight for name, model in zip(names, configs, strict=True)}
    return _engine(backends, config, drafters, verifiers, weights, parallel, warm_up, progress)


def from_models(
    models: Sequence[tuple[PreTrainedModel, PreTrainedTokenizerBase]],
    config: FusionConfig | None = None,
    *,
    names: Sequence[str] | None = None,
    drafters: Sequence[str] | None = None,
    verifiers: Sequence[str] | None = None,
    parallel: bool = False,
    warm_up: bool = False,
    progress: bool = True,
) -> FusionEngine:
    """An engine over models that are already loaded; they are put in eval mode.

    Args:
        models: pairs of a causal LM and its tokenizer.
        names: their names in the ensemble; by default the last part of where they came from.

    The other arguments and errors are those of :func:`from_pretrained`, and ``InvalidOptionError``
    for what is not a pair of a model and its tokenizer.
    """
    models = [_pair(place, given) for place, given in enumerate(models, start=1)]
    if names is not None and len(names) != len(models):
        raise InvalidOptionError(f"{len(models)} models were given, but {len(names)} names.")
    given: Sequence[str | None] = names or [None] * len(models)
    unique = unique_names(
        [
            (name, last_part(model.config.name_or_path or model.config.model_type))
            for name, (model, _) in zip(given, models, strict=True)
        ]
    )
    # Copies of one model share what is measured of it.
    shared: dict[int, Callable[[], LoadedModel]] = {
        id(model): _once(partial(_adopted, model)) for model, _ in models
    }
    backends = [
        LocalBackend(name, partial(_joined, shared[id(model)], model, tokenizer))
        for name, (model, tokenizer) in zip(unique, models, strict=True)
    ]
    return _engine(backends, config, drafters, verifiers, {}, parallel, warm_up, progress)


def bundled(config: FusionConfig | None = None, **options: Any) -> FusionEngine:
    """An engine over the small models that come with the package: no download.

    Options and errors: those of :func:`from_pretrained`.
    """
    models = [ModelConfig(path=str(path), device="cpu") for path in bundled_models()]
    return from_pretrained(models, config, **options)


def _engine(
    backends: Sequence[LocalBackend],
    config: FusionConfig | None,
    drafters: Sequence[str] | None,
    verifiers: Sequence[str] | None,
    weights: dict[str, float],
    parallel: bool,
    warm_up: bool,
    progress: bool,
) -> FusionEngine:
    engine = FusionEngine(
        backends,
        config,
        drafters=drafters,
        verifiers=verifiers,
        weights=weights,
        executor=ThreadPoolExecutor(len(backends), "specfuse") if parallel and backends else None,
        loader=_load_with_progress if progress else _load_quietly,
    )
    if warm_up:
        engine.warm_up()
    return engine


def _load_quietly(backends: Sequence[Backend]) -> None:
    for backend in backends:
        backend.load()


def _load_with_progress(backends: Sequence[Backend]) -> None:
    waiting = [
        backend for backend in backends if not (isinstance(backend, LocalBackend) and backend.ready)
    ]
    console = Console(stderr=True)
    if not waiting or not console.is_terminal:
        return _load_quietly(waiting)
    columns = (
        SpinnerColumn(),
        TextColumn("loading {task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=len(waiting))
        for backend in waiting:
            bar.update(task, description=backend.name)
            backend.load()
            bar.advance(task)


def _is_tokenizer(given: Any) -> bool:
    return hasattr(given, "apply_chat_template")


def _pair(place: int, given: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    match given:
        case (model, tokenizer) if hasattr(model, "generate") and _is_tokenizer(tokenizer):
            return model, tokenizer
        case str() | PathLike():
            hint = "; for names and directories there is from_pretrained([...])"
        case _:
            hint = ""
    raise InvalidOptionError(
        f"model {place} of from_models is not a pair of a loaded causal LM and its tokenizer; give "
        f"from_models([(model, tokenizer), ...]){hint}."
    )


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
