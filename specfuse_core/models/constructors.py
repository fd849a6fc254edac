"""How an engine is made: of named models, of loaded models, or of the bundled ones.

Importing this module does not load torch; what loads models stands in ``load``.
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
        """An engine over models named by hub id, local path or ``ModelConfig`` (or its mapping).

        A model that is listed twice is loaded once. Under its second name it drafts with other
        random numbers (a self-ensemble).

        Args:
            models: at least one.
            config: the options of the algorithm.
            drafters: names of the models that draft; all by default.
            verifiers: names of the models that verify; all by default.
            parallel: run each model in a thread of its own (False by default).
            warm_up: load now, not at the first request (False by default).
            progress: show a progress bar on standard error, if that is a terminal (True by
                default).

        Raises:
            ConfigError: if the list is empty, or an option or a name is wrong.
            ModelLoadError: if a path holds no model, if offline mode is on and a hub id is not in
                the cache, or, with ``warm_up``, if a model fails to load.
        """
        _check_options("from_pretrained", options)
        configs = located(models)
        # Not at the top: this loads torch, and importing specfuse_core must not.
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
        """An engine over models that are already loaded; they are put in eval mode.

        Args:
            models: pairs of a causal LM and its tokenizer.
            config: the options of the algorithm.
            names: their names in the ensemble; by default the last part of ``name_or_path``.

        The other arguments and errors are those of :meth:`from_pretrained`.

        Raises:
            InvalidOptionError: if an entry is not a pair of a model and its tokenizer.
        """
        # Not at the top: this loads torch, and importing specfuse_core must not.
        from specfuse_core.models.load import adopted, load_with_progress

        _check_options("from_models", options)
        return cls._assembled(adopted(models, names), {}, config, load_with_progress, options)

    @classmethod
    def bundled(
        cls, config: FusionConfig | None = None, **options: Unpack[EnsembleOptions]
    ) -> Self:
        """An engine over the small models that come with the package. It needs no download.

        The arguments and errors are those of :meth:`from_pretrained`.
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
    """Refuse keyword arguments that do not exist.

    Raises:
        UnknownOptionError: naming ``method``, the argument and the nearest known one.
    """
    known = list(EnsembleOptions.__annotations__)
    for name in options:
        if name not in known:
            raise unknown_option(method, name, known)


def _threads(backends: Sequence[Backend]) -> Executor | None:
    return ThreadPoolExecutor(len(backends), "specfuse") if backends else None
