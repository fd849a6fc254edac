"""LoadedModel: a model that runs, with the method that keeps what it has read.

This module knows nothing of tokenizers or requests.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Mapping
from typing import ClassVar

import transformers
from transformers import PreTrainedModel

from specfuse_core.errors import SlowMethodWarning
from specfuse_core.hf.context import Context
from specfuse_core.hf.probe import METHODS, MethodChoice, choose_method
from specfuse_core.hf.runner import Runner

__all__ = ["LoadedModel"]


class LoadedModel:
    """A loaded model and its context method.

    Args:
        runner: the model.
        method: name of a context method. By default the fastest correct method is measured, with a
            :class:`SlowMethodWarning` if it is slower than a model of this kind needs.
        base: the model whose weights it shares, which others may share as long as it is in use.
        trained_on: the base model that its adapter was trained on, if that seems to be another one.
    """

    #: The choice for each model. A measurement changes the attention window temporarily, which must
    #: not happen while another engine runs the same model.
    _measured: ClassVar[weakref.WeakKeyDictionary[PreTrainedModel, MethodChoice]] = (
        weakref.WeakKeyDictionary()
    )
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        runner: Runner,
        method: str | None = None,
        *,
        base: PreTrainedModel | None = None,
        trained_on: str | None = None,
    ) -> None:
        self.runner = runner
        self.base = base
        self.trained_on = trained_on
        self._choice = self._measure(runner) if method is None else MethodChoice(method, {}, False)

    @classmethod
    def _measure(cls, runner: Runner) -> MethodChoice:
        with cls._lock:
            known = cls._measured.get(runner.model)
            choice = cls._measured[runner.model] = known or choose_method(runner)
        if choice.slow and known is None:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in choice.failures.items())
            warnings.warn(
                f"{runner.name} runs with the method {choice.method!r}, which is slower than a "
                f"model of its kind needs, because the faster methods failed ({reasons}). Try "
                "another attn_implementation or dtype, or report the model with the version of "
                f"transformers ({transformers.__version__}).",
                SlowMethodWarning,
                stacklevel=3,
            )
        return choice

    @property
    def method(self) -> str:
        """Name of the context method."""
        return self._choice.method

    @property
    def failures(self) -> Mapping[str, str]:
        """Reason why each faster method failed, by the name of the method."""
        return self._choice.failures

    @property
    def slow(self) -> bool:
        """Whether a model of this kind should be able to use a faster method."""
        return self._choice.slow

    def context(self, capacity: int) -> Context:
        """Create an empty context with memory for ``capacity`` ids.

        It runs with the adapters that are active now.

        Raises:
            ModelLoadError: if the adapters that are active in the model cannot be used.
        """
        self.runner.follow()
        return METHODS[self.method](self.runner, capacity)
