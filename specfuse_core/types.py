"""Records of an answer: candidates, verifications, rounds, segments, usage and the generation.

All records are frozen dataclasses. They hold text and numbers, but no token ids and no tensors.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
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

#: Shortens long text in the middle, so that a ``repr`` fits in a line.
_brief = reprlib.Repr()
_brief.maxstring = 40


@dataclass(frozen=True, slots=True)
class Candidate:
    """A drafted segment.

    Args:
        text: text of the segment.
        ends: whether the answer ends with this segment.
    """

    text: str
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Verification:
    """Log-probabilities that one verifier gives to the tokens of one candidate.

    The tokens are those of the verifier's own tokenizer. If the candidate ends the answer, the
    last value belongs to the verifier's end-of-turn token.

    Args:
        logprobs: natural log-probability of each token, without temperature or filters. Empty if
            the candidate adds no token or does not fit the context window. ``[T]``
        logits: raw logit of each token; empty if the backend does not give logits. ``[T]``
        fits: whether the candidate fits the verifier's context window.
    """

    logprobs: tuple[float, ...]
    logits: tuple[float, ...] = ()
    fits: bool = True


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens and forward passes that one base model used for one request.

    Args:
        prompt_tokens: number of tokens of the rendered prompt, in the model's own tokenizer.
        drafted_tokens: number of tokens that the model sampled.
        verified_tokens: number of tokens that the model ran to score other models' candidates.
        forward_passes: number of forward passes, each over one or more tokens.
    """

    prompt_tokens: int = 0
    drafted_tokens: int = 0
    verified_tokens: int = 0
    forward_passes: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """The record of one round. The rounds of an answer are its trace.

    Args:
        index: number of the round; the first one is 1.
        drafters: names of the models that drafted, in ensemble order. ``[D]``
        candidates: the candidate of each drafter. ``[D]``
        verifiers: names of the models that verified, in ensemble order. ``[V]``
        scores: one number per (verifier, candidate); None if the verifier could not score the
            candidate. ``[V][D]``
        weights: voting weight of each verifier in this round. ``[V]``
        votes: vote of each candidate; None if no verifier could score it. ``[D]``
        winner: index of the winning candidate.
        exited: names of the models that left the answer after this round.
        recalled: names of the models that had left the answer and came back for this round.
        draft_seconds: duration of drafting, in seconds of wall time.
        verify_seconds: duration of verification, in seconds of wall time.
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
        """The winning candidate, before a stop string or a token limit cuts it."""
        return self.candidates[self.winner]


@dataclass(frozen=True, slots=True)
class CallDelta:
    """One update of a tool call: its start, a piece of its arguments, or its end.

    Args:
        index: position of the call in the answer; the first call is 0.
        id: id of the call, which is the same in all its updates.
        name: name of the tool in the first update; None in later ones.
        arguments: a piece of the JSON text of the arguments.
        call: the call in the last update; None before. It has an ``error`` if it is incomplete.
    """

    index: int
    id: str
    name: str | None = None
    arguments: str = ""
    call: ToolCall | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of an answer, as :meth:`FusionEngine.stream` yields it.

    A round emits one segment. It emits several if its text belongs to several channels or tool
    calls.

    Args:
        text: text to show now. It may be empty. It may begin with characters of the segment
            before that were held back because they could have been the start of a stop string.
        round: the round that produced the text. None if the text needed no round: at the end of
            the answer, or if a constraint allows only one continuation.
        finish_reason: why the answer ended; set on the last segment only.
        usage: usage of the whole answer; set on the last segment only.
        channel: ``"text"``, ``"reasoning"`` (what a model writes between its thinking marks) or
            ``"tool_call"`` (JSON text of the arguments).
        call: update of a tool call; set in the channel ``"tool_call"`` only.
        closed_by_force: whether no model chose the text, because it had to close a constraint or a
            tool call at a limit. It is also set on the last segment of an answer that a limit cut
            inside a constraint or a tool call.
        invalid: why the text of the answer is not valid under the schema of its constraint; set on
            the last segment only.
    """

    text: str
    round: Round | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    channel: Channel = "text"
    call: CallDelta | None = None
    closed_by_force: bool = False
    invalid: str | None = None

    @property
    def author(self) -> str | None:
        """Name of the model that wrote the text; None if the segment has no round."""
        return self.round.author if self.round else None


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """Contribution and cost of one base model in one answer.

    Args:
        name: name of the model in the ensemble.
        rounds: number of rounds in which the model took part.
        segments: number of rounds that its candidate won.
        characters: number of characters of its winning candidates.
        exited: index of the round after which the model left; None if it stayed.
        cost: tokens and forward passes.
        seconds: wall time in seconds of its drafting, verification and commits.
        method: name of the method that stores the model's state, for example ``"packed-full"``.
            ``"reread"`` stores nothing and runs the whole text again for every token. None if the
            backend has no such method.
    """

    name: str
    rounds: int
    segments: int
    characters: int
    exited: int | None
    cost: Cost
    seconds: float
    method: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of an answer, its seed, and the usage of each base model.

    Args:
        prompt_tokens: the size of the prompt: the smallest context window minus the smallest room
            that a base model has left for the answer. With equal context windows, it is the largest
            number of tokens.
        completion_tokens: number of tokens of the emitted text, in the first base model's
            tokenizer (see ``Request.max_new_tokens``). Text that a stop string cut off does not
            count. Where the answer had to be cut, it is the limit.
        seed: the random seed of the answer. The same request with this seed gives the same answer.
        models: usage of each base model, in ensemble order.
        limit: the limit that ended the answer, for messages; None if no limit ended it.
        reasoning_tokens: number of the completion tokens that are reasoning, with its marks.
    """

    prompt_tokens: int
    completion_tokens: int
    seed: int
    models: tuple[ModelUsage, ...]
    limit: str | None = None
    reasoning_tokens: int = 0

    @property
    def models_per_round(self) -> float:
        """Mean number of base models that took part in a round."""
        rounds = max((model.rounds for model in self.models), default=0)
        return sum(model.rounds for model in self.models) / rounds if rounds else 0.0


@dataclass(frozen=True, slots=True)
class Generation:
    """A complete answer.

    Args:
        text: text of the answer, without reasoning and tool calls.
        finish_reason: why the answer ended: ``"stop"`` (a model ended its turn),
            ``"stop_sequence"`` (a stop string appeared), ``"length"`` (``max_new_tokens`` was
            reached), ``"context"`` (a context window is full) or ``"cancelled"``.
        usage: token counts and the usage of each base model.
        segments: all segments of the answer, in order.
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
        """The reasoning that the models wrote before the text."""
        return "".join(part.text for part in self.segments if part.channel == "reasoning")

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The valid tool calls of the answer, in order."""
        return tuple(call for call in self._calls() if call.error is None)

    @property
    def invalid_tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls of the answer that must not be run, each with its ``error``."""
        return tuple(call for call in self._calls() if call.error is not None)

    @property
    def closed_by_force(self) -> bool:
        """Whether a limit ended the answer inside a constraint or a tool call.

        Text that closes the constraint may have been added, which no model chose.
        """
        return any(segment.closed_by_force for segment in self.segments)

    @property
    def invalid(self) -> str | None:
        """Why the text is not valid under the schema of its constraint; None if it is valid."""
        return self.segments[-1].invalid

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The rounds of the answer, in order."""
        rounds = {part.round.index: part.round for part in self.segments if part.round}
        return tuple(rounds.values())

    def _calls(self) -> Iterator[ToolCall]:
        deltas = (segment.call for segment in self.segments)
        return (delta.call for delta in deltas if delta and delta.call)

    @classmethod
    def of(cls, segments: Iterable[Segment]) -> Self:
        """Collect a stream of segments into one generation.

        Raises:
            InvalidOptionError: if the stream does not include the last segment of the answer.
        """
        kept = tuple(segments)
        if not kept or kept[-1].finish_reason is None or kept[-1].usage is None:
            raise InvalidOptionError(
                "the stream does not include the answer's last segment; read it to its end."
            )
        text = "".join(segment.text for segment in kept if segment.channel == "text")
        return cls(text, kept[-1].finish_reason, kept[-1].usage, kept)
