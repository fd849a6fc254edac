"""The options of the fusion algorithm, and its presets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from specfuse_core.config.options import Options

__all__ = ["PRESETS", "FusionConfig", "ScoreMode"]

ScoreMode = Literal["prob", "logit", "logprob"]

#: The defaults of the options that depend on ``method``.
PRESETS: dict[str, dict[str, Any]] = {
    "specfuse": {"score_mode": "prob", "online_feedback": False, "model_exit": True},
    "specem": {"score_mode": "logprob", "online_feedback": True, "model_exit": False},
}


class FusionConfig(Options):
    """The options of the fusion algorithm.

    ``method`` is a preset. It sets the defaults of ``score_mode``, ``online_feedback`` and
    ``model_exit``, and each of them can still be set.

    Args:
        method: ``"specem"`` (arXiv 2412.07380 v3: log-probability scores, online feedback, no model
            exit) or ``"specfuse"`` (v1 and v2: probability scores, equal weights, model exit).
        segment_tokens: maximum number of tokens that each base model drafts per round.
        call_segment_tokens: maximum number of tokens of a tool call in one segment. The models
            then vote on whole calls. None cuts calls like other text.
        score_mode: how a verification becomes a score: ``"prob"``, ``"logit"`` or ``"logprob"``.
        self_vote: whether a model's score of its own candidate counts.
        online_feedback: whether the voting weights change with the wins within an answer (v3,
            section 3.3).
        learning_rate: eta_0 of the online feedback.
        model_exit: whether a model that falls behind leaves for the rest of the answer (v2).
        exit_temperature: tau_0 of the model exit. With a smaller value models leave sooner.
        exit_threshold: delta of the model exit. A model leaves when its probability falls below
            delta / n.
        exit_warmup: number of rounds before the first model may leave.
        exit_recall: the models that left come back for a round if the other models give even their
            best candidate a token less probable than this. None never brings them back, as in the
            papers.
        min_models: number of drafters that always stay.
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
                # The class is frozen; this sets a default that depends on another option.
                self.__dict__[name] = value
