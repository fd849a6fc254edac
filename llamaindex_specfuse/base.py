"""SpecFuseLLM, the LlamaIndex LLM.

This module adds tools and structured answers to the endpoints of ``_endpoints``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.program.utils import FlexibleModel
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.tools import BaseTool, ToolOutput
from llama_index.core.tools.calling import acall_tool_with_selection, call_tool_with_selection
from llama_index.core.types import Model
from llama_index_instrumentation import get_dispatcher

from llamaindex_specfuse._endpoints import Endpoints
from llamaindex_specfuse._responses import call_errors, finish_reason
from llamaindex_specfuse._structured import Form
from llamaindex_specfuse._tools import described, selections, tools_of
from llamaindex_specfuse.errors import ToolCallError
from specfuse_core.frameworks.aliases import accepting
from specfuse_core.frameworks.schemas import check_forms

__all__ = ["SpecFuseLLM"]

_dispatcher = get_dispatcher(__name__)


class _Extended(list[ChatMessage]):
    """Messages that have the system prompt."""


class SpecFuseLLM(Endpoints):
    """LlamaIndex LLM in which several language models write each answer together.

    The models run in this process. They are loaded once, at the first answer. Deep copies, and
    LangChain's ``ChatSpecFuse``, share them. Without ``models``, the small models of the package
    are used. These need no download, but they know only the small world of the examples below.

    All options of ``FusionConfig`` and ``SamplingParams`` are fields, and so are ``max_tokens``,
    ``stop`` and ``timeout``. They can also be given to a single call, as can ``tools``,
    ``tool_choice``, ``parallel_tool_calls``, ``response_format``, ``constraint`` and ``model`` (the
    names of the base models to use). An option that is not set has the engine's default. Any other
    argument of a call raises an error, except those that LlamaIndex itself passes.

    Each base model renders the messages with its own chat template. A ``messages_to_prompt`` that
    you set, and ``complete(..., formatted=True)``, give a prompt that no chat template touches; its
    special tokens count as such. As in other LlamaIndex LLMs, ``system_prompt`` is used by query
    engines, ``predict`` and structured answers, but not by ``chat`` and ``complete``.

    Every error is a :class:`specfuse_core.FusionError`.

    Examples:
        `pip install 'specfuse[llamaindex]'`

        ```python
        from llamaindex_specfuse import SpecFuseLLM

        llm = SpecFuseLLM(
            # models=["org/first-model", "org/second-model"],
            temperature=0,
            max_tokens=200,
        )
        print(llm.complete("The attic has 7 lamps. How many lamps are in the attic?"))
        ```

        ```text
        The attic has 7 lamps.
        ```

        Chat:

        ```python
        from llama_index.core.llms import ChatMessage

        notes = "The hall has 12 lamps. The attic has 7 lamps."
        question = "How many lamps are in the hall and the attic in total?"
        messages = [
            ChatMessage(role="system", content=notes),
            ChatMessage(role="user", content=question),
        ]
        print(llm.chat(messages))
        ```

        ```text
        assistant: The hall has 12 lamps. The attic has 7 lamps. 12 + 7 = 19. The answer is 19.
        ```

        Streaming, with one response per segment:

        ```python
        for response in llm.stream_chat(messages):
            print(response.delta, end="|")
        ```

        ```text
        The hall has 12 lamps. The| attic has 7 lamps. 12 +| 7 = 19. The answer| is 19.||
        ```

        Async:

        ```python
        print(await llm.achat(messages))
        ```

        ```text
        assistant: The hall has 12 lamps. The attic has 7 lamps. 12 + 7 = 19. The answer is 19.
        ```

        Tools. The arguments of a call always match the schema of the tool:

        ```python
        from llama_index.core.tools import FunctionTool

        def order_lamps(quantity: int) -> str:
            '''Order lamps.'''
            return f"{quantity} lamps ordered"

        tool = FunctionTool.from_defaults(order_lamps)
        response = llm.chat_with_tools([tool], user_msg="Please order 12 lamps.")
        for call in llm.get_tool_calls_from_response(response):
            print(call.tool_name, call.tool_kwargs)
        ```

        ```text
        order_lamps {'quantity': 12}
        ```

        Structured answers:

        ```python
        from llama_index.core import PromptTemplate
        from pydantic import BaseModel

        class Person(BaseModel):
            name: str
            age: int
            city: str

        prompt = PromptTemplate("{notes} Who is Anna?")
        notes = "Anna is 31 years old. Anna lives in Oslo."
        print(repr(llm.structured_predict(Person, prompt, notes=notes)))
        ```

        ```text
        Person(name='Anna', age=31, city='Oslo')
        ```

        Which model wrote what, in any application that uses the LLM:

        ```python
        from llamaindex_specfuse import capture

        with capture() as trace:
            llm.chat(messages)
        for won in trace.rounds:
            print(won.model, repr(won.text))
        ```

        ```text
        reader 'The hall has 12 lamps. The'
        reader ' attic has 7 lamps. 12 +'
        reckoner ' 7 = 19. The answer'
        reader ' is 19.'
        ```
    """

    def as_single(self, name: str) -> SpecFuseLLM:
        """Return the same LLM with only one base model of the ensemble.

        Raises:
            UnknownModelError: if no base model has that name.
        """
        return type(self)(**self._alone(name))

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
        """Return the arguments of ``chat`` for a conversation with tools.

        It does not change ``chat_history``.

        Raises:
            InvalidToolError: if an object does not describe a tool.
        """
        if isinstance(user_msg, str):
            user_msg = ChatMessage(role=MessageRole.USER, content=user_msg)
        messages = [*(chat_history or []), *([user_msg] if user_msg else [])]
        # llama-index-core's programs want an object and nothing else. When they stream, they pass
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
        """Return the tool calls of a response. A call that a limit cut is none of them.

        Raises:
            ToolCallError: if there is no call and ``error_on_no_tool_call`` is True.
        """
        calls = selections(response.message)
        if not calls and error_on_no_tool_call:
            errors = call_errors(response)
            if errors:
                raise ToolCallError(f"the answer has no valid call. {' '.join(errors)}")
            hint = (
                "Use a larger max_tokens"
                if finish_reason(response) == "length"
                else "Require a call with tool_required=True, or allow answers without one with "
                "error_on_no_tool_call=False"
            )
            raise ToolCallError(f"the answer calls no tool: {response.message.content!r}. {hint}.")
        return calls

    def _calling(
        self,
        tools: Sequence[BaseTool],
        chat_history: list[ChatMessage] | None,
        error_on_no_tool_call: bool,
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return the arguments of ``chat`` for the two methods below."""
        # Only the synchronous programs of llama-index-core add the system prompt
        # (function_program.py).
        history = chat_history or []
        if not isinstance(history, _Extended):
            history = self._extend_messages(list(history))
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
        """Let the models call tools, and run the tools.

        The models must call a tool, unless ``error_on_no_tool_call`` is False or ``tool_choice``
        allows an answer without a call.

        Args:
            tools: the tools that the models may call.
            user_msg: the last message, if it is not in ``chat_history``.
            chat_history: the earlier messages.
            verbose: print the calls.
            allow_parallel_tool_calls: allow several calls in one answer.
            error_on_no_tool_call: raise an error if the answer has no call.
            error_on_tool_error: raise an error if a tool fails.
            kwargs: any other argument of a call.

        Raises:
            ToolCallError: if no tool was called or a tool failed, unless the arguments allow it.
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
        """Like :meth:`predict_and_call`, without blocking the event loop.

        Several tools run at the same time.
        """
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

    def _extend_messages(self, messages: list[ChatMessage]) -> list[ChatMessage]:
        """Add the system prompt to messages."""
        return _Extended(super()._extend_messages(messages))

    # --- structured answers -------------------------------------------------------------------

    def as_structured_llm(self, output_cls: type[BaseModel], **kwargs: Any) -> StructuredLLM:
        """Return an LLM whose answers are objects of ``output_cls``.

        Raises:
            InvalidConstraintError: if it is not a pydantic class, or no object satisfies its
                schema.
        """
        asked = Form(output_cls, self.pydantic_program_mode).options
        with accepting():
            check_forms(self._values(asked), tools_of(asked.get("tools", ())))
        return super().as_structured_llm(output_cls, **kwargs)

    def _formed(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: Mapping[str, Any] | None,
        prompt_args: Mapping[str, Any],
    ) -> tuple[Form[Model], dict[str, Any]]:
        """Return the form of an answer, and the arguments of ``chat`` for it."""
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
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Return an object of ``output_cls``. The models can only write JSON of this class.

        Args:
            output_cls: a pydantic class.
            prompt: the prompt template. It is not changed.
            llm_kwargs: arguments of the call.
            prompt_args: variables of the prompt template.

        Raises:
            StructuredAnswerError: if the answer was cut off, or the class does not accept it.
            InvalidConstraintError: if the schema of the class is not supported.
        """
        form, asked = self._formed(output_cls, prompt, llm_kwargs, prompt_args)
        found = form.object(self.chat(**asked))
        _dispatcher.event(LLMStructuredPredictEndEvent(output=found))
        return found

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Like :meth:`structured_predict`, without blocking the event loop."""
        form, asked = self._formed(output_cls, prompt, llm_kwargs, prompt_args)
        found = form.object(await self.achat(**asked))
        _dispatcher.event(LLMStructuredPredictEndEvent(output=found))
        return found

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel, None, None]:
        """Like :meth:`structured_predict`, but yield the object each time it grows.

        Until the object is complete, it may belong to a class with the same fields, all optional.
        """
        form, asked = self._formed(output_cls, prompt, llm_kwargs, prompt_args)
        responses = self.stream_chat(**asked)
        shown: Model | FlexibleModel | None = None
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
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | FlexibleModel, None]:
        """Like :meth:`stream_structured_predict`, without blocking the event loop."""
        form, asked = self._formed(output_cls, prompt, llm_kwargs, prompt_args)
        responses = await self.astream_chat(**asked)

        async def objects() -> AsyncGenerator[Model | FlexibleModel, None]:
            shown: Model | FlexibleModel | None = None
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


def _called(
    response: ChatResponse, outputs: Sequence[ToolOutput], error_on_tool_error: bool
) -> AgentChatResponse:
    """Return the outputs of tools as the answer."""
    said = "\n\n".join(output.content for output in outputs)
    if error_on_tool_error and any(output.is_error for output in outputs):
        raise ToolCallError(said)
    text = said if outputs else response.message.content or ""
    return AgentChatResponse(response=text, sources=list(outputs))
