"""What comes of a request: candidates, verifications, rounds, segments, the whole generation.

Plain frozen records. Nothing here knows of token ids or tensors: text is the only currency
between base models.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from specfuse_core.errors import InvalidOptionError
from specfuse_core.request import ToolCall

__all__ = [
    "CallDelta",
    "Candidate",
    "Channel",
    "Cost",
    "FinishReason",
    "Generation",
    "ModelUsage",
    "Round",
    "Segment",
    "Usage",
    "Verification",
]

Channel = Literal["text", "reasoning", "tool_call"]
FinishReason = Literal["stop", "stop_sequence", "length", "context", "cancelled"]

#: For a ``repr`` that fits a line: long text loses its middle.
_brief = reprlib.Repr()
_brief.maxstring = 40


@dataclass(frozen=True, slots=True)
class Candidate:
    """A drafted segment: its text, and whether the answer ends with it."""

    text: str
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Verification:
    """What one verifier gives to one candidate, token by token of the verifier's own tokenizer.

    If the candidate ends the answer, the last entry is that of the verifier's end of turn.

    Args:
        logprobs: natural log-probability of each token, under the model's own distribution.
            Empty where the candidate adds no token, or does not fit.
        logits: raw logit of each token; empty where the backend has none.
        fits: whether the candidate fits the verifier's context window.
    """

    logprobs: tuple[float, ...]
    logits: tuple[float, ...] = ()
    fits: bool = True


@dataclass(frozen=True, slots=True)
class Cost:
    """What one base model spent on one request so far.

    Args:
        prompt_tokens: length of the rendered prompt in the model's own tokens.
        drafted_tokens: tokens sampled.
        verified_tokens: tokens of other models' candidates that were run to be scored.
        forward_passes: calls of the model, of any length.
    """

    prompt_tokens: int = 0
    drafted_tokens: int = 0
    verified_tokens: int = 0
    forward_passes: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """The record of one round; the trace of an answer is the list of them.

    Args:
        index: 1 for the first round.
        drafters: names of the models that drafted, in ensemble order. ``[D]``
        candidates: what each drafted. ``[D]``
        verifiers: names of the models that verified, in ensemble order. ``[V]``
        scores: one number per (verifier, candidate), None where void. ``[V][D]``
        weights: voting weight of each verifier, as used in this round's vote. ``[V]``
        votes: vote of each candidate, None where no verifier could score it. ``[D]``
        winner: index of the winning candidate.
        exited: names of the models that leave after this round.
        recalled: names of the models that had left and were brought back for this round.
        draft_seconds: wall seconds of the drafting.
        verify_seconds: wall seconds of the verification.
    """

    index: int
    drafters: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    verifiers: tuple[str, ...]
    scores: tuple[tuple[float | None, ...], ...]
    weights: tuple[float, ...]
    votes: tuple[float | None, ...]
    winner: int
    exited: tuple[str, ...] = ()
    recalled: tuple[str, ...] = ()
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0

    @property
    def author(self) -> str:
        """Name of the model whose candidate won."""
        return self.drafters[self.winner]

    @property
    def candidate(self) -> Candidate:
        """The winning candidate, before any stop string or limit shortened it."""
        return self.candidates[self.winner]


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A step of a tool call: its start, a piece of its arguments, or its end.

    Args:
        index: 0 for the answer's first call.
        id: the call's id, the same in all its steps.
        name: the tool's name, at the start; None later.
        arguments: a piece of the arguments' JSON text.
        call: the whole call, at its end; None before. A call that is cut off never has one.
    """

    index: int
    id: str
    name: str | None = None
    arguments: str = ""
    call: ToolCall | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """What a round emits; where a round ends one channel and begins another, a part of it.

    Args:
        text: text to show now. It may be empty, and may open with a few characters of the
            segment before, where these could have been the start of a stop string.
        round: how the text came about; None where no round was needed: at the close, and where a
            constraint left only one way to go on.
        finish_reason: set on the last segment of an answer, and only there.
        usage: set on the last segment of an answer, and only there.
        channel: what the text is: said, thought, or the arguments of a call.
        call: the step of a call; in the channel ``"tool_call"``, and only there.
    """

    text: str
    round: Round | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    channel: Channel = "text"
    call: CallDelta | None = None

    @property
    def author(self) -> str | None:
        """Name of the model that wrote it; None for a closing segment."""
        return self.round.author if self.round else None


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What one base model did and spent for one answer.

    Args:
        name: the model's name in the ensemble.
        rounds: rounds in which it took part.
        segments: rounds that its candidate won.
        characters: characters of its winning candidates.
        exited: the round after which it left, None if it stayed.
        cost: tokens and forward passes.
        seconds: wall seconds of its own drafting, verifying and committing.
    """

    name: str
    rounds: int
    segments: int
    characters: int
    exited: int | None
    cost: Cost
    seconds: float


@dataclass(frozen=True, slots=True)
class Usage:
    """The answer as one model would have counted it, and what each base model spent.

    ``prompt_tokens`` and ``completion_tokens`` are in the first base model's tokens, the latter of
    what was emitted, without anything that a stop string cut off; ``seed`` is the one that was
    used, so that the answer can be drawn again.
    """

    prompt_tokens: int
    completion_tokens: int
    seed: int
    models: tuple[ModelUsage, ...]

    @property
    def models_per_round(self) -> float:
        """Mean number of base models that took part in a round."""
        rounds = max((model.rounds for model in self.models), default=0)
        return sum(model.rounds for model in self.models) / rounds if rounds else 0.0


@dataclass(frozen=True, slots=True)
class Generation:
    """A whole answer: what the segments say, joined, and all that led to it.

    ``text`` is what was said, without thinking and calls.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    segments: tuple[Segment, ...]

    def __repr__(self) -> str:
        return (
            f"Generation(text={_brief.repr(self.text)}, finish_reason={self.finish_reason!r}, "
            f"rounds={len(self.rounds)})"
        )

    @property
    def reasoning(self) -> str:
        """What was thought before it was said."""
        return "".join(part.text for part in self.segments if part.channel == "reasoning")

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that were made, in order; none that was cut off."""
        deltas = (segment.call for segment in self.segments)
        return tuple(delta.call for delta in deltas if delta and delta.call)

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The rounds of the answer, in order."""
        rounds = {part.round.index: part.round for part in self.segments if part.round}
        return tuple(rounds.values())

    @classmethod
    def of(cls, segments: Iterable[Segment]) -> Self:
        """Drain a stream of segments into one generation.

        Raises:
            InvalidOptionError: if the stream has no last segment (it was cut off).
        """
        kept = tuple(segments)
        if not kept or kept[-1].finish_reason is None or kept[-1].usage is None:
            raise InvalidOptionError("the stream of segments has no end; drain it to its last one.")
        text = "".join(segment.text for segment in kept if segment.channel == "text")
        return cls(text, kept[-1].finish_reason, kept[-1].usage, kept)
