"""SpecFuseLLM: the fused ensemble as a LlamaIndex LLM.

This module joins LlamaIndex's calls to one stream of the engine. How messages, tools, responses and
structured answers are converted stands in the modules beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.bridge.pydantic import BaseModel, model_serializer
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.tools import BaseTool, ToolOutput
from llama_index.core.tools.calling import acall_tool_with_selection, call_tool_with_selection
from llama_index_instrumentation import get_dispatcher

from llamaindex_specfuse._messages import is_react, turns_of
from llamaindex_specfuse._responses import Answer, as_completion, whole
from llamaindex_specfuse._structured import Form
from llamaindex_specfuse._tools import described, selections, tools_of
from llamaindex_specfuse.errors import NotPicklableError, ToolCallError, surfacing
from llamaindex_specfuse.events import RunWatch
from llamaindex_specfuse.tokenizer import ConservativeTokenizer
from specfuse_core import Message, Request, Segment
from specfuse_core.arguments import check_call, request_options
from specfuse_core.deadline import Deadline
from specfuse_core.fields import EngineFields
from specfuse_core.fusion import pulled

__all__ = ["SpecFuseLLM"]

_dispatcher = get_dispatcher(__name__)

#: What core passes through to the model for its own use, or for other integrations'.
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
        "stream",
        "strict",
        "tool_required",
        "tool_retriever",
        "user_msg",
        "verbose",
    }
)
_LIMIT: Any = Request.__dataclass_fields__["max_new_tokens"].default
#: Tokens that chat templates put around messages, at most: PromptHelper does not count them.
_AROUND = 64
#: What ReAct's prompt leaves to the application.
_OBSERVATION = "\nObservation:"


@dataclass(frozen=True, slots=True)
class _Run:
    """One answer that has been asked for; no model has run yet."""

    segments: Generator[Segment, None, None]
    deadline: Deadline
    answer: Answer
    watch: RunWatch

    def responses(self, segment: Segment) -> list[ChatResponse]:
        if segment.finish_reason == "cancelled":
            self.deadline.check()
        self.watch.tell(segment)
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


class SpecFuseLLM(EngineFields, CustomLLM, FunctionCallingLLM):
    """One LLM made of several: they write each answer together, segment by segment.

    Weights are loaded at the first answer, and once per process, for LangChain's side too; deep
    copies share them. Whatever is not set follows the engine's own defaults.

    Every field from ``method`` to ``seed``, and ``max_tokens``, ``stop`` and ``timeout``, can also
    be given to a single call; so can ``tools``, ``tool_choice``, ``parallel_tool_calls``,
    ``response_format``, ``constraint`` and ``model`` (a name, several with commas between, or a
    list): a subset of the models. Other arguments of a call are refused, but for those that
    LlamaIndex itself passes on.

    Messages go to the engine, and each base model renders them by its own chat template, so
    ``messages_to_prompt`` is not used. As in all of LlamaIndex, ``system_prompt`` is for prompts
    (query engines, ``predict``, structured answers), not for ``chat`` and ``complete``.

    Errors are :class:`specfuse_core.FusionError`.
    """

    is_function_calling_model: bool = True
    """False makes LlamaIndex choose ReAct agents and text programs; the latter stay constrained in
    ``structured_predict``."""

    @classmethod
    def class_name(cls) -> str:
        """What serialized forms call this class."""
        return "SpecFuseLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """The smallest context window, and the room to leave for an answer and templates.

        Nothing is loaded for it, unless a model's files do not tell its window.
        """
        windows = [window for window in self._windows() if window is not None]
        known = len(windows) == len(self._windows())
        window = min(windows) if known else self._base().context_window
        wanted = max(self.max_tokens or _LIMIT, _AROUND)
        return LLMMetadata(
            context_window=window,
            num_output=min(wanted, window // 2),
            is_chat_model=True,
            is_function_calling_model=self.is_function_calling_model,
            model_name=self.model_name,
            system_role=MessageRole.SYSTEM,
        )

    def to_payload(self) -> dict[str, Any]:
        """What events tell of the model; nothing is loaded for it."""
        return {
            "class_name": self.class_name(),
            "model_name": self.model_name,
            "context_window": self._window(),
            "max_tokens": self.max_tokens or _LIMIT,
            "temperature": self.temperature or 0.0,
            "is_chat_model": True,
            "is_function_calling_model": self.is_function_calling_model,
        }

    @property
    def tokenizer(self) -> ConservativeTokenizer:
        """For ``Settings.tokenizer``: prompts that it measures fit every base model."""
        return ConservativeTokenizer(self._base)

    def as_single(self, name: str) -> SpecFuseLLM:
        """The same LLM with one base model of the ensemble alone.

        Raises:
            UnknownModelError: for a name that none has.
        """
        return type(self)(**self._alone(name))

    # --- answers ------------------------------------------------------------------------------

    def _begin(self, turns: Sequence[Message], call: Mapping[str, Any], watch: RunWatch) -> _Run:
        """Open the engine's stream: all that can be wrong with a request is raised here."""
        with surfacing():
            check_call(type(self).__name__, call, ignored=_CORE)
            values = self._values(call)
            engine = self._fusion(call)
            deadline = Deadline(values["timeout"])
            stop = [values["stop"]] if isinstance(values["stop"], str) else values["stop"] or []
            if is_react(turns):
                stop = [*stop, _OBSERVATION]
            options = request_options(values, stop, tools_of(values.get("tools") or ()))
            segments = engine.stream(turns, cancel=deadline, **options)
            answer = Answer(watch.request_id, ",".join(engine.models))
            return _Run(segments, deadline, answer, watch)

    async def _abegin(
        self, turns: Sequence[Message], call: Mapping[str, Any], watch: RunWatch
    ) -> _Run:
        # The first call imports torch and loads weights, which takes seconds.
        return await asyncio.to_thread(self._begin, turns, call, watch)

    def _prompt(self, prompt: str, formatted: bool) -> tuple[Message, ...]:
        """A prompt as the turn of a user: each base model has a template of its own."""
        if not formatted and self.completion_to_prompt is not None:
            prompt = self.completion_to_prompt(prompt)
        return (Message("user", prompt),)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation."""
        return self._begin(turns_of(messages), kwargs, RunWatch()).drained()

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a conversation, a response for each segment as soon as it has won.

        A bad request is an error here, not at the first response. An abandoned stream runs no
        further model.
        """
        return self._begin(turns_of(messages), kwargs, RunWatch()).stream()

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """:meth:`chat` without blocking the event loop; cancelling it stops within a round."""
        return await (await self._abegin(turns_of(messages), kwargs, RunWatch())).adrained()

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """:meth:`stream_chat` without blocking the event loop: one thread job per round."""
        return (await self._abegin(turns_of(messages), kwargs, RunWatch())).astream()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt: the one turn of a user."""
        run = self._begin(self._prompt(prompt, formatted), kwargs, RunWatch())
        return as_completion(run.drained())

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """:meth:`complete`, streamed as :meth:`stream_chat`."""
        run = self._begin(self._prompt(prompt, formatted), kwargs, RunWatch())
        return (as_completion(response) for response in run.stream())

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """:meth:`complete` without blocking the event loop."""
        run = await self._abegin(self._prompt(prompt, formatted), kwargs, RunWatch())
        return as_completion(await run.adrained())

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """:meth:`stream_complete` without blocking the event loop."""
        run = await self._abegin(self._prompt(prompt, formatted), kwargs, RunWatch())

        async def completions() -> CompletionResponseAsyncGen:
            async with aclosing(run.astream()) as responses:
                async for response in responses:
                    yield as_completion(response)

        return completions()

    # --- tools --------------------------------------------------------------------------------

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Arguments of ``chat`` for a conversation with tools; the caller's history stays as it is.

        Raises:
            InvalidToolError: for what describes no tool.
        """
        if isinstance(user_msg, str):
            user_msg = ChatMessage(role=MessageRole.USER, content=user_msg)
        messages = [*(chat_history or []), *([user_msg] if user_msg else [])]
        # The core's programs want an object and nothing else, and where they stream them they say
        # tool_choice=None and leave out tool_required (function_program.py).
        forced = tool_required or kwargs.get("tool_choice", "auto") is None
        choice = kwargs.pop("tool_choice", None)
        if not tools:
            return {"messages": messages, **kwargs}
        if choice is None:
            choice = "required" if forced else "auto"
        return {
            "messages": messages,
            "tools": described(tools),
            "tool_choice": choice,
            "parallel_tool_calls": allow_parallel_tool_calls,
            **kwargs,
        }

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The calls of a response; only whole ones are ever in it.

        Raises:
            ToolCallError: if there is none, unless that is allowed.
        """
        calls = selections(response.message)
        if not calls and error_on_no_tool_call:
            raise ToolCallError(
                f"the answer calls no tool: {response.message.content!r}; require a call "
                "(tool_required=True), or allow answers without one (error_on_no_tool_call=False)."
            )
        return calls

    def _calling(
        self,
        tools: Sequence[BaseTool],
        chat_history: list[ChatMessage] | None,
        error_on_no_tool_call: bool,
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Arguments of ``chat`` for the two below."""
        history = list(chat_history or [])
        said = history[0] if history else None
        # A program that predicts asynchronously forgets it (function_program.py).
        if said is None or said.role != MessageRole.SYSTEM or said.content != self.system_prompt:
            history = self._extend_messages(history)
        if options.get("tool_choice") is None:
            options = {**options, "tool_choice": "required" if error_on_no_tool_call else "auto"}
        return self._prepare_chat_with_tools(tools, chat_history=history, **options)

    def predict_and_call(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        error_on_no_tool_call: bool = True,
        error_on_tool_error: bool = False,
        **kwargs: Any,
    ) -> AgentChatResponse:
        """Let the models call tools, and call them.

        The models can do nothing else, unless answers without a call are allowed or
        ``tool_choice`` says so.

        Args:
            tools: what may be called.
            user_msg: the last turn, if it is not in ``chat_history``.
            chat_history: the turns before.
            verbose: print what is called.
            allow_parallel_tool_calls: whether there may be several calls.
            error_on_no_tool_call: False allows answers without a call.
            error_on_tool_error: raise what goes wrong in a tool.
            kwargs: any other argument of a call.

        Raises:
            ToolCallError: see the last two.
        """
        options = {
            "user_msg": user_msg,
            "allow_parallel_tool_calls": allow_parallel_tool_calls,
            **kwargs,
        }
        response = self.chat(**self._calling(tools, chat_history, error_on_no_tool_call, options))
        calls = self.get_tool_calls_from_response(response, error_on_no_tool_call)
        outputs = [call_tool_with_selection(call, tools, verbose=verbose) for call in calls]
        return _called(response, outputs, error_on_tool_error)

    async def apredict_and_call(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        error_on_no_tool_call: bool = True,
        error_on_tool_error: bool = False,
        **kwargs: Any,
    ) -> AgentChatResponse:
        """:meth:`predict_and_call` without blocking the event loop; tools run beside each other."""
        options = {
            "user_msg": user_msg,
            "allow_parallel_tool_calls": allow_parallel_tool_calls,
            **kwargs,
        }
        asked = self._calling(tools, chat_history, error_on_no_tool_call, options)
        response = await self.achat(**asked)
        calls = self.get_tool_calls_from_response(response, error_on_no_tool_call)
        outputs = await asyncio.gather(
            *(acall_tool_with_selection(call, tools, verbose=verbose) for call in calls)
        )
        return _called(response, outputs, error_on_tool_error)

    # --- structured answers -------------------------------------------------------------------

    def _formed(
        self,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        llm_kwargs: Mapping[str, Any] | None,
        prompt_args: Mapping[str, Any],
    ) -> tuple[Form, dict[str, Any]]:
        """The form of an answer, and the arguments of ``chat`` that bring it about."""
        _dispatcher.event(
            LLMStructuredPredictStartEvent(
                output_cls=output_cls, template=prompt, template_args=dict(prompt_args)
            )
        )
        form = Form(output_cls, self.pydantic_program_mode)
        messages = self._extend_messages(prompt.format_messages(llm=self, **prompt_args))
        kept = {name: value for name, value in (llm_kwargs or {}).items() if name != "tool_choice"}
        return form, {"messages": messages, **kept, **form.options}

    def structured_predict(
        self,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> BaseModel:
        """An object of ``output_cls``; the models can write nothing else.

        Args:
            output_cls: a pydantic class.
            prompt: what is asked; it stays as it is.
            llm_kwargs: arguments of the call.
            prompt_args: what the prompt is filled with.

        Raises:
            StructuredAnswerError: if the answer was cut off, or validators of the class refuse it.
            InvalidConstraintError: for a class whose schema cannot be followed.
        """
        form, asked = self._formed(output_cls, prompt, llm_kwargs, prompt_args)
        found = form.object(self.chat(**asked))
        _dispatcher.event(LLMStructuredPredictEndEvent(output=found))
        return found

    async def astructured_predict(
        self,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> BaseModel:
        """:meth:`structured_predict` without blocking the event loop."""
        form, asked = self._formed(output_cls, prompt, llm_kwargs, prompt_args)
        found = form.object(await self.achat(**asked))
        _dispatcher.event(LLMStructuredPredictEndEvent(output=found))
        return found

    def stream_structured_predict(
        self,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[BaseModel, None, None]:
        """:meth:`structured_predict`, with what there is of the object so far.

        What comes before the last may be of a class with the same fields, all of them optional.
        """
        form, asked = self._formed(output_cls, prompt, llm_kwargs, prompt_args)
        responses = self.stream_chat(**asked)
        shown = None
        for last in responses:
            found = form.partial(last)
            if found is not None:
                shown = found
                _dispatcher.event(LLMStructuredPredictInProgressEvent(output=found))
                yield found
        found = form.object(last)
        _dispatcher.event(LLMStructuredPredictEndEvent(output=found))
        if found != shown:
            yield found

    async def astream_structured_predict(
        self,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[BaseModel, None]:
        """:meth:`stream_structured_predict` without blocking the event loop."""
        form, asked = self._formed(output_cls, prompt, llm_kwargs, prompt_args)
        responses = await self.astream_chat(**asked)

        async def objects() -> AsyncGenerator[BaseModel, None]:
            shown = None
            async with aclosing(responses):
                async for last in responses:
                    found = form.partial(last)
                    if found is not None:
                        shown = found
                        _dispatcher.event(LLMStructuredPredictInProgressEvent(output=found))
                        yield found
            found = form.object(last)
            _dispatcher.event(LLMStructuredPredictEndEvent(output=found))
            if found != shown:
                yield found

        return objects()

    # --- copies -------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> SpecFuseLLM:
        """A copy that shares what is loaded."""
        return self.model_copy()

    def __getstate__(self) -> dict[Any, Any]:
        """Refused: LlamaIndex would drop what cannot be pickled from the model that is in use.

        Raises:
            NotPicklableError: always.
        """
        raise NotPicklableError(
            "a SpecFuseLLM cannot be pickled; make it anew in the other process from its fields "
            "(SpecFuseLLM.from_dict(llm.to_dict())), or use threads instead of processes."
        )

    @model_serializer(mode="wrap")
    def custom_model_dump(self, handler: Any, info: Any) -> dict[str, Any]:
        """The fields; what is made from them is found again by its ``class_name``."""
        data: dict[str, Any] = handler(self)
        if self.engine is not None:
            # Nothing else tells two engines apart, for caches of what they answered.
            data["models"] = list(self.engine.models)
        elif self.models is not None:
            data["models"] = [
                fspath(model) if isinstance(model, PathLike) else given
                for model, given in zip(self.models, data["models"], strict=True)
            ]
        data["class_name"] = self.class_name()
        return data


def _called(
    response: ChatResponse, outputs: Sequence[ToolOutput], error_on_tool_error: bool
) -> AgentChatResponse:
    """What tools said, as the answer."""
    said = "\n\n".join(output.content for output in outputs)
    if error_on_tool_error and any(output.is_error for output in outputs):
        raise ToolCallError(said)
    text = said if outputs else response.message.content or ""
    return AgentChatResponse(response=text, sources=list(outputs))
