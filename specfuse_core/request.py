"""A request: the conversation, the limits of its answer, and the constraint that it must follow.

Values are validated when they are created. This module knows nothing of base models.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from specfuse_core.config import SamplingParams, unknown_option
from specfuse_core.errors import (
    EmptyConversationError,
    EmptyStopStringError,
    InvalidConstraintError,
    InvalidLimitError,
    InvalidMessageError,
    InvalidOptionError,
)
from specfuse_core.grammar.answers import grammar_of
from specfuse_core.grammar.constraints import Constraint
from specfuse_core.grammar.openings import Offered
from specfuse_core.grammar.tools import Tool, ToolChoice, called_tools, check_tools
from specfuse_core.message import Message, Role, ToolCall
from specfuse_core.values import check_text, listed, shown

__all__ = ["Conversation", "Message", "OnLimit", "Request", "Role", "ToolCall"]

#: What happens to a tool call or a constrained answer that reaches a limit.
OnLimit = Literal["error", "close"]

#: What users may pass as a conversation.
Conversation = str | Sequence[Message | Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Request:
    """A conversation to answer, with the limits and the form of the answer.

    Args:
        messages: the conversation. If it ends with an assistant message, the answer continues
            that message.
        max_new_tokens: maximum length of the answer with its tool calls, in tokens of the first
            base model. It counts the tokens that the answer adds to the prompt, without white space
            that the template or the tokenizer puts before the answer. An answer with the finish
            reason ``"length"`` has exactly this many tokens, or fewer if the next character needs
            more tokens than are left, if a constraint had to be closed, or if the tokenizer drops
            the text. By default, an answer may have 4,096 tokens, and another 4,096 tokens of
            tool calls. A full context window ends an answer in any case.
        max_call_tokens: maximum length of the tool calls of the answer together, in tokens of the
            first base model; by default ``max_new_tokens`` if it is set, otherwise 4,096.
        on_limit: what happens to a tool call or a constrained answer that reaches a limit or the
            end of a context window. ``"error"`` delivers the call with an error, and the
            integrations raise an error instead of returning a structured answer. ``"close"``
            completes the JSON and delivers it as valid. In both cases a constrained text is
            completed, and ``closed_by_force`` is set.
        context_window: maximum number of tokens of prompt and answer together, in tokens of every
            base model. It never extends the context window of a model.
        stop: strings that end the answer. The answer does not include them.
        sampling: sampling parameters of the drafts.
        constraint: the form that the answer must have.
        tools: tools that the answer may call.
        tool_choice: ``"auto"`` allows text and tool calls, ``"none"`` only text, ``"required"``
            only tool calls. The name of a tool requires a call of that tool.
        parallel_tool_calls: whether the answer may call several tools.
        reasoning: whether models may think before the answer. True and False also set the switch
            of each chat template that has one (``enable_thinking``, ``thinking``,
            ``reasoning_effort``). A number allows that many tokens of thinking. None leaves the
            templates as they are; before a constrained answer, models that think may think.
        chat_template_kwargs: variables of the chat templates for this request, which replace those
            of the models.
        prompt: text that the answer continues, in place of messages. No chat template touches it.
        special_tokens: whether special tokens in the prompt count as such. By default they are
            text, as in messages.
        strict_schema: whether to refuse a schema of the constraint or of a tool if the grammar
            cannot enforce all of its keywords. By default, the finished value is checked: a call
            that is not valid has an ``error``, and an invalid answer has ``Generation.invalid``.

    Raises:
        RequestError: if the conversation, a stop string, the constraint or a tool is invalid.
        InvalidOptionError: if another value has the wrong type or is out of range.
    """

    messages: tuple[Message, ...] = ()
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    constraint: Constraint | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    max_call_tokens: int | None = None
    on_limit: OnLimit = "error"
    context_window: int | None = None
    reasoning: bool | int | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    strict_schema: bool = False
    prompt: str | None = None
    special_tokens: bool = False

    def __post_init__(self) -> None:
        if self.constraint is not None and not isinstance(self.constraint, Constraint):
            raise InvalidConstraintError(
                f"constraint must be a JsonSchema, JsonObject, Regex, Choice or Grammar, got "
                f"{type(self.constraint).__name__}."
            )
        if not isinstance(self.tool_choice, str):
            raise InvalidOptionError(
                f"tool_choice must be a string, got {shown(self.tool_choice)}."
            )
        for name, kind in (("messages", Message), ("tools", Tool)):
            entries = listed(getattr(self, name), name, f"{kind.__name__} objects")
            if not all(isinstance(each, kind) for each in entries):
                raise InvalidOptionError.of(
                    name, f"must be {kind.__name__} objects, got {shown(entries)}."
                )
        check_tools(self.tools, self.tool_choice)
        if self.prompt is not None:
            self._check_prompt()
        elif not any(message.content or message.tool_calls for message in self.messages):
            raise EmptyConversationError(
                "the conversation is empty; give at least one message with text."
            )
        for name in ("max_new_tokens", "max_call_tokens", "context_window"):
            limit = getattr(self, name)
            if limit is None:
                continue
            if isinstance(limit, bool) or not isinstance(limit, int):
                raise InvalidOptionError.of(name, f"must be an integer, got {shown(limit)}.")
            if limit < 1:
                raise InvalidLimitError.of(name, f"must be at least 1, got {limit}.")
        if self.reasoning is not None and not isinstance(self.reasoning, bool | int):
            raise InvalidOptionError.of(
                "reasoning",
                f"must be True, False or a number of tokens, got {shown(self.reasoning)}.",
            )
        if self.reasoning is not None and self.reasoning < 0:
            raise InvalidLimitError.of("reasoning", f"must be at least 0, got {self.reasoning}.")
        kwargs = self.chat_template_kwargs
        if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
            raise InvalidOptionError.of(
                "chat_template_kwargs",
                f"must be a mapping of names of variables to values, got {shown(kwargs)}.",
            )
        if not isinstance(self.strict_schema, bool):
            raise InvalidOptionError.of(
                "strict_schema", f"must be True or False, got {shown(self.strict_schema)}."
            )
        if self.on_limit not in get_args(OnLimit):
            raise InvalidOptionError.of(
                "on_limit", f"must be 'error' or 'close', got {shown(self.on_limit)}."
            )
        if not isinstance(self.sampling, SamplingParams):
            raise InvalidOptionError.of(
                "sampling", f"must be a SamplingParams, got {shown(self.sampling)}."
            )
        for stop in listed(self.stop, "stop", "strings"):
            if not isinstance(stop, str):
                raise InvalidOptionError(f"each stop string must be a str, got {shown(stop)}.")
            if not stop:
                raise EmptyStopStringError("a stop string is empty; leave it out.")
            check_text(stop, "a stop string", InvalidOptionError)

    @classmethod
    def of(cls, conversation: Conversation | Request, **options: Any) -> Request:
        """Make a request from a question, a list of messages or another request.

        Args:
            conversation: a question, a list of messages (each a ``Message`` or a mapping), or a
                ``Request`` whose values are the defaults of ``options``.
            options: any other field of this class, and any field of :class:`SamplingParams`.
                ``stop`` may be a string or a list of strings, and each of the ``tools`` a ``Tool``
                or a mapping in OpenAI's format.

        Raises:
            RequestError: if the conversation, the constraint or a tool is invalid.
            ConfigError: if an option is unknown or its value is invalid.
        """
        own = set(cls.__dataclass_fields__) - {"messages"}
        drawn = set(SamplingParams.model_fields)
        for name in options:
            if name not in own | drawn:
                raise unknown_option("the request", name, sorted(own | drawn))
        base = conversation if isinstance(conversation, Request) else None
        sampling = options.get("sampling") or (base.sampling if base else SamplingParams())
        if not isinstance(sampling, SamplingParams):
            raise InvalidOptionError.of(
                "sampling", f"must be a SamplingParams, got {shown(sampling)}."
            )
        changes = {name: value for name, value in options.items() if name in drawn}
        stop = options.get("stop", base.stop if base else ())
        if stop is not None and not isinstance(stop, Iterable):
            raise InvalidOptionError(
                f"stop must be a string or a list of strings, got {shown(stop)}."
            )
        fields = {name: value for name, value in options.items() if name in own}
        if "tools" in fields:
            tools = listed(fields["tools"], "tools", "tools")
            fields["tools"] = tuple(Tool.of(tool) for tool in tools)
        fields["stop"] = (stop,) if isinstance(stop, str) else tuple(stop or ())
        fields["sampling"] = sampling.replace(**changes) if changes else sampling
        if base is not None:
            return replace(base, **fields)
        return cls(messages=messages_of(conversation), **fields)  # type: ignore[arg-type]

    def _check_prompt(self) -> None:
        """Check a request with a prompt in place of messages."""
        if not isinstance(self.prompt, str) or not self.prompt:
            raise InvalidOptionError.of(
                "prompt", f"must be a text that is not empty, got {shown(self.prompt)}."
            )
        check_text(self.prompt, "the prompt", InvalidMessageError)
        if self.messages:
            raise InvalidOptionError("messages and prompt were both given; give only one of them.")
        for name in ("tools", "reasoning", "chat_template_kwargs"):
            if getattr(self, name):
                raise InvalidOptionError(
                    f"{name} was given with a prompt, which no chat template touches; use messages "
                    f"or leave {name} out."
                )

    @property
    def calls(self) -> bool:
        """Whether the answer may call a tool."""
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def free(self) -> bool:
        """Whether the text of the answer outside of tool calls is unconstrained."""
        return self.constraint is None and (not self.calls or self.tool_choice == "auto")

    @property
    def offered(self) -> Offered:
        """The tools that the answer may call, and whether it may begin with reasoning."""
        if self.prompt is not None:
            return Offered(thinks=False)
        final = self.messages[-1]
        # An answer that continues an assistant message does not begin with reasoning.
        begun = final.role == "assistant" and bool(final.content)
        thinks = not begun and (self.free or self.reasoning is None or bool(self.reasoning))
        called = called_tools(self.tools, self.tool_choice)
        return Offered(tuple(tool.name for tool in called), thinks)

    @property
    def grammar(self) -> str | None:
        """The grammar of the whole answer; None if the answer is unconstrained."""
        return self._grammar(thinks=self.offered.thinks)

    @property
    def body(self) -> str | None:
        """The grammar of a constrained answer without its reasoning; None if it has none."""
        return None if self.free or not self.offered.thinks else self._grammar(thinks=False)

    def _grammar(self, *, thinks: bool) -> str | None:
        return grammar_of(
            self.constraint,
            self.tools,
            self.tool_choice,
            parallel=self.parallel_tool_calls,
            thinks=thinks,
        )

    def window(self, own: int) -> int:
        """Return the context window of this request in a base model whose own window is given."""
        return own if self.context_window is None else min(own, self.context_window)

    def seeded(self) -> Request:
        """Return the request itself if it has a seed, otherwise a copy with a random seed."""
        if self.sampling.seed is not None:
            return self
        seed = random.SystemRandom().getrandbits(32)
        return replace(self, sampling=self.sampling.replace(seed=seed))


def messages_of(conversation: Conversation) -> tuple[Message, ...]:
    """Convert a question or a list of messages.

    Raises:
        InvalidMessageError: if it is neither, or a message is invalid.
    """
    if isinstance(conversation, str):
        return (Message("user", conversation),)
    if isinstance(conversation, Mapping | Message) or not isinstance(conversation, Iterable):
        raise InvalidMessageError(
            "the conversation must be a string or a list of messages, got "
            f"{type(conversation).__name__}."
        )
    return tuple(Message.of(message) for message in conversation)
