"""Constrains answers to a pydantic class, and parses them to its objects.

A constrained answer is exactly one object. A truncated object is an error and is never completed.
"""

from __future__ import annotations

import json
from typing import Any, Generic

from llama_index.core.base.llms.types import ChatResponse, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel, ValidationError
from llama_index.core.program.utils import FlexibleModel, create_flexible_model
from llama_index.core.types import Model, PydanticProgramMode
from pydantic_core import from_json

from llamaindex_specfuse._responses import call_errors, cut_off, finish_reason, invalid
from llamaindex_specfuse.errors import StructuredAnswerError
from specfuse_core import Tool
from specfuse_core.errors import InvalidConstraintError
from specfuse_core.frameworks.schemas import ROOT, as_argument, is_object
from specfuse_core.values import shown

__all__ = ["Form"]


class Form(Generic[Model]):
    """The constraint and the parser for objects of one class.

    Args:
        output_cls: the class.
        mode: ``FUNCTION`` forces a tool call, and the models see the tool's descriptions. Any
            other mode constrains the text, and the models see only the prompt.

    Raises:
        InvalidConstraintError: if it is not a pydantic class, or has no JSON schema.
    """

    def __init__(self, output_cls: type[Model], mode: PydanticProgramMode) -> None:
        if not (isinstance(output_cls, type) and issubclass(output_cls, BaseModel)):
            raise InvalidConstraintError(
                f"output_cls must be a pydantic class, got {shown(output_cls)}."
            )
        try:
            self._schema = output_cls.model_json_schema()
        except Exception as error:
            raise InvalidConstraintError(
                f"{output_cls.__name__} has no JSON schema ({error}). Use fields that have one."
            ) from error
        self._class = output_cls
        self._called = mode == PydanticProgramMode.FUNCTION
        self._wrapped = self._called and not is_object(self._schema)
        self._flexible: type[FlexibleModel] | None = None
        self._shown: Any = None

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of a call, as plain values, since they are part of events."""
        name = self._class.__name__
        if self._called:
            description = str(self._schema.get("description") or "")
            schema = as_argument(self._schema) if self._wrapped else self._schema
            tool = Tool("".join(c if c.isalnum() else "_" for c in name), description, schema)
            return {
                "tools": [tool.as_dict()],
                "tool_choice": tool.name,
                "parallel_tool_calls": False,
            }
        schema = {"name": name, "schema": self._schema}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def object(self, response: ChatResponse) -> Model:
        """Parse a complete answer.

        Raises:
            StructuredAnswerError: if the answer was truncated, or the class refuses it.
        """
        text = self._text(response)
        reason = cut_off(response)
        if reason is not None:
            raise StructuredAnswerError(
                f"the answer {text!r} is not a whole {self._class.__name__}, because {reason}. Use "
                "a larger max_tokens, or on_limit='close' to get the incomplete object."
            )
        problem = invalid(response) or " ".join(call_errors(response)).rstrip(".")
        if problem:
            raise StructuredAnswerError(
                f"the answer is not valid under the schema of {self._class.__name__}: {problem}. "
                "Ask again, or make the schema less strict."
            )
        try:
            return self._class.model_validate_json(text)
        except ValidationError as error:
            finish = finish_reason(response)
            problems = "; ".join(
                ": ".join([*map(str, found["loc"]), found["msg"]]) for found in error.errors()
            )
            raise StructuredAnswerError(
                f"the answer {text!r} is not a valid {self._class.__name__} ({problems}; "
                f"finish_reason {finish!r}); ask again, or change the class so that it accepts "
                "such values."
            ) from error

    def partial(self, response: ChatResponse) -> Model | FlexibleModel | None:
        """Parse the object so far; None if it has not changed.

        If it is not a valid object of the class yet, all fields are optional in its class.
        """
        try:
            found = from_json(self._text(response), allow_partial="trailing-strings")
        except ValueError:
            return None
        if not found or found == self._shown:
            return None
        self._shown = found
        try:
            return self._class.model_validate(found)
        except ValidationError:
            if not isinstance(found, dict):
                return None
            self._flexible = self._flexible or create_flexible_model(self._class)
            return self._flexible.model_validate(found)

    def _text(self, response: ChatResponse) -> str:
        if not self._called:
            return response.message.content or ""
        calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        arguments: Any = calls[0].tool_kwargs if calls else ""
        # Arguments that are still growing are a string.
        if isinstance(arguments, str):
            return arguments.removeprefix(f'{{"{ROOT}": ') if self._wrapped else arguments
        arguments = arguments[ROOT] if self._wrapped else arguments
        return json.dumps(arguments, ensure_ascii=False)
