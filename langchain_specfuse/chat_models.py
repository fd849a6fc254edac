"""ChatSpecFuse: the fused ensemble as a LangChain chat model.

This module joins LangChain's calls to one stream of the engine. How messages, tools, chunks and
structured answers are converted stands in the modules beside it.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, closing
from operator import itemgetter
from os import PathLike
from typing import Any, Literal, Self
from uuid import uuid4
from weakref import WeakKeyDictionary

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel, generate_from_stream
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field, model_validator

from langchain_specfuse._chunks import PROVIDER, Chunks, Detail
from langchain_specfuse._events import Rounds
from langchain_specfuse._messages import turns_of
from langchain_specfuse._options import (
    KNOBS,
    SAMPLING,
    check_call,
    check_fields,
    given,
    request_options,
)
from langchain_specfuse._structured import CALLED, JSON, Method, parser_of, schema_of
from langchain_specfuse._tools import choice_of, described, tools_of
from langchain_specfuse.errors import both_names
from specfuse_core import FusionConfig, FusionEngine, ModelConfig, SamplingParams, __version__
from specfuse_core.config import ScoreMode
from specfuse_core.deadline import Deadline
from specfuse_core.declared import declared_window
from specfuse_core.errors import InvalidLimitError, InvalidOptionError
from specfuse_core.registry import model_configs, model_names, shared_engine

__all__ = ["ChatSpecFuse"]

#: Tells engines apart that were not made from a configuration, for caches.
_marks: WeakKeyDictionary[FusionEngine, str] = WeakKeyDictionary()


class ChatSpecFuse(BaseChatModel):
    """One chat model made of several: they write each answer together, segment by segment.

    Weights are loaded at the first answer, and once per process: copies, bindings and
    reconfigured models share them. Whatever is not set follows the engine's own defaults.

    Every field from ``method`` to ``seed``, and ``max_tokens``, ``stop`` and ``timeout``, can also
    be given to a single call; so can ``model`` (a name, several with commas between, or a list): a
    subset of the models.

    Errors are :class:`specfuse_core.FusionError`.
    """

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

    def as_single(self, name: str) -> ChatSpecFuse:
        """The same chat model with one base model of the ensemble alone.

        Raises:
            UnknownModelError: for a name that none has.
        """
        fields = {field: getattr(self, field) for field in self.model_fields_set}
        alone = self._base().subset([name])
        dropped = ("models", "drafters", "verifiers", "parallel", "profile")
        kept = {field: value for field, value in fields.items() if field not in dropped}
        return type(self)(**{**kept, "engine": alone})

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

    def _asked(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, call: builtins.dict[str, Any]
    ) -> tuple[FusionEngine, builtins.dict[str, Any], Deadline, Chunks]:
        """What one call needs: the engine, its request, its time, and the form of its answer."""
        check_call(call)
        values = self._values(call)
        engine = self._fusion(call)
        deadline = Deadline(values["timeout"])
        options = request_options(values, stop if stop is not None else self.stop)
        options |= {"conversation": turns_of(messages), "cancel": deadline}
        return engine, options, deadline, Chunks(",".join(engine.models), self.fusion_metadata)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        engine, options, deadline, chunks = self._asked(messages, stop, kwargs)
        rounds = Rounds()
        with both_names(), closing(engine.stream(**options)) as segments:
            for segment in segments:
                if segment.finish_reason == "cancelled":
                    deadline.check()
                rounds.tell(segment)
                yield from chunks.feed(segment)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        # The first call imports torch, which takes seconds.
        asked = await asyncio.to_thread(self._asked, messages, stop, kwargs)
        engine, options, deadline, chunks = asked
        rounds = Rounds()
        with both_names():
            async with aclosing(engine.astream(**options)) as segments:
                async for segment in segments:
                    if segment.finish_reason == "cancelled":
                        deadline.check()
                    await rounds.atell(segment)
                    for chunk in chunks.feed(segment):
                        yield chunk

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        stream = self._astream(messages, stop, run_manager, **kwargs)
        return generate_from_stream(iter([chunk async for chunk in stream]))

    def bind_tools(
        self,
        tools: Sequence[builtins.dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: builtins.dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        response_format: Any = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """This model, with tools that it may call.

        Args:
            tools: functions, pydantic or ``TypedDict`` classes, ``BaseTool``s or schemas.
            tool_choice: ``"auto"``, ``"any"`` or ``"required"`` or True (a call), ``"none"``, a
                tool's name, or OpenAI's or Anthropic's mapping.
            strict: True makes all arguments required, as OpenAI does; calls obey their schema
                anyway.
            parallel_tool_calls: False allows one call per answer.
            response_format: what an answer that calls nothing must look like: OpenAI's mapping, or
                a schema or class.
            kwargs: any other argument of a call.

        Raises:
            InvalidToolError: for what describes no tool.
            UnknownToolError: if ``tool_choice`` names none of them.
        """
        bound: builtins.dict[str, Any] = dict(kwargs)
        forms = described(tools, strict=strict)
        choice = choice_of(tool_choice, tools_of(forms))
        if forms:
            bound["tools"] = forms
        if tool_choice is not None:
            bound["tool_choice"] = choice
        if parallel_tool_calls is not None:
            bound["parallel_tool_calls"] = parallel_tool_calls
        if response_format is not None:
            bound["response_format"] = _response_format(response_format)
        return self.bind(**bound)

    def with_structured_output(
        self,
        schema: builtins.dict[str, Any] | type | None = None,
        *,
        method: Method = JSON,
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, builtins.dict[str, Any] | BaseModel]:
        """This model, with answers that are objects of ``schema``.

        The models can write nothing else. An answer that was cut off before it was a whole object
        is a parsing error; it is never mended.

        Args:
            schema: a pydantic class, a ``TypedDict`` class, or a JSON schema.
            method: ``"json_schema"`` and ``"json_mode"`` constrain the text; ``"function_calling"``
                forces the call of a tool, whose descriptions the models see.
            include_raw: give ``{"raw": ..., "parsed": ..., "parsing_error": ...}``.
            strict: as for :meth:`bind_tools`.
            kwargs: any other argument of a call.

        Raises:
            InvalidOptionError: for an unknown method, or without a schema where one is needed.
            InvalidConstraintError: for what has no schema.
        """
        if method not in (CALLED, JSON, "json_mode"):
            raise InvalidOptionError(
                f"method must be 'json_schema', 'function_calling' or 'json_mode', got {method!r}."
            )
        if schema is None and method != "json_mode":
            raise InvalidOptionError(f"method={method!r} needs a schema.")
        key = ""
        if schema is not None:
            traced = {"method": method, "strict": strict}
            kwargs["ls_structured_output_format"] = {"kwargs": traced, "schema": schema}
        if method == CALLED:
            key = convert_to_openai_tool(schema)["function"]["name"]  # type: ignore[arg-type]
            model = self.bind_tools(
                [schema],  # type: ignore[list-item]
                tool_choice=key,
                strict=strict,
                parallel_tool_calls=False,
                **kwargs,
            )
        else:
            form = {"type": "json_object"} if schema is None else _response_format(schema)
            model = self.bind(response_format=form, **kwargs)
        parser = parser_of(schema, method, key)
        if not include_raw:
            return model | parser
        parsed = RunnablePassthrough.assign(
            parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
        )
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=model) | parsed.with_fallbacks(
            [failed], exception_key="parsing_error"
        )

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
        profile = ModelProfile(
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
        return profile

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


def _response_format(form: Any) -> builtins.dict[str, Any]:
    """OpenAI's mapping of what is one already, or of a class or a schema."""
    if isinstance(form, dict) and form.get("type") in ("json_schema", "json_object", "text"):
        return form
    schema = schema_of(form)
    name = str(schema.get("title") or "answer")
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}
