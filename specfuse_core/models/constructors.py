"""The constructors of an engine: from named models, from loaded models, or from the bundled ones.

This module knows nothing of rounds. Importing it does not load torch: the functions that load
models are in ``load``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from os import PathLike
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from specfuse_core.backend import Backend
from specfuse_core.bundled import bundled_models
from specfuse_core.config import FusionConfig, ModelConfig, unknown_option
from specfuse_core.models.location import located
from specfuse_core.models.roster import Loader, load_quietly

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Constructors", "EnsembleOptions"]


class EnsembleOptions(TypedDict, total=False):
    """Keyword arguments of ``FusionEngine.from_pretrained``, ``from_models`` and ``bundled``."""

    drafters: Sequence[str] | None
    verifiers: Sequence[str] | None
    parallel: bool
    warm_up: bool
    progress: bool


class Constructors(ABC):
    """The constructors of an engine besides ``__init__``."""

    @abstractmethod
    def __init__(
        self,
        backends: Sequence[Backend],
        config: FusionConfig | None = None,
        *,
        drafters: Sequence[str] | None = None,
        verifiers: Sequence[str] | None = None,
        weights: Mapping[str, float] | None = None,
        executor: Executor | None = None,
        loader: Loader = load_quietly,
    ) -> None: ...

    @abstractmethod
    def warm_up(self) -> None:
        """Load all base models now instead of at the first request."""

    @classmethod
    def from_pretrained(
        cls,
        models: Sequence[str | PathLike[str] | ModelConfig | Mapping[str, Any]],
        config: FusionConfig | None = None,
        **options: Unpack[EnsembleOptions],
    ) -> Self:
        """Create an engine from hub ids, local paths or ``ModelConfig`` objects.

        A model that is listed twice is loaded once, and so is the base model of several adapters
        (``ModelConfig(path=..., adapter=...)``). Each entry has its own name and its own random
        numbers, so that one model can form an ensemble with itself.

        Args:
            models: one or more models, each a hub id, a local path, a ``ModelConfig`` or a mapping
                with the fields of one.
            config: options of the fusion algorithm.
            drafters: names of the models that draft; all by default.
            verifiers: names of the models that verify; all by default.
            parallel: whether each model runs in its own thread; False by default.
            warm_up: whether to load the models now instead of at the first request; False by
                default.
            progress: whether to show a progress bar on standard error while models load, if it is
                a terminal; True by default.

        Raises:
            ConfigError: if the list is empty, or an option or a name is invalid.
            ModelLoadError: if a path contains no model or adapter, if offline mode is on and a hub
                id is not in the cache, or if ``warm_up`` is set and a model could not be loaded.
        """
        _check_options("from_pretrained", options)
        configs = located(models)
        # Imported here because it loads torch, which importing specfuse_core must not do.
        from specfuse_core.models.load import load_with_progress, named

        backends, weights = named(configs)
        return cls._assembled(backends, weights, config, load_with_progress, options)

    @classmethod
    def from_models(
        cls,
        models: Sequence[tuple[PreTrainedModel, PreTrainedTokenizerBase]],
        config: FusionConfig | None = None,
        *,
        names: Sequence[str] | None = None,
        **options: Unpack[EnsembleOptions],
    ) -> Self:
        """Create an engine from models that are already loaded, and put them in eval mode.

        The other keyword arguments are those of :meth:`from_pretrained`.

        Args:
            models: pairs of a causal LM and its tokenizer, or pipelines of transformers.
            config: options of the fusion algorithm.
            names: one name per model; by default the last part of its ``name_or_path``.

        Raises:
            ConfigError: if the list is empty, an entry is not a pair of a model and its tokenizer,
                or an option or a name is invalid.
            ModelLoadError: if two models share a base model and the same adapter, or ``warm_up`` is
                set and a model cannot be used.
        """
        # Imported here because it loads torch, which importing specfuse_core must not do.
        from specfuse_core.models.load import adopted, load_with_progress

        _check_options("from_models", options)
        return cls._assembled(adopted(models, names), {}, config, load_with_progress, options)

    @classmethod
    def bundled(
        cls, config: FusionConfig | None = None, **options: Unpack[EnsembleOptions]
    ) -> Self:
        """Create an engine from the small models that the package includes, without a download.

        Args:
            config: options of the fusion algorithm.
            options: keyword arguments of :meth:`from_pretrained`.

        Raises:
            ConfigError: if an option or a name is invalid.
        """
        models = [ModelConfig(path=str(path), device="cpu") for path in bundled_models()]
        return cls.from_pretrained(models, config, **options)

    @classmethod
    def _assembled(
        cls,
        backends: Sequence[Backend],
        weights: Mapping[str, float],
        config: FusionConfig | None,
        loader: Loader,
        options: EnsembleOptions,
    ) -> Self:
        engine = cls(
            backends,
            config,
            drafters=options.get("drafters"),
            verifiers=options.get("verifiers"),
            weights=weights,
            executor=_threads(backends) if options.get("parallel") else None,
            loader=loader if options.get("progress", True) else load_quietly,
        )
        if options.get("warm_up"):
            engine.warm_up()
        return engine


def _check_options(method: str, options: EnsembleOptions) -> None:
    """Check that all keyword arguments of ``method`` exist.

    Raises:
        UnknownOptionError: if one does not exist.
    """
    known = list(EnsembleOptions.__annotations__)
    for name in options:
        if name not in known:
            raise unknown_option(method, name, known)


def _threads(backends: Sequence[Backend]) -> Executor | None:
    return ThreadPoolExecutor(len(backends), "specfuse") if backends else None
