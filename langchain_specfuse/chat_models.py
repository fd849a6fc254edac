"""ChatSpecFuse, the LangChain chat model.

This module connects LangChain's methods to the stream of the engine. The other modules of this
package convert messages, tools, chunks and structured answers.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, closing
from operator import itemgetter
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from pydantic import BaseModel

from langchain_specfuse._chunks import Chunks, with_errors
from langchain_specfuse._ensemble import Ensemble
from langchain_specfuse._events import Rounds
from langchain_specfuse._messages import turns_of
from langchain_specfuse._structured import CALLED, JSON, Method, parser_of, schema_of
from langchain_specfuse._tools import choice_of, described, tools_of
from langchain_specfuse.errors import both_names
from specfuse_core import FusionEngine
from specfuse_core.answer.deadline import Deadline
from specfuse_core.answer.jobs import run_in_thread
from specfuse_core.errors import InvalidOptionError
from specfuse_core.frameworks.aliases import accepting
from specfuse_core.frameworks.arguments import check_call, request_options
from specfuse_core.frameworks.cut import Cut
from specfuse_core.frameworks.schemas import check_forms
from specfuse_core.frameworks.showing import with_schema
from specfuse_core.values import shown

__all__ = ["ChatSpecFuse"]


class ChatSpecFuse(Ensemble):
    """LangChain chat model in which several language models write each answer together.

    The models run in this process. They are loaded once, at the first answer. Copies, bindings and
    reconfigured models share them. An option that is not set has the engine's default.

    Setup:
        No account or key is needed.

        ```bash
        pip install 'specfuse[langchain]'
        ```

    Key init args (models):
        models:
            The base models: hub ids, directories or ``ModelConfig``. By default they are the small
            models of the package. These need no download, but they know only the small world of
            the examples below.
        engine:
            A ``FusionEngine`` to use instead of ``models``, for example over loaded models.
        drafters, verifiers:
            Names of the base models that draft and that verify; all of them by default.
        parallel:
            Whether each base model runs in a thread of its own.

    Key init args (completion):
        temperature, top_p, top_k, min_p, repetition_penalty, seed:
            How drafts are sampled. By default decoding is greedy. See ``SamplingParams``.
        max_tokens:
            Maximum number of tokens of an answer, in tokens of the first base model.
        stop:
            Strings that end an answer.
        timeout:
            Maximum time of an answer in seconds. The error that is then raised is also a
            ``TimeoutError``.

    Key init args (fusion):
        method:
            ``"specem"`` (default) or ``"specfuse"``. Every other option of ``FusionConfig`` is a
            field too, for example ``segment_tokens``.
        fusion_metadata:
            What the metadata of a response contain: ``"summary"`` (default) has what each base
            model did, ``"rounds"`` also has all scores and votes, and ``"off"`` has neither.

    All args for the completion, and all options of ``FusionConfig``, can also be given to a single
    call.

    Instantiate:
        ```python
        from langchain_specfuse import ChatSpecFuse

        model = ChatSpecFuse(
            # models=["org/first-model", "org/second-model"],
            temperature=0,
            max_tokens=200,
        )
        ```

    Invoke:
        ```python
        notes = "The hall has 12 lamps. The attic has 7 lamps."
        question = "How many lamps are in the hall and the attic in total?"
        messages = [("system", notes), ("human", question)]
        answer = model.invoke(messages)
        print(answer.text)
        ```

        ```text
        The hall has 12 lamps. The attic has 7 lamps. 12 + 7 = 19. The answer is 19.
        ```

    Stream:
        There is one chunk per segment, as soon as the segment has won the vote.

        ```python
        for chunk in model.stream(messages):
            print(chunk.text, end="|")
        ```

        ```text
        The hall has 12 lamps. The| attic has 7 lamps. 12 +| 7 = 19. The answer| is 19.||
        ```

    Async:
        ```python
        answer = await model.ainvoke(messages)
        print(answer.text)
        ```

        ```text
        The hall has 12 lamps. The attic has 7 lamps. 12 + 7 = 19. The answer is 19.
        ```

        ``astream``, ``abatch`` and ``astream_events`` work too. If the task is cancelled, the
        models stop within a round.

    Tool calling:
        The arguments of a call always match the schema of the tool.

        ```python
        def order_lamps(quantity: int) -> str:
            '''Order lamps.'''
            return f"{quantity} lamps ordered"

        with_tools = model.bind_tools([order_lamps])
        for call in with_tools.invoke("Please order 12 lamps.").tool_calls:
            print(call["name"], call["args"])
        ```

        ```text
        order_lamps {'quantity': 12}
        ```

    Structured output:
        ```python
        from pydantic import BaseModel

        class Person(BaseModel):
            name: str
            age: int
            city: str

        extract = model.with_structured_output(Person)
        print(repr(extract.invoke("Anna is 31 years old. Anna lives in Oslo. Who is Anna?")))
        ```

        ```text
        Person(name='Anna', age=31, city='Oslo')
        ```

    Token usage:
        ```python
        answer = model.invoke(messages)
        print(answer.usage_metadata)
        ```

        ```text
        {'input_tokens': 52, 'output_tokens': 33, 'total_tokens': 85}
        ```

    Response metadata:
        ```python
        print(answer.response_metadata["model_name"], answer.response_metadata["finish_reason"])
        for name, used in answer.response_metadata["specfuse"]["models"].items():
            print(name, used["segments"], used["drafted_tokens"], used["verified_tokens"])
        ```

        ```text
        clerk,reader,reckoner stop
        clerk 0 36 32
        reader 3 35 29
        reckoner 1 35 32
        ```

    Some of the models:
        ```python
        question = "The hall has 12 lamps. How many lamps are in the hall?"
        print(model.invoke(question, model="reader").text)
        print(model.as_single("reader").model_name)
        ```

        ```text
        The hall has 12 lamps.
        reader
        ```

    Errors:
        Every error is a :class:`specfuse_core.FusionError`.
    """

    def as_single(self, name: str) -> ChatSpecFuse:
        """Return the same chat model with only one base model of the ensemble.

        Raises:
            UnknownModelError: if no base model has that name.
        """
        fields = self._alone(name)
        fields.pop("profile", None)  # It is the profile of all base models.
        return type(self)(**fields)

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        with accepting():
            return super()._convert_input(model_input)

    def _asked(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, call: builtins.dict[str, Any]
    ) -> tuple[FusionEngine, builtins.dict[str, Any], Deadline, Chunks]:
        """Return the engine, the request, the deadline and the chunks of one call."""
        # langchain-core passes these arguments on for its own use.
        given = call if stop is None else {**call, "stop": stop}
        with accepting():
            call = check_call(type(self).__name__, given, ("strict",), self._values())
            values = self._values(call)
            engine = self._fusion(call)
            deadline = Deadline(values["timeout"])
            tools = tools_of(values.get("tools") or ())
            options = request_options(values, values["stop"], tools)
            turns = turns_of(messages)
            if values["schema_in_prompt"] and values.get("response_format") is not None:
                turns = with_schema(turns, options.get("constraint"))
            options |= {"conversation": turns, "cancel": deadline}
        chunks = Chunks(",".join(engine.models), self.fusion_metadata, Cut(values))
        return engine, options, deadline, chunks

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        engine, options, deadline, chunks = self._asked(messages, stop, kwargs)
        rounds = Rounds()
        with both_names(), closing(engine.stream(**options)) as segments:
            for segment in segments:
                if segment.finish_reason == "cancelled":
                    deadline.check()
                rounds.send(segment)
                yield from chunks.feed(segment)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        # The first call imports torch, which takes seconds.
        asked = await run_in_thread(self._asked, messages, stop, kwargs)
        engine, options, deadline, chunks = asked
        rounds = Rounds()
        with both_names():
            async with aclosing(engine.astream(**options)) as segments:
                async for segment in segments:
                    if segment.finish_reason == "cancelled":
                        deadline.check()
                    await rounds.asend(segment)
                    for chunk in chunks.feed(segment):
                        yield chunk

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        stream = self._astream(messages, stop, run_manager, **kwargs)
        return generate_from_stream(iter([chunk async for chunk in stream]))

    # The errors of invalid calls are set here, because langchain-core may also merge the chunks of
    # _stream itself.

    def _generate_with_cache(self, *args: Any, **kwargs: Any) -> ChatResult:
        return with_errors(super()._generate_with_cache(*args, **kwargs))

    async def _agenerate_with_cache(self, *args: Any, **kwargs: Any) -> ChatResult:
        return with_errors(await super()._agenerate_with_cache(*args, **kwargs))

    def bind_tools(
        self,
        tools: Sequence[builtins.dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: builtins.dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        response_format: Any = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return this model with tools that it may call.

        Args:
            tools: functions, pydantic or ``TypedDict`` classes, ``BaseTool``s or schemas.
            tool_choice: ``"auto"``, ``"any"`` or ``"required"`` or True (a call), ``"none"``, a
                tool's name, or OpenAI's or Anthropic's mapping.
            strict: True makes all arguments required, as OpenAI does. Calls match their schema in
                any case.
            parallel_tool_calls: False allows one call per answer.
            response_format: the format of an answer without calls: OpenAI's mapping, a schema or a
                class.
            kwargs: any other argument of a call.

        Raises:
            InvalidToolError: if an object does not describe a tool, or no arguments satisfy its
                schema.
            InvalidConstraintError: if the same holds for ``response_format``.
            UnknownToolError: if ``tool_choice`` names an unknown tool.
        """
        bound: builtins.dict[str, Any] = dict(kwargs)
        forms = described(tools, strict=strict)
        choice = choice_of(tool_choice, tools_of(forms))
        if forms:
            bound["tools"] = forms
        if tool_choice is not None:
            bound["tool_choice"] = choice
        if parallel_tool_calls is not None:
            bound["parallel_tool_calls"] = parallel_tool_calls
        if response_format is not None:
            bound["response_format"] = _response_format(response_format)
        self._check_forms(bound)
        return self.bind(**bound)

    def _check_forms(self, bound: builtins.dict[str, Any]) -> None:
        values = self._values(bound)
        with accepting():
            check_forms(values, tools_of(values.get("tools") or ()))

    def with_structured_output(
        self,
        schema: builtins.dict[str, Any] | type | None = None,
        *,
        method: Method = JSON,
        include_raw: bool = False,
        strict: bool | None = None,
        tools: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, builtins.dict[str, Any] | BaseModel]:
        """Return this model with answers that are objects of ``schema``.

        The models can only write JSON that matches the schema. An answer that was cut off raises a
        parsing error.

        Args:
            schema: a pydantic class, a ``TypedDict`` class, or a JSON schema.
            method: ``"json_schema"`` and ``"json_mode"`` constrain the text; ``"function_calling"``
                forces a tool call, and the models see the tool's descriptions.
            include_raw: return ``{"raw": ..., "parsed": ..., "parsing_error": ...}``.
            strict: as for :meth:`bind_tools`.
            tools: tools that the models may call instead of answering; needs ``include_raw``. If
                they do, ``parsed`` and ``parsing_error`` are None.
            kwargs: other arguments of a call.

        Raises:
            InvalidOptionError: if the method is unknown, or needs a schema and there is none.
            InvalidConstraintError: if ``schema`` has no JSON schema, or no value satisfies it.
            InvalidToolError: the same for ``"function_calling"``.
        """
        if method not in (CALLED, JSON, "json_mode"):
            raise InvalidOptionError.of(
                "method",
                f"must be 'json_schema', 'function_calling' or 'json_mode', got {shown(method)}.",
            )
        if schema is None and method != "json_mode":
            raise InvalidOptionError(
                f"method={shown(method)} needs a schema. Give one as the first argument."
            )
        key = ""
        if schema is not None:
            traced = {"method": method, "strict": strict}
            kwargs["ls_structured_output_format"] = {"kwargs": traced, "schema": _traced(schema)}
        if tools is not None and (method == CALLED or not include_raw):
            raise InvalidOptionError(
                "tools need include_raw=True and method='json_schema' or 'json_mode', because an "
                "answer that calls a tool is not an object of the schema."
            )
        if method == CALLED:
            schema = _titled(schema)
            key = described([schema])[0]["function"]["name"]
            model = self.bind_tools(
                [schema],
                tool_choice=key,
                strict=strict,
                parallel_tool_calls=False,
                **kwargs,
            )
        else:
            form = {"type": "json_object"} if schema is None else _response_format(schema)
            model = self.bind_tools(tools or (), response_format=form, strict=strict, **kwargs)
        parser = parser_of(schema, method, key, calls=bool(tools))
        if not include_raw:
            return model | parser
        parsed = RunnablePassthrough.assign(
            parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
        )
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=model) | parsed.with_fallbacks(
            [failed], exception_key="parsing_error"
        )


def _response_format(form: Any) -> builtins.dict[str, Any]:
    """Convert a class or a schema to OpenAI's mapping, and return such a mapping unchanged."""
    if isinstance(form, dict) and form.get("type") in ("json_schema", "json_object", "text"):
        return form
    schema = schema_of(form)
    name = str(schema.get("title") or "answer")
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def _traced(schema: Any) -> Any:
    """Return a schema that langchain-core can convert for its traces."""
    several = isinstance(schema, dict) and not isinstance(schema.get("type", ""), str)
    return {**schema, "type": "object"} if several else schema


def _titled(schema: Any) -> Any:
    """Give a JSON schema without a name a title, which is the name of its tool."""
    named = isinstance(schema, dict) and {"title", "name", "function"} & set(schema)
    return schema if named or not isinstance(schema, dict) else {"title": "answer", **schema}
