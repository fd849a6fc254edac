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
    """The options of the fusion algorithm (arXiv 2412.07380).

    ``method`` is a preset. It sets the defaults of ``score_mode``, ``online_feedback`` and
    ``model_exit``, and each of them can still be set. Versions 1 and 2 of the paper describe
    SpecFuse, version 3 describes SpecEM.

    Args:
        method: ``"specem"`` (v3: log-probability scores, online feedback, no model exit) or
            ``"specfuse"`` (v1 and v2: probability scores, equal weights, model exit).
        segment_tokens: maximum number of tokens that each base model drafts per round, in its own
            tokens.
        call_segment_tokens: maximum number of tokens of a tool call in one segment, so that the
            models vote on whole calls. None cuts calls like other text.
        score_mode: how a verification becomes a score. ``"prob"`` is the mean probability of the
            tokens (v1 and v2). ``"logit"`` is their mean raw logit (v3) and ``"logprob"`` their
            mean log-probability, each followed by a softmax over the candidates.
        self_vote: whether a model's score of its own candidate counts.
        online_feedback: whether the voting weights change within an answer: models whose
            candidates get better scores from the other models gain weight (v3).
        learning_rate: eta_0 of the online feedback. With a larger value the weights change faster.
        model_exit: whether a model whose candidates keep losing leaves for the rest of the answer
            (v2).
        exit_temperature: tau_0 of the model exit. With a smaller value models leave sooner.
        exit_threshold: delta of the model exit, from 0 to 1. A model leaves if its probability is
            less than delta / n, where n is the number of active models.
        exit_warmup: number of rounds before the first model may leave.
        exit_recall: a probability. The models that left come back for a round in which the other
            models find no candidate whose every token is at least this probable. None never brings
            them back, as in the papers.
        min_models: number of drafters that always stay.

    Raises:
        UnknownOptionError: if an option does not exist.
        InvalidOptionError: if the value of an option has the wrong type or is out of range.
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
