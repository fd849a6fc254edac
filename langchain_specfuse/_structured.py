"""Parses the text or the call of an answer to the requested object.

LangChain's own parsers complete truncated JSON. These parsers raise an error instead at the
end of the answer. While it is streamed, they yield partial objects as LangChain's parsers do.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from typing import Any, Literal

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers.openai_tools import (
    JsonOutputKeyToolsParser,
    PydanticToolsParser,
)
from langchain_core.output_parsers.transform import BaseCumulativeTransformOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.json import parse_partial_json
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import ValidationError
from pydantic.v1 import ValidationError as ValidationErrorV1

from langchain_specfuse._chunks import CUT_OFF, INVALID
from specfuse_core.errors import InvalidConstraintError
from specfuse_core.values import reason, shown

__all__ = ["CALLED", "JSON", "Method", "is_pydantic", "parser_of", "schema_of"]

#: The validation errors of both versions of pydantic.
ValidationErrors = (ValidationError, ValidationErrorV1)

Method = Literal["json_schema", "function_calling", "json_mode"]
CALLED: Literal["function_calling"] = "function_calling"
JSON: Literal["json_schema"] = "json_schema"


def is_pydantic(schema: Any) -> bool:
    """Whether ``schema`` is a pydantic class of version 1 or 2."""
    return isinstance(schema, type) and is_basemodel_subclass(schema)


def schema_of(schema: Any) -> dict[str, Any]:
    """Return the JSON schema of a pydantic class, a ``TypedDict`` class, a function or a mapping.

    Raises:
        InvalidConstraintError: if ``schema`` has no JSON schema.
    """
    if isinstance(schema, type) and issubclass(schema, Enum):
        raise InvalidConstraintError(
            f"{shown(schema)} is an Enum, which is not an object. Use it as the type of a field of "
            "a pydantic class."
        )
    if is_pydantic(schema):
        made = schema.model_json_schema() if hasattr(schema, "model_json_schema") else None
        return dict(made if made is not None else schema.schema())
    if isinstance(schema, dict) and "parameters" not in schema and "function" not in schema:
        return schema
    try:
        return convert_to_json_schema(schema)
    # Schemas of users' classes can raise any error.
    except Exception as error:
        raise InvalidConstraintError(
            f"{shown(schema)} has no JSON schema ({reason(error)}). Use a pydantic class, a "
            "TypedDict class or a JSON schema."
        ) from error


def parser_of(
    schema: Any, method: Method, key: str, *, calls: bool = False
) -> BaseCumulativeTransformOutputParser[Any]:
    """Return the parser for answers of a method.

    Args:
        schema: the requested schema; None for any JSON object.
        method: :data:`CALLED` to parse a call; any other method parses JSON text.
        key: name of the called tool.
        calls: whether the answer may call other tools instead of being an object.
    """
    if method == CALLED:
        if is_pydantic(schema):
            return _PydanticCall(tools=[schema], first_tool_only=True)
        return _Call(key_name=key, first_tool_only=True)
    return _Json(target=schema if is_pydantic(schema) else None, calls=calls)


class _Strict(BaseCumulativeTransformOutputParser[Any]):
    """Raises an error if a complete answer is not a valid object."""

    def _check(self, message: AIMessage | None, text: str) -> None:
        raise NotImplementedError

    def _transform(self, input: Iterator[str | BaseMessage]) -> Iterator[Any]:
        merged = _Merged()
        yield from super()._transform(merged.passed(input))
        self._check(*merged.answer)

    async def _atransform(self, input: AsyncIterator[str | BaseMessage]) -> AsyncIterator[Any]:
        merged = _Merged()
        async for parsed in super()._atransform(merged.apassed(input)):
            yield parsed
        self._check(*merged.answer)


class _Json(_Strict):
    """Parses JSON text, to a pydantic object if ``target`` is a class.

    If ``calls`` is True, an answer that calls tools is None.
    """

    target: Any = None
    calls: bool = False

    def _check(self, message: AIMessage | None, text: str) -> None:
        _check_whole(message, text)
        if self._called(message):
            return
        try:
            json.loads(text)
        except ValueError as error:
            raise _unfinished(message, text) from error
        _check_valid(message, text)

    def parse(self, text: str) -> Any:
        return self.parse_result([Generation(text=text)])

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        text = result[0].text
        if not partial:
            self._check(_message(result[0]), text)
            if self._called(_message(result[0])):
                return None
            return self._made(json.loads(text), text)
        try:
            return self._made(parse_partial_json(text), text)
        except (ValueError, OutputParserException):
            return None

    def _called(self, message: AIMessage | None) -> bool:
        return self.calls and message is not None and bool(message.tool_calls)

    def _made(self, found: Any, text: str) -> Any:
        if self.target is None:
            return found
        make = getattr(self.target, "model_validate", None) or self.target.parse_obj
        try:
            return make(found)
        except ValidationErrors as error:
            raise OutputParserException(
                f"the answer is not a valid {self.target.__name__}: {error}", llm_output=text
            ) from error


class _StrictCall(_Strict):
    def _check(self, message: AIMessage | None, text: str) -> None:
        _check_whole(message, text)
        if message is not None and (message.invalid_tool_calls or not message.tool_calls):
            raise _unfinished(message, text)

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        if not partial:
            self._check(_message(result[0]), result[0].text)
        return super().parse_result(result, partial=partial)


class _Call(_StrictCall, JsonOutputKeyToolsParser):
    pass


class _PydanticCall(_StrictCall, PydanticToolsParser):
    pass


class _Merged:
    """Passes chunks on, and merges them."""

    def __init__(self) -> None:
        self._message: AIMessage | None = None
        self._text = ""

    def passed(self, input: Iterator[str | BaseMessage]) -> Iterator[str | BaseMessage]:
        for chunk in input:
            self._add(chunk)
            yield chunk

    async def apassed(
        self, input: AsyncIterator[str | BaseMessage]
    ) -> AsyncIterator[str | BaseMessage]:
        async for chunk in input:
            self._add(chunk)
            yield chunk

    @property
    def answer(self) -> tuple[AIMessage | None, str]:
        return self._message, self._text

    def _add(self, chunk: str | BaseMessage) -> None:
        self._text += chunk if isinstance(chunk, str) else chunk.text
        if isinstance(chunk, AIMessage):
            whole: Any = chunk if self._message is None else self._message + chunk
            self._message = whole


def _message(generation: Generation) -> AIMessage | None:
    message = generation.message if isinstance(generation, ChatGeneration) else None
    return message if isinstance(message, AIMessage) else None


def _check_whole(message: AIMessage | None, text: str) -> None:
    """Raise an error if a limit cut the answer, even if it is a valid object."""
    reason = message.response_metadata.get(CUT_OFF) if message else None
    if message is not None and reason is not None:
        raise OutputParserException(
            f"the answer {_written(message, text)!r} is incomplete, because {reason}. Use a larger "
            "max_tokens, or on_limit='close' to get the incomplete object.",
            llm_output=text,
        )


def _check_valid(message: AIMessage | None, text: str) -> None:
    """Raise an error if the answer is JSON, but not valid under its schema."""
    problem = message.response_metadata.get(INVALID) if message else None
    if problem is not None:
        raise OutputParserException(
            f"the answer {text!r} is not valid under its schema: {problem}. Ask again, or make the "
            "schema less strict.",
            llm_output=text,
        )


def _unfinished(message: AIMessage | None, text: str) -> OutputParserException:
    finish = message.response_metadata.get("finish_reason") if message else None
    return OutputParserException(
        f"the answer {_written(message, text)!r} is not an object of the schema (finish_reason "
        f"{finish!r}). Ask again, or simplify the schema.",
        llm_output=text,
    )


def _written(message: AIMessage | None, text: str) -> str:
    calls = message.invalid_tool_calls if message else []
    return str(calls[0]["args"]) if calls else text
