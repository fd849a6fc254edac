"""The fields that both integrations have, and the engine that they describe.

The pydantic classes of the integrations inherit them. This module knows no framework, and it does
not import torch before an engine runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_serializer,
    model_validator,
)

from specfuse_core.answer.deadline import Deadline
from specfuse_core.config import FusionConfig, ModelConfig, SamplingParams, ScoreMode
from specfuse_core.config.options import bad_value
from specfuse_core.errors import (
    InvalidLimitError,
    InvalidOptionError,
    NotPicklableError,
    UnknownModelError,
)
from specfuse_core.frameworks.arguments import KNOBS, SAMPLING, check_fields, given
from specfuse_core.frameworks.registry import (
    description,
    model_configs,
    model_names,
    shared_engine,
)
from specfuse_core.fusion import FusionEngine
from specfuse_core.models.declared import declared_window
from specfuse_core.request import OnLimit
from specfuse_core.values import shown

__all__ = ["EngineFields"]


class EngineFields(BaseModel):
    """The fields that select the base models and set how they answer."""

    # An error of pydantic is the cause of another one, and a value may have a secret.
    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True)

    models: list[str | PathLike[str] | ModelConfig | dict[str, Any]] | None = None
    """Base models: hub ids, directories or ``ModelConfig``; None for the models in the package."""
    engine: FusionEngine | None = Field(default=None, repr=False)
    """A ``FusionEngine`` to use instead of ``models``. Only in this process: it cannot be pickled,
    and a dictionary of the fields has only its description."""
    model: list[str] | str | None = None
    """With ``models`` or ``engine``: the names of the base models to use, as a list or separated by
    commas; all by default. Without them: the same as ``models``, or names of models in the
    package."""
    drafters: list[str] | None = None
    """Names of the models that draft; all by default."""
    verifiers: list[str] | None = None
    """Names of the models that verify; all by default."""
    parallel: bool = False
    """Whether each base model runs in a thread of its own."""

    method: Literal["specem", "specfuse"] | None = None
    """Preset of the fusion algorithm, as in ``FusionConfig``. None uses the engine's method."""
    segment_tokens: int | None = None
    """Maximum number of tokens that each base model drafts per round."""
    call_segment_tokens: int | None = Field(default=256, validate_default=False)
    """Maximum number of tokens of a tool call in one segment; None cuts calls like other text."""
    score_mode: ScoreMode | None = None
    """How drafts are scored: ``"logprob"``, ``"logit"`` or ``"prob"``."""
    self_vote: bool | None = None
    """Whether a model's score of its own draft counts."""
    online_feedback: bool | None = None
    """Whether voting weights change within an answer."""
    learning_rate: float | None = None
    """How fast voting weights change."""
    model_exit: bool | None = None
    """Whether base models may leave an answer."""
    exit_temperature: float | None = None
    """Temperature of the model exit. With a smaller value models leave sooner."""
    exit_threshold: float | None = None
    """Threshold of the model exit. With a larger value models leave sooner."""
    exit_warmup: int | None = None
    """Number of rounds before the first model may leave."""
    exit_recall: float | None = None
    """Probability. Models that left come back for a round in which the others are less sure."""
    min_models: int | None = None
    """Number of drafters that always stay."""

    temperature: float | None = None
    """Sampling temperature of the drafts; 0 is greedy decoding."""
    top_p: float | None = None
    """Sample from the most probable tokens whose probabilities add up to this."""
    top_k: int | None = None
    """Sample from this many of the most probable tokens."""
    min_p: float | None = None
    """Leave out tokens less probable than this fraction of the most probable token."""
    repetition_penalty: float | None = None
    """Above 1.0, tokens that occur in the text become less probable; 1.0 has no effect."""
    seed: int | None = None
    """Seed of the sampling. None draws a new one for each answer."""

    context_window: int | None = None
    """Maximum number of tokens of prompt and answer together. It limits the context windows of the
    models, and never extends them."""
    max_tokens: int | None = None
    """Maximum number of tokens of an answer with its tool calls, in tokens of the first base model.
    None allows 4,096 tokens, and as many for tool calls, if they fit the context window."""
    max_call_tokens: int | None = None
    """Maximum number of tokens of the tool calls of an answer; None for ``max_tokens``."""
    on_limit: OnLimit = "error"
    """What happens to a tool call or a structured answer that reaches a limit. ``"error"`` makes
    the call invalid, and a structured answer an error. ``"close"`` completes the JSON and delivers
    it as if the models had finished it."""
    schema_in_prompt: bool = True
    """Whether the system message shows the models the schema of a structured answer, with its
    descriptions. It costs the tokens of the schema. Tools are described in any case."""
    strict_schema: bool = False
    """Whether to refuse a schema of a tool or of an answer that cannot be enforced completely while
    the models write. By default, such keywords are checked in the finished value: an invalid call
    is not run, and an invalid structured answer is an error."""
    reasoning: bool | int | None = None
    """Whether models may think before the answer. True and False also set the switch of each chat
    template that has one. A number allows that many tokens of thinking. None leaves the templates
    as they are; models that think may also think before a tool call that is required and before a
    structured answer."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Variables of the chat templates, which replace those of ``ModelConfig``."""
    stop: list[str] | str | None = None
    """Strings that end an answer. The answer does not include them."""
    timeout: float | None = None
    """Maximum time of an answer in seconds, counted from its first round. The models then stop
    within a round, and an error is raised that is also a ``TimeoutError``."""

    @model_validator(mode="wrap")
    @classmethod
    def _own_errors(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise bad_value(error) from error
        except RecursionError as error:
            raise InvalidOptionError(
                "a value has too many levels of lists and mappings within each other; use fewer."
            ) from error

    @model_validator(mode="before")
    @classmethod
    def _known_options(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields = check_fields(cls.__name__, data, cls.model_fields)
        engine = fields.get("engine")
        if isinstance(engine, str) and engine.startswith(FusionEngine.__name__):
            raise NotPicklableError(
                f"{cls.__name__}: these fields were written by a model with the engine "
                f"{shown(engine)}, which cannot be restored from its description. Give an engine "
                "again, or write a model that was created with models=."
            )
        models = fields.get("models")
        if isinstance(models, str | PathLike | ModelConfig | Mapping):
            fields["models"] = models = [models]
        elif models is None and fields.get("engine") is None:
            _take_model(fields)
            models = fields.get("models")
        if isinstance(models, list | tuple):
            model_configs(models)
        return fields

    def __getstate__(self) -> dict[Any, Any]:
        if self.engine is not None:
            name = type(self).__name__
            raise NotPicklableError(
                f"a {name} with engine= cannot be pickled, because the base models of the engine "
                "are in the memory of this process. Create it with models=, so that the other "
                "process loads the models, or use threads instead of processes."
            )
        # Not of the framework: LlamaIndex's method removes fields from the model in use.
        return BaseModel.__getstate__(self)

    @field_serializer("engine")
    def _description(self, engine: FusionEngine | None) -> str | None:
        """What the engine is, as text that no other engine has."""
        return None if engine is None else description(engine)

    @model_validator(mode="after")
    def _usable_options(self) -> Self:
        if self.engine is not None and self.models is not None:
            raise InvalidOptionError("models and engine were both given; give only one of them.")
        if self.engine is not None and "call_segment_tokens" not in self.model_fields_set:
            self.call_segment_tokens = self.engine.config.call_segment_tokens
        FusionConfig(**self._knobs(self._values()))
        SamplingParams(**given(self._values(), SAMPLING))
        Deadline(self.timeout)
        for name in ("max_tokens", "max_call_tokens", "context_window"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise InvalidLimitError.of(name, f"must be at least 1, got {limit}.")
        if self.reasoning is not None and self.reasoning < 0:
            raise InvalidLimitError.of("reasoning", f"must be at least 0, got {self.reasoning}.")
        if self.model is not None:
            self._check_model(_names(self.model))
        return self

    def _check_model(self, names: Sequence[str]) -> None:
        known = self._all_names()
        for name in names:
            if name not in known:
                raise UnknownModelError(
                    f"model names the unknown base model {shown(name)}; use one of: "
                    f"{', '.join(known)}."
                )

    @property
    def model_name(self) -> str:
        """The names of the base models, separated by commas. A call's ``model`` takes the same."""
        return ",".join(self._chosen_names())

    def _chosen_names(self) -> Sequence[str]:
        return self._all_names() if self.model is None else _names(self.model)

    def _all_names(self) -> tuple[str, ...]:
        return self.engine.models if self.engine is not None else model_names(self.models)

    def _values(self, call: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The fields, replaced by the arguments of a call."""
        return {**{name: getattr(self, name) for name in type(self).model_fields}, **(call or {})}

    def _knobs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        # None is a value of call_segment_tokens; for all others it means that nothing was set.
        return {**given(values, KNOBS), "call_segment_tokens": values["call_segment_tokens"]}

    def _base(self) -> FusionEngine:
        """The engine over the base models in use."""
        return self._engine_of(self.model)

    def _engine_of(self, model: Any) -> FusionEngine:
        whole = self.engine or shared_engine(
            self.models,
            drafters=self.drafters,
            verifiers=self.verifiers,
            parallel=self.parallel,
        )
        return whole if model is None else whole.subset(_names(model))

    def _fusion(self, call: Mapping[str, Any]) -> FusionEngine:
        """The engine for one call."""
        values = self._values(call)
        return self._engine_of(values["model"]).with_config(**self._knobs(values))

    def _alone(self, name: str) -> dict[str, Any]:
        """The fields of a model that uses only one of the base models.

        Raises:
            UnknownModelError: if no base model has that name.
        """
        self._base().subset([name])
        return {**{field: getattr(self, field) for field in self.model_fields_set}, "model": name}

    def _windows(self) -> list[int | None]:
        """The context window of each base model in use.

        It is None if only loading the model shows it. ``context_window`` is not considered.
        """
        if self.engine is not None:
            windows = [backend.declared_window for backend in self.engine.backends]
        else:
            windows = [declared_window(config) for config in model_configs(self.models)]
        named = dict(zip(self._all_names(), windows, strict=True))
        self._check_model(self._chosen_names())
        return [named[name] for name in self._chosen_names()]

    def _token_ids(self, text: str) -> list[int]:
        """The longest encoding of ``text`` by a base model in use, without special tokens."""
        backends = self._base().backends
        return max((list(backend.token_ids(text)) for backend in backends), key=len)

    def _window(self) -> int | None:
        """The smallest context window that is known without loading a model."""
        known = [*self._windows(), self.context_window]
        return min((window for window in known if isinstance(window, int)), default=None)


def _names(model: Any) -> list[str]:
    """The names of base models, which are a list or separated by commas."""
    names = model.split(",") if isinstance(model, str) else model
    several = isinstance(names, list | tuple) and len(names) > 0
    if not several or not all(isinstance(name, str) for name in names):
        raise InvalidOptionError.of(
            "model", f"must be names separated by commas, or a list of names, got {shown(model)}."
        )
    return [name.strip() for name in names]


def _take_model(fields: dict[str, Any]) -> None:
    """Make ``model`` the base models, unless it names models of the package."""
    model = fields.pop("model", None)
    if model is None:
        return
    given = _names(model) if isinstance(model, str) else model
    given = list(given) if isinstance(given, list | tuple) else [given]
    bundled = model_names(None)
    if given and all(isinstance(name, str) and name in bundled for name in given):
        fields["model"] = given
    else:
        fields["models"] = given
