"""The eight endpoints of SpecFuseLLM, which all use the engine's stream.

Other modules of this package convert messages and responses. This module knows nothing of tools and
pydantic classes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, TypeVar, cast

from llama_index.core.base.llms.generic_utils import (
    messages_to_prompt as generic_messages_to_prompt,
)
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

from llamaindex_specfuse._ensemble import Ensemble
from llamaindex_specfuse._messages import check_messages, turns_of
from llamaindex_specfuse._react import with_observation
from llamaindex_specfuse._responses import Answer, as_completion, whole
from llamaindex_specfuse._tools import tools_of
from llamaindex_specfuse.errors import surfacing
from llamaindex_specfuse.events import RunWatch
from specfuse_core import Message, Request, Segment
from specfuse_core.answer.async_stream import pulled
from specfuse_core.answer.deadline import Deadline
from specfuse_core.answer.jobs import run_in_thread
from specfuse_core.errors import InvalidMessageError
from specfuse_core.frameworks.aliases import accepting, renamed
from specfuse_core.frameworks.arguments import check_call, request_options
from specfuse_core.frameworks.cut import Cut
from specfuse_core.frameworks.showing import with_schema
from specfuse_core.values import shown

__all__ = ["Endpoints"]

#: Arguments that llama-index-core passes on for its own use or for other integrations.
_CORE = frozenset(
    {
        "allow_parallel_tool_calls",
        "chat_history",
        "error_on_no_tool_call",
        "error_on_tool_error",
        "formatted",
        "llm_kwargs",
        "memory",
        "output_parser",
        "react_chat_formatter",
        "strict",
        "tool_required",
        "tool_retriever",
        "user_msg",
        "verbose",
    }
)


Method = TypeVar("Method", bound=Callable[..., Any])
Turns = Callable[[], tuple[Message, ...] | Request]


# LlamaIndex's decorators have no types. With them alone, type checkers would see Any. They make an
# event of the input before they call the method, so it is checked before.


def _chat_endpoint(method: Method) -> Method:
    return _checked(method, llm_chat_callback()(method), "messages", check_messages)


def _completion_endpoint(method: Method) -> Method:
    return _checked(method, llm_completion_callback()(method), "prompt", _check_prompt)


def _checked(method: Method, decorated: Any, name: str, check: Callable[[Any], None]) -> Method:
    @wraps(decorated)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        check(args[0] if args else kwargs.get(name))
        return decorated(self, *args, **kwargs)

    @wraps(decorated)
    async def achecked(self: Any, *args: Any, **kwargs: Any) -> Any:
        check(args[0] if args else kwargs.get(name))
        return await decorated(self, *args, **kwargs)

    return cast(Method, achecked if asyncio.iscoroutinefunction(method) else checked)


def _check_prompt(prompt: Any) -> None:
    if not isinstance(prompt, str):
        raise InvalidMessageError(f"the prompt must be a string, got {shown(prompt)}.")


@dataclass(frozen=True, slots=True)
class _Run:
    """One requested answer. No model has run yet."""

    segments: Generator[Segment, None, None]
    deadline: Deadline
    answer: Answer
    watch: RunWatch

    def close(self) -> None:
        self.segments.close()

    def responses(self, segment: Segment) -> list[ChatResponse]:
        if segment.finish_reason == "cancelled":
            self.deadline.check()
        self.watch.send(segment)
        responses = self.answer.feed(segment)
        if segment.finish_reason is not None:
            self.watch.end((responses[-1].raw or {})["specfuse"])
        return responses

    def stream(self) -> Generator[ChatResponse, None, None]:
        with surfacing(), closing(self.segments):
            for segment in self.segments:
                yield from self.responses(segment)

    async def astream(self) -> AsyncGenerator[ChatResponse, None]:
        with surfacing():
            async with aclosing(pulled(self.segments)) as segments:
                async for segment in segments:
                    for response in self.responses(segment):
                        yield response

    def drained(self) -> ChatResponse:
        for response in self.stream():
            last = response
        return whole(last)

    async def adrained(self) -> ChatResponse:
        async with aclosing(self.astream()) as responses:
            async for response in responses:
                last = response
        return whole(last)


class Endpoints(Ensemble):
    """The part of ``SpecFuseLLM`` that answers messages and prompts."""

    def _begin(self, made: Turns, call: Mapping[str, Any], watch: RunWatch) -> _Run:
        """Open the engine's stream. A bad request raises its error here.

        Args:
            made: makes the conversation.
            call: the arguments of the call.
            watch: sends the events of the answer.
        """
        with accepting(), renamed({}):
            call = check_call(type(self).__name__, call, _CORE, self._values())
            values = self._values(call)
            engine = self._fusion(call)
            deadline = Deadline(values["timeout"])
            conversation = made()
            turns = () if isinstance(conversation, Request) else conversation
            stop = with_observation(values["stop"], turns)
            options = request_options(values, stop, tools_of(values.get("tools") or ()))
            if turns and values["schema_in_prompt"] and values.get("response_format") is not None:
                conversation = with_schema(turns, options.get("constraint"))
            request = Request.of(conversation, **options)
        with surfacing():
            segments = engine.stream(request, cancel=deadline)
            answer = Answer(watch.request_id, ",".join(engine.models), Cut(values))
            return _Run(segments, deadline, answer, watch)

    async def _abegin(self, turns: Turns, call: Mapping[str, Any], watch: RunWatch) -> _Run:
        # The first call imports torch and loads the weights, which takes seconds.
        return await run_in_thread(self._begin, turns, call, watch)

    def _turns(self, messages: Sequence[ChatMessage]) -> tuple[Message, ...] | Request:
        """Convert messages; with a ``messages_to_prompt`` of the user, to a formatted prompt."""
        if self.messages_to_prompt in (None, generic_messages_to_prompt):
            return turns_of(messages)
        return Request(prompt=self.messages_to_prompt(messages), special_tokens=True)

    def _prompt(self, prompt: str, formatted: bool) -> tuple[Message, ...] | Request:
        """Convert a prompt to a user message; each base model renders it with its template.

        A formatted prompt is not rendered.
        """
        if formatted:
            return Request(prompt=prompt, special_tokens=True)
        if self.completion_to_prompt is not None:
            prompt = self.completion_to_prompt(prompt)
        return (Message("user", prompt),)

    @_chat_endpoint
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a list of messages.

        Args:
            messages: the conversation. If it ends with an assistant message, the answer continues
                that message.
            kwargs: options of this call; see :class:`SpecFuseLLM`.

        Raises:
            RequestError: if the request is invalid or its prompt is too long.
            ConfigError: if an option is unknown or its value is invalid.
            ModelLoadError: if a base model could not be loaded.
            GenerationError: if generation fails, or takes longer than ``timeout``.
        """
        return self._begin(partial(self._turns, messages), kwargs, RunWatch()).drained()

    @_chat_endpoint
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a list of messages, with one response per segment as soon as it has won the vote.

        An invalid request raises its error in this call, not at the first response. The models stop
        when the stream is closed. The arguments and errors are those of :meth:`chat`.
        """
        return self._begin(partial(self._turns, messages), kwargs, RunWatch()).stream()

    @_chat_endpoint
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Like :meth:`chat`, without blocking the event loop.

        If the task is cancelled, the models stop within a round.
        """
        return await (
            await self._abegin(partial(self._turns, messages), kwargs, RunWatch())
        ).adrained()

    @_chat_endpoint
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Like :meth:`stream_chat`, without blocking the event loop. Rounds run in a thread."""
        return (await self._abegin(partial(self._turns, messages), kwargs, RunWatch())).astream()

    @_completion_endpoint
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt, which becomes one user message. The errors are those of :meth:`chat`."""
        run = self._begin(partial(self._prompt, prompt, formatted), kwargs, RunWatch())
        return as_completion(run.drained())

    @_completion_endpoint
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Like :meth:`complete`, with one response per segment as in :meth:`stream_chat`."""
        run = self._begin(partial(self._prompt, prompt, formatted), kwargs, RunWatch())
        return (as_completion(response) for response in run.stream())

    @_completion_endpoint
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Like :meth:`complete`, without blocking the event loop."""
        run = await self._abegin(partial(self._prompt, prompt, formatted), kwargs, RunWatch())
        return as_completion(await run.adrained())

    @_completion_endpoint
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Like :meth:`stream_complete`, without blocking the event loop."""
        run = await self._abegin(partial(self._prompt, prompt, formatted), kwargs, RunWatch())

        async def completions() -> CompletionResponseAsyncGen:
            async with aclosing(run.astream()) as responses:
                async for response in responses:
                    yield as_completion(response)

        return completions()
