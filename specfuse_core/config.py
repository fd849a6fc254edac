"""What a user can set: pydantic models, frozen, unknown keys refused with the nearest known name.

This module knows nothing of models or text; it only holds values and refuses bad ones.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from specfuse_core.errors import InvalidLimitError, InvalidOptionError, UnknownOptionError

__all__ = ["FusionConfig", "ModelConfig", "SamplingParams", "ScoreMode", "unknown_option"]

ScoreMode = Literal["prob", "logit", "logprob"]


def unknown_option(owner: str, name: str, known: list[str]) -> UnknownOptionError:
    """The error for an option ``name`` that ``owner`` does not have, and the nearest known one."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known options: {', '.join(sorted(known))}."
    return UnknownOptionError(f"{owner} has no option {name!r}; {hint}")


class Options(BaseModel):
    """Base of all option sets: raises :mod:`specfuse_core.errors`, never pydantic's own error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )

    def __init__(self, /, **data: Any) -> None:
        owner, known = type(self).__name__, type(self).model_fields
        for name in data:
            if name not in known:
                raise unknown_option(owner, name, list(known))
        try:
            super().__init__(**data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or owner
            kind = (
                InvalidLimitError
                if first["type"] in ("greater_than", "greater_than_equal")
                else InvalidOptionError
            )
            message = f"{owner}.{where}: {first['msg'].lower()}, got {first['input']!r}."
            raise kind(message) from None

    def replace(self, **changes: Any) -> Self:
        """A copy with ``changes``, validated; options never set keep following their preset."""
        return type(self)(**{**{k: getattr(self, k) for k in self.model_fields_set}, **changes})


class SamplingParams(Options):
    """How each base model draws its drafts. Verification never sees any of this.

    The noise of a draw belongs to (seed, base model, position, token), so the same seed gives the
    same answer whatever runs beside it, and rounding seldom changes one. ``temperature=0`` is
    greedy. The papers sample with ``temperature=0.6, top_p=0.9``. ``seed=None`` draws a fresh seed
    for each request and reports it in :attr:`Usage.seed`.
    """

    temperature: float = Field(default=0.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=1)
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    repetition_penalty: float = Field(default=1.0, gt=0.0)
    seed: int | None = None


#: What each method sets where the user sets nothing (DESIGN section 3, "Presets").
PRESETS: dict[str, dict[str, Any]] = {
    "specfuse": {"score_mode": "prob", "online_feedback": False, "model_exit": True},
    "specem": {"score_mode": "logprob", "online_feedback": True, "model_exit": False},
}


class FusionConfig(Options):
    """The fusion algorithm's knobs; ``method`` is a preset, and every knob stays settable.

    Args:
        method: ``"specem"`` (arXiv 2412.07380 v3: normalised log-probability, online feedback,
            no exit) or ``"specfuse"`` (v1/v2: mean probability, equal weights, model exit).
        segment_tokens: tokens that each base model drafts per round.
        call_segment_tokens: tokens that a tool call may have in one segment, so that models vote
            on whole calls; None cuts calls like other text.
        score_mode: how a verification becomes a score: ``prob``, ``logit`` or ``logprob``.
        self_vote: whether a model's score of its own candidate counts.
        online_feedback: whether voting weights follow the wins within an answer (v3, section 3.3).
        learning_rate: eta_0 of the online feedback.
        model_exit: whether models that fall behind leave for the rest of an answer (v2).
        exit_temperature: tau_0; smaller leaves sooner.
        exit_threshold: delta; a model leaves when its probability falls below delta / n.
        exit_warmup: rounds before the first model may leave.
        exit_recall: all that left come back for a round in which those who stayed give their best
            candidate's weakest token a lower probability than this; None leaves them out for the
            rest of the answer, as the papers do.
        min_models: drafters that always stay.
    """

    method: Literal["specem", "specfuse"] = "specem"
    segment_tokens: int = Field(default=10, ge=1)
    call_segment_tokens: int | None = Field(default=256, ge=1)
    score_mode: ScoreMode = "logprob"
    self_vote: bool = True
    online_feedback: bool = True
    learning_rate: float = Field(default=0.5, ge=0.0)
    model_exit: bool = False
    exit_temperature: float = Field(default=0.3, gt=0.0)
    exit_threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    exit_warmup: int = Field(default=2, ge=0)
    exit_recall: float | None = Field(default=None, gt=0.0, le=1.0)
    min_models: int = Field(default=1, ge=1)

    def model_post_init(self, context: Any, /) -> None:
        for name, value in PRESETS[self.method].items():
            if name not in self.model_fields_set:
                # Written past the frozen guard, once: a preset is a default that depends on method.
                self.__dict__[name] = value


class ModelConfig(Options):
    """One base model: where its weights are and how to load and prompt it.

    Args:
        path: a local directory or a hub id (``"org/name"``).
        name: its name in the ensemble; by default the last part of ``path``.
        revision: branch, tag or commit of a hub id.
        dtype: a torch dtype's name, or ``"auto"`` for the one the weights were saved in.
        device: where it runs (``"cpu"``, ``"cuda:1"``); exclusive with ``device_map``.
        device_map: passed to transformers (needs accelerate).
        attn_implementation: ``"sdpa"``, ``"eager"``, ...; by default transformers' choice.
        quantization_config: passed to transformers.
        chat_template: a Jinja template that replaces the tokenizer's own.
        chat_template_kwargs: extra variables for the template (``{"enable_thinking": False}``).
        trust_remote_code: whether code that comes with the weights may run.
        allow_pickle: whether weights stored only as pickle may be opened; they can run code.
        weight: prior voting weight, relative to the other models' (1.0 each by default).
    """

    path: str = Field(min_length=1)
    name: str | None = Field(default=None, min_length=1)
    revision: str | None = None
    dtype: str = "auto"
    device: str | None = None
    device_map: str | dict[str, Any] | None = None
    attn_implementation: str | None = None
    quantization_config: Any = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    trust_remote_code: bool = False
    allow_pickle: bool = False
    weight: float = Field(default=1.0, gt=0.0)

    @classmethod
    def of(cls, model: str | PathLike[str] | ModelConfig | Mapping[str, Any]) -> ModelConfig:
        """``model`` itself, or one from a name, a path or a mapping.

        Raises:
            InvalidOptionError: for anything else.
        """
        if isinstance(model, ModelConfig):
            return model
        if isinstance(model, str | PathLike):
            return cls(path=fspath(model))
        if isinstance(model, Mapping):
            return cls(**model)
        raise InvalidOptionError(f"a model is a name, a path or a ModelConfig, not {model!r}.")

    def model_post_init(self, context: Any, /) -> None:
        if self.device is not None and self.device_map is not None:
            raise InvalidOptionError(
                "ModelConfig: device and device_map were both given; give one of them."
            )
