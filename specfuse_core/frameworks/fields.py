"""What a framework's model over an ensemble is set with, and the engine that follows from it.

The fields of both integrations, for their own pydantic classes to inherit. Nothing here imports
torch before an engine runs, and no framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from specfuse_core.answer.deadline import Deadline
from specfuse_core.config import FusionConfig, ModelConfig, SamplingParams, ScoreMode
from specfuse_core.errors import InvalidLimitError, InvalidOptionError
from specfuse_core.frameworks.arguments import KNOBS, SAMPLING, check_fields, given
from specfuse_core.frameworks.registry import model_configs, model_names, shared_engine
from specfuse_core.fusion import FusionEngine
from specfuse_core.models.declared import declared_window

__all__ = ["EngineFields"]


class EngineFields(BaseModel):
    """The fields that say which base models answer, and how."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    models: list[str | PathLike[str] | ModelConfig | dict[str, Any]] | None = None
    """Base models: hub ids, directories or ``ModelConfig``; None is the bundled ensemble."""
    engine: FusionEngine | None = Field(default=None, exclude=True, repr=False)
    """An engine that is there already, instead of ``models``."""
    drafters: list[str] | None = None
    """Names of the models that draft; all by default."""
    verifiers: list[str] | None = None
    """Names of the models that verify; all by default."""
    parallel: bool = False
    """A thread for each base model."""

    method: Literal["specem", "specfuse"] | None = None
    segment_tokens: int | None = None
    call_segment_tokens: int | None = Field(default=256, validate_default=False)
    score_mode: ScoreMode | None = None
    self_vote: bool | None = None
    online_feedback: bool | None = None
    learning_rate: float | None = None
    model_exit: bool | None = None
    exit_temperature: float | None = None
    exit_threshold: float | None = None
    exit_warmup: int | None = None
    exit_recall: float | None = None
    min_models: int | None = None

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None

    max_tokens: int | None = None
    """Limit of an answer, in tokens of the first base model."""
    stop: list[str] | str | None = None
    """Texts that end an answer."""
    timeout: float | None = None
    """Seconds from an answer's first round on; then the models stop within a round, and an error is
    raised that is also a ``TimeoutError``."""

    @model_validator(mode="before")
    @classmethod
    def _known_options(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields = check_fields(cls.__name__, data, cls.model_fields)
        if isinstance(fields.get("models"), str | PathLike | ModelConfig):
            fields["models"] = [fields["models"]]
        return fields

    @model_validator(mode="after")
    def _usable_options(self) -> Self:
        if self.engine is not None and self.models is not None:
            raise InvalidOptionError(
                f"{type(self).__name__}: models and engine were both given; give one of them."
            )
        if self.engine is None:
            model_configs(self.models)
        elif "call_segment_tokens" not in self.model_fields_set:
            self.call_segment_tokens = self.engine.config.call_segment_tokens
        FusionConfig(**self._knobs(self._values()))
        SamplingParams(**given(self._values(), SAMPLING))
        Deadline(self.timeout)
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InvalidLimitError(f"max_tokens must be at least 1, got {self.max_tokens}.")
        return self

    @property
    def model_name(self) -> str:
        """Names of the base models with commas between; a call's ``model`` takes the same."""
        return ",".join(self.engine.models if self.engine else model_names(self.models))

    def _values(self, call: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The fields, replaced by what a call says."""
        return {**{name: getattr(self, name) for name in type(self).model_fields}, **(call or {})}

    def _knobs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        # None is a value of this one.
        return {**given(values, KNOBS), "call_segment_tokens": values["call_segment_tokens"]}

    def _base(self) -> FusionEngine:
        if self.engine is not None:
            return self.engine
        return shared_engine(
            self.models,
            drafters=self.drafters,
            verifiers=self.verifiers,
            parallel=self.parallel,
        )

    def _fusion(self, call: Mapping[str, Any]) -> FusionEngine:
        """The engine for one call."""
        engine = self._base().with_config(**self._knobs(self._values(call)))
        chosen = call.get("model")
        if chosen is None:
            return engine
        names = chosen.split(",") if isinstance(chosen, str) else chosen
        return engine.subset([name.strip() for name in names])

    def _alone(self, name: str) -> dict[str, Any]:
        """What a model over one base model alone is made with, else set as this one is.

        Raises:
            UnknownModelError: for a name that none has.
        """
        dropped = ("models", "drafters", "verifiers", "parallel")
        kept = {field: getattr(self, field) for field in self.model_fields_set - set(dropped)}
        return {**kept, "engine": self._base().subset([name])}

    def _windows(self) -> list[int | None]:
        """The context window of each base model; None where it is not known without loading."""
        if self.engine is not None:
            return [backend.declared_window for backend in self.engine.backends]
        return [declared_window(config) for config in model_configs(self.models)]

    def _window(self) -> int | None:
        """The smallest context window, as far as it is known without loading."""
        known = [window for window in self._windows() if window is not None]
        return min(known, default=None)
