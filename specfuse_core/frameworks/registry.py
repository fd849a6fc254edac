"""Engines that the whole process shares, one for each set of models.

Frameworks often copy and rebuild model objects, and weights must not be loaded again for that. An
engine stays until it is released.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from specfuse_core.bundled import bundled_models
from specfuse_core.config import ModelConfig
from specfuse_core.errors import EmptyEnsembleError
from specfuse_core.fusion import FusionEngine
from specfuse_core.models.naming import default_name, unique_names
from specfuse_core.values import listed

__all__ = [
    "ModelSpec",
    "description",
    "model_configs",
    "model_names",
    "release_engines",
    "shared_engine",
]

#: A base model: a hub id, a directory, or a configuration.
ModelSpec = str | PathLike[str] | ModelConfig | Mapping[str, Any]

_lock = threading.Lock()
_engines: dict[tuple[object, ...], FusionEngine] = {}
#: The marks of engines that no other process can have.
_marks: WeakKeyDictionary[FusionEngine, str] = WeakKeyDictionary()


def model_configs(models: Sequence[ModelSpec] | ModelSpec | None) -> tuple[ModelConfig, ...]:
    """Return the configurations of ``models``; of the bundled models if it is None.

    Raises:
        EmptyEnsembleError: if the list is empty.
        ConfigError: if an entry is not a model.
    """
    if models is None:
        return tuple(ModelConfig(path=str(path), device="cpu") for path in bundled_models())
    if isinstance(models, str | PathLike | ModelConfig | Mapping):
        models = [models]
    if not models:
        raise EmptyEnsembleError(
            "models must have at least one model. Leave models out to use the bundled models."
        )
    return tuple(ModelConfig.of(model) for model in listed(models, "models", "models"))


def model_names(models: Sequence[ModelSpec] | ModelSpec | None) -> tuple[str, ...]:
    """Return the names that these models have in an engine. It loads nothing, not even torch.

    Raises:
        DuplicateNameError: if two models have the same name. Other errors are those of
            :func:`model_configs`.
    """
    configs = model_configs(models)
    return tuple(unique_names([(config.name, default_name(config)) for config in configs]))


def shared_engine(
    models: Sequence[ModelSpec] | ModelSpec | None = None,
    *,
    drafters: Sequence[str] | None = None,
    verifiers: Sequence[str] | None = None,
    parallel: bool = False,
) -> FusionEngine:
    """Return the shared engine over these models. It loads the models at the first request.

    The errors are those of :meth:`FusionEngine.from_pretrained`.
    """
    configs = model_configs(models)
    key = (
        tuple(map(_key, configs)),
        None if drafters is None else tuple(drafters),
        None if verifiers is None else tuple(verifiers),
        parallel,
    )
    with _lock:
        if key not in _engines:
            _engines[key] = FusionEngine.from_pretrained(
                configs, drafters=drafters, verifiers=verifiers, parallel=parallel
            )
        return _engines[key]


def release_engines() -> None:
    """Forget all shared engines. Weights are freed when nothing else uses them."""
    with _lock:
        _engines.clear()


def description(engine: FusionEngine) -> str:
    """Describe what an engine consists of, as text for the keys of caches.

    Engines over the same named models have the same description in all processes. An engine over
    loaded models, or over backends of another kind, has a description that no other engine has.
    """
    # Only the backends of named models have a source.
    sources = [getattr(backend, "source", None) for backend in engine.backends]
    parts = [
        backend.name if source is None else f"{backend.name}: {_key(source)}"
        for backend, source in zip(engine.backends, sources, strict=True)
    ]
    if None in sources:
        with _lock:
            parts.append(f"mark={_marks.setdefault(engine, uuid4().hex)}")
    roles = f"drafters={engine.drafters}, verifiers={engine.verifiers}"
    return f"{FusionEngine.__name__}({', '.join(parts)}, {roles}, weights={dict(engine.weights)})"


def _key(config: ModelConfig) -> str:
    paths = {name: getattr(config, name) for name in ("path", "adapter", "tokenizer")}
    return repr(config.replace(**{name: _place(path) for name, path in paths.items() if path}))


def _place(path: str) -> str:
    directory = Path(path).expanduser()
    try:
        return str(directory.resolve()) if directory.is_dir() else path
    except OSError:
        # The name is too long. Loading reports it.
        return path
