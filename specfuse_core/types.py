"""The data that travels: messages and requests in, segments and generations out.

Plain frozen records. Nothing here knows of token ids or tensors: text is the only currency
between base models.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, get_args

from specfuse_core.config import SamplingParams, unknown_option
from specfuse_core.constraints import Constraint, grammar_of
from specfuse_core.errors import (
    EmptyConversationError,
    EmptyStopStringError,
    InvalidConstraintError,
    InvalidLimitError,
    InvalidMessageError,
    InvalidOptionError,
)
from specfuse_core.tools import Tool, ToolChoice, check_tools

__all__ = [
    "CallDelta",
    "Candidate",
    "Channel",
    "Conversation",
    "Cost",
    "FinishReason",
    "Generation",
    "Message",
    "ModelUsage",
    "Request",
    "Role",
    "Round",
    "Segment",
    "ToolCall",
    "Usage",
    "Verification",
]

Role = Literal["system", "user", "assistant", "tool"]
Channel = Literal["text", "reasoning", "tool_call"]
FinishReason = Literal["stop", "stop_sequence", "length", "context", "cancelled"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an assistant turn made: the tool's name and its parsed arguments."""

    name: str
    arguments: Mapping[str, Any]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Raises:
        InvalidMessageError: for an unknown role or content that is not text.
    """

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise InvalidMessageError(
                f"unknown role {self.role!r}; use one of {', '.join(get_args(Role))}."
            )
        if not isinstance(self.content, str):
            raise InvalidMessageError(
                f"the content of a {self.role} message is {type(self.content).__name__}, not str; "
                "give text (images and other media are not supported)."
            )

    @classmethod
    def of(cls, message: Message | Mapping[str, Any]) -> Message:
        """``message`` itself, or one made from ``{"role": ..., "content": ...}``."""
        if isinstance(message, Message):
            return message
        if not isinstance(message, Mapping) or "role" not in message:
            raise InvalidMessageError(
                f"a message is a Message or a mapping with 'role' and 'content', got {message!r}."
            )
        for key in message:
            if key not in cls.__dataclass_fields__:
                raise unknown_option("Message", str(key), list(cls.__dataclass_fields__))
        fields = dict(message)
        calls = fields.pop("tool_calls", None) or ()
        if fields.get("content") is None:
            fields["content"] = ""
        return cls(**fields, tool_calls=tuple(_tool_call(call) for call in calls))


def _tool_call(call: ToolCall | Mapping[str, Any]) -> ToolCall:
    if isinstance(call, ToolCall):
        return call
    if not isinstance(call, Mapping) or not {"name", "arguments"} <= set(call):
        raise InvalidMessageError(
            f"a tool call is a ToolCall or a mapping with 'name' and 'arguments', got {call!r}."
        )
    return ToolCall(call["name"], call["arguments"], call.get("id") or "")


#: What users may pass as a conversation.
Conversation = str | Sequence[Message | Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Request:
    """One conversation to be answered, and the limits of the answer.

    Args:
        messages: the turns so far. A final assistant turn is continued.
        max_new_tokens: limit of the answer, in tokens of the first base model's tokenizer.
        stop: strings that end the answer; they are not part of it.
        sampling: how drafts are drawn.
        constraint: what the answer must look like.
        tools: what the answer may call.
        tool_choice: ``"auto"`` (text, or calls), ``"none"``, ``"required"`` (calls), or the name
            of the tool that must be called.
        parallel_tool_calls: whether one answer may make several calls.
    """

    messages: tuple[Message, ...]
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    constraint: Constraint | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True

    def __post_init__(self) -> None:
        if self.constraint is not None and not isinstance(self.constraint, Constraint):
            raise InvalidConstraintError(
                f"a constraint is a JsonSchema, JsonObject, Regex, Choice or Grammar, got "
                f"{type(self.constraint).__name__}."
            )
        if not isinstance(self.tool_choice, str):
            raise InvalidOptionError(f"tool_choice must be text, got {self.tool_choice!r}.")
        check_tools(self.tools, self.tool_choice)
        if not any(message.content or message.tool_calls for message in self.messages):
            raise EmptyConversationError(
                "the conversation is empty; give at least one message with some text."
            )
        if isinstance(self.max_new_tokens, bool) or not isinstance(self.max_new_tokens, int):
            raise InvalidOptionError(
                f"max_new_tokens must be an integer, got {self.max_new_tokens!r}."
            )
        if self.max_new_tokens < 1:
            raise InvalidLimitError(
                f"max_new_tokens must be at least 1, got {self.max_new_tokens}."
            )
        for stop in self.stop:
            if not isinstance(stop, str):
                raise InvalidOptionError(f"a stop string must be text, got {stop!r}.")
            if not stop:
                raise EmptyStopStringError(
                    "a stop string is empty, which would stop every answer at once; leave it out."
                )

    @classmethod
    def of(cls, conversation: Conversation | Request, **options: Any) -> Request:
        """A request from what users write: a question, a list of messages, or a request.

        Args:
            conversation: a question, messages (or mappings like them), or a ``Request``.
            options: ``max_new_tokens``, ``stop`` (a string or several), ``sampling``,
                ``constraint``, ``tools`` (each a ``Tool`` or a mapping in OpenAI's form),
                ``tool_choice``, ``parallel_tool_calls``, or any field of
                :class:`SamplingParams` by its own name.

        Raises:
            RequestError: for a conversation that cannot be answered.
            ConfigError: for an unknown option or a bad value.
        """
        own = set(cls.__dataclass_fields__) - {"messages"}
        drawn = set(SamplingParams.model_fields)
        for name in options:
            if name not in own | drawn:
                raise unknown_option("the request", name, sorted(own | drawn))
        base = conversation if isinstance(conversation, Request) else None
        sampling = options.get("sampling") or (base.sampling if base else SamplingParams())
        if not isinstance(sampling, SamplingParams):
            raise InvalidOptionError(f"sampling must be SamplingParams, got {sampling!r}.")
        changes = {name: value for name, value in options.items() if name in drawn}
        stop = options.get("stop", base.stop if base else ())
        if stop is not None and not isinstance(stop, Iterable):
            raise InvalidOptionError(f"stop must be a string or several, got {stop!r}.")
        fields = {name: value for name, value in options.items() if name in own}
        if fields.get("tools", ()) is None or isinstance(fields.get("tools"), str | Mapping):
            raise InvalidOptionError(f"tools must be a list of tools, got {fields['tools']!r}.")
        if "tools" in fields:
            fields["tools"] = tuple(Tool.of(tool) for tool in fields["tools"])
        fields["stop"] = (stop,) if isinstance(stop, str) else tuple(stop or ())
        fields["sampling"] = sampling.replace(**changes) if changes else sampling
        if base is not None:
            return replace(base, **fields)
        return cls(messages=_messages(conversation), **fields)  # type: ignore[arg-type]

    @property
    def calls(self) -> bool:
        """Whether the answer may call a tool."""
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def free(self) -> bool:
        """Whether the answer's text outside of calls may be anything."""
        return self.constraint is None and (not self.calls or self.tool_choice == "auto")

    @property
    def grammar(self) -> str | None:
        """The grammar of the whole answer; None if everything is allowed."""
        return grammar_of(
            self.constraint, self.tools, self.tool_choice, parallel=self.parallel_tool_calls
        )

    def seeded(self) -> Request:
        """The request itself if it has a seed, else one with a freshly drawn seed."""
        if self.sampling.seed is not None:
            return self
        seed = random.SystemRandom().getrandbits(32)
        return replace(self, sampling=self.sampling.replace(seed=seed))


def _messages(conversation: Conversation) -> tuple[Message, ...]:
    if isinstance(conversation, str):
        return (Message("user", conversation),)
    if isinstance(conversation, Mapping | Message) or not isinstance(conversation, Iterable):
        raise InvalidMessageError(
            f"a conversation is a string or a list of messages, got {type(conversation).__name__}."
        )
    return tuple(Message.of(message) for message in conversation)


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
