"""What a fused chat model is made of: its fields, its engine, and what it tells of itself.

This module runs no request; nothing here imports torch before an engine is asked for.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal, Self, cast
from uuid import uuid4
from weakref import WeakKeyDictionary

from langchain_core.language_models import ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage
from pydantic import Field, model_validator

from langchain_specfuse._chunks import PROVIDER, Detail
from langchain_specfuse._messages import turns_of
from langchain_specfuse._options import KNOBS, SAMPLING, check_fields, given
from langchain_specfuse._tools import described, tools_of
from specfuse_core import FusionConfig, FusionEngine, ModelConfig, SamplingParams, __version__
from specfuse_core.config import ScoreMode
from specfuse_core.deadline import Deadline
from specfuse_core.declared import declared_window
from specfuse_core.errors import InvalidLimitError, InvalidOptionError
from specfuse_core.registry import model_configs, model_names, shared_engine

__all__ = ["Ensemble"]

#: Tells engines apart that were not made from a configuration, for caches.
_marks: WeakKeyDictionary[FusionEngine, str] = WeakKeyDictionary()


class _Resolved(dict[str, Any]):
    """A profile that nobody gave: it follows from the models."""


class Ensemble(BaseChatModel):
    """The part of ``ChatSpecFuse`` that is there before any answer is."""

    models: list[str | PathLike[str] | ModelConfig | builtins.dict[str, Any]] | None = None
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
    """Seconds from an answer's first round on; then the models stop within a round, and
    :class:`langchain_specfuse.errors.ChatTimeoutError`, a ``TimeoutError``, is raised."""
    streaming: bool | None = None
    """True streams within ``invoke``, False never streams; by default whoever watches decides."""
    fusion_metadata: Detail = "summary"
    """What answers tell of their making: ``"summary"`` is ``response_metadata["specfuse"]``,
    ``"rounds"`` adds ``additional_kwargs["specfuse_rounds"]``, ``"off"`` is neither."""

    @model_validator(mode="before")
    @classmethod
    def _known_options(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields = check_fields(data, cls.model_fields)
        if isinstance(fields.get("profile"), _Resolved):
            # From the model that this one is a reconfigured copy of.
            del fields["profile"]
        if isinstance(fields.get("models"), str | PathLike | ModelConfig):
            fields["models"] = [fields["models"]]
        return fields

    @model_validator(mode="after")
    def _usable_options(self) -> Self:
        if self.engine is not None and self.models is not None:
            raise InvalidOptionError(
                "ChatSpecFuse: models and engine were both given; give one of them."
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

    @model_validator(mode="after")
    def _set_specfuse_version(self) -> Self:
        self._add_version("langchain-specfuse", __version__)
        return self

    @property
    def _llm_type(self) -> str:
        return PROVIDER

    @property
    def model_name(self) -> str:
        """Names of the base models with commas between; a call's ``model`` takes the same."""
        return ",".join(self.engine.models if self.engine else model_names(self.models))

    def _values(self, call: builtins.dict[str, Any] | None = None) -> builtins.dict[str, Any]:
        """The fields, replaced by what a call says."""
        return {**{name: getattr(self, name) for name in type(self).model_fields}, **(call or {})}

    def _knobs(self, values: builtins.dict[str, Any]) -> builtins.dict[str, Any]:
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

    def _fusion(self, call: builtins.dict[str, Any]) -> FusionEngine:
        """The engine for one call."""
        engine = self._base().with_config(**self._knobs(self._values(call)))
        chosen = call.get("model")
        if chosen is None:
            return engine
        names = chosen.split(",") if isinstance(chosen, str) else chosen
        return engine.subset([name.strip() for name in names])

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        values = self._values(kwargs)
        chosen = kwargs.get("model") or self.model_name
        params = LangSmithParams(
            ls_provider=PROVIDER,
            ls_model_name=chosen if isinstance(chosen, str) else ",".join(chosen),
            ls_model_type="chat",
        )
        if values["temperature"] is not None:
            params["ls_temperature"] = values["temperature"]
        if values["max_tokens"] is not None:
            params["ls_max_tokens"] = values["max_tokens"]
        if ends := stop or self.stop:
            params["ls_stop"] = [ends] if isinstance(ends, str) else list(ends)
        return params

    @property
    def _identifying_params(self) -> builtins.dict[str, Any]:
        values = self._values()
        config = self.engine.config if self.engine else FusionConfig()
        return {
            "model": self.model_name,
            "drafters": self.drafters,
            "verifiers": self.verifiers,
            **config.replace(**self._knobs(values)).model_dump(),
            **given(values, (*SAMPLING, "max_tokens", "timeout")),
            "stop": self.stop,
        }

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        if self.engine is None:
            made = repr([config.model_dump() for config in model_configs(self.models)])
        else:
            # Nothing else tells two engines apart whose models have the same names.
            made = _marks.setdefault(self.engine, uuid4().hex)
        params = {**self._identifying_params, "metadata": self.fusion_metadata, **kwargs}
        params["stop"] = stop if stop is not None else self.stop
        return f"{PROVIDER}{made}{sorted(params.items())}"

    def _resolve_model_profile(self) -> ModelProfile | None:
        profile = _Resolved(
            text_inputs=True,
            image_inputs=False,
            audio_inputs=False,
            video_inputs=False,
            text_outputs=True,
            reasoning_output=True,
            tool_calling=True,
            tool_choice=True,
            tool_call_streaming=True,
            structured_output=True,
        )
        window = self._window()
        if window is not None:
            profile["max_input_tokens"] = window
        return cast(ModelProfile, profile)

    def _window(self) -> int | None:
        if self.engine is not None:
            return self.engine.declared_window
        windows = [declared_window(config) for config in model_configs(self.models)]
        return min((window for window in windows if window is not None), default=None)

    def get_token_ids(self, text: str) -> list[int]:
        """``text`` in tokens of the first base model."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return list(self._base().backends[0].token_ids(text))

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Length of the whole prompt, tools and all, in tokens of the first base model."""
        forms = described(tools or ())
        return self._base().count_prompt_tokens(turns_of(messages), tools_of(forms))
