"""The fields of ChatSpecFuse, its profile, and its parameters for tracing and caching.

This module runs no request. It does not import torch before an engine is needed.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any, Self, cast

from langchain_core.language_models import ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage
from pydantic import model_validator

from langchain_specfuse._chunks import PROVIDER, Detail
from langchain_specfuse._messages import turns_of
from langchain_specfuse._tools import described, tools_of
from specfuse_core import FusionConfig, __version__
from specfuse_core.answer.limits import DEFAULT_TOKENS
from specfuse_core.errors import InvalidMessageError
from specfuse_core.frameworks.arguments import SAMPLING, given
from specfuse_core.frameworks.fields import EngineFields
from specfuse_core.frameworks.foreign import translated
from specfuse_core.frameworks.registry import description, model_configs
from specfuse_core.values import check_text, shown

__all__ = ["Ensemble"]


class _Resolved(dict[str, Any]):
    """A profile that was derived from the models instead of given by the user."""


class Ensemble(EngineFields, BaseChatModel):
    """The part of ``ChatSpecFuse`` that does not generate answers."""

    streaming: bool | None = None
    """Whether ``invoke`` streams the answer to callback handlers. By default it does so if a
    callback handler takes tokens."""
    fusion_metadata: Detail = "summary"
    """The fusion metadata of an answer: ``"summary"`` sets ``response_metadata["specfuse"]``,
    ``"rounds"`` also sets ``additional_kwargs["specfuse_rounds"]``, ``"off"`` sets neither."""

    @model_validator(mode="before")
    @classmethod
    def _fresh_profile(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("profile"), _Resolved):
            # It belongs to the model that this one is a reconfigured copy of.
            return {name: value for name, value in data.items() if name != "profile"}
        return data

    @model_validator(mode="after")
    def _set_specfuse_version(self) -> Self:
        self._add_version(PROVIDER, __version__)
        return self

    @property
    def _llm_type(self) -> str:
        return PROVIDER

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        call = translated(kwargs, (), sampled=True)
        values = self._values(call)
        chosen = call.get("model")
        if isinstance(chosen, list | tuple) and all(isinstance(name, str) for name in chosen):
            chosen = ",".join(chosen)
        # A value that is not valid raises its error when the request is read.
        name = chosen if isinstance(chosen, str) and chosen else self.model_name
        params = LangSmithParams(ls_provider=PROVIDER, ls_model_name=name, ls_model_type="chat")
        if values["temperature"] is not None:
            params["ls_temperature"] = values["temperature"]
        if values["max_tokens"] is not None:
            params["ls_max_tokens"] = values["max_tokens"]
        ends = stop or values["stop"]
        if isinstance(ends, str | list | tuple):
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
            **given(values, (*SAMPLING, "context_window", "max_tokens", "max_call_tokens")),
            **given(values, ("on_limit", "timeout")),
            "stop": self.stop,
        }

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        if self.engine is None:
            made = repr([config.model_dump() for config in model_configs(self.models)])
        else:
            made = description(self.engine)
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
            # A prompt needs room for one token of the answer.
            profile["max_input_tokens"] = window - 1
            profile["max_output_tokens"] = min(self.max_tokens or DEFAULT_TOKENS, window)
        return cast(ModelProfile, profile)

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids of ``text`` by the base model that needs the most tokens for it."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        if not isinstance(text, str):
            raise InvalidMessageError(f"the text to count must be a string, got {shown(text)}.")
        check_text(text, "the text to count", InvalidMessageError)
        return self._token_ids(text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Return the length of the prompt with its tools, by the model with the least room for it.

        A prompt fits all base models if it is at most ``profile["max_input_tokens"]``. See
        :meth:`specfuse_core.FusionEngine.count_prompt_tokens`.
        """
        return self._base().count_prompt_tokens(
            turns_of(messages),
            tools_of(described(tools or ())),
            context_window=self.context_window,
        )
