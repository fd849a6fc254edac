"""A pydantic class -> what the models may write, and what they wrote -> its objects.

The models can write nothing but such an object, so its text is never searched for one, and one that
was cut off is an error, never mended.
"""

from __future__ import annotations

import json
from typing import Any, Generic

from llama_index.core.base.llms.types import ChatResponse
from llama_index.core.bridge.pydantic import BaseModel, ValidationError
from llama_index.core.program.utils import FlexibleModel, create_flexible_model
from llama_index.core.types import Model, PydanticProgramMode
from pydantic_core import from_json

from llamaindex_specfuse._messages import calls_of
from llamaindex_specfuse._responses import finish_reason
from llamaindex_specfuse.errors import StructuredAnswerError
from specfuse_core import Tool
from specfuse_core.errors import InvalidConstraintError

__all__ = ["Form"]


class Form(Generic[Model]):
    """The form of the answers that are objects of one class.

    Args:
        output_cls: the class.
        mode: ``FUNCTION`` forces the call of a tool, which the models are shown with all its
            descriptions; any other mode constrains the text, of which they see what the prompt
            says.

    Raises:
        InvalidConstraintError: for what is no pydantic class, or has no schema.
    """

    def __init__(self, output_cls: type[Model], mode: PydanticProgramMode) -> None:
        if not (isinstance(output_cls, type) and issubclass(output_cls, BaseModel)):
            raise InvalidConstraintError(f"{output_cls!r} is no pydantic class.")
        try:
            self._schema = output_cls.model_json_schema()
        except Exception as error:
            raise InvalidConstraintError(
                f"{output_cls.__name__} has no JSON schema ({error})."
            ) from error
        self._class = output_cls
        self._called = mode == PydanticProgramMode.FUNCTION
        self._flexible: type[FlexibleModel] | None = None
        self._shown: Any = None

    @property
    def options(self) -> dict[str, Any]:
        """What a call is told, as plain values: they go into events."""
        name = self._class.__name__
        if self._called:
            description = str(self._schema.get("description") or "")
            tool = Tool("".join(c if c.isalnum() else "_" for c in name), description, self._schema)
            return {
                "tools": [tool.as_dict()],
                "tool_choice": tool.name,
                "parallel_tool_calls": False,
            }
        schema = {"name": name, "schema": self._schema}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def object(self, response: ChatResponse) -> Model:
        """The object that a complete answer is.

        Raises:
            StructuredAnswerError: if it is none: it was cut off, or the class refuses it.
        """
        text = self._text(response)
        try:
            return self._class.model_validate_json(text)
        except ValidationError as error:
            finish = finish_reason(response)
            hint = "; allow more max_tokens" if finish == "length" else ""
            raise StructuredAnswerError(
                f"the answer (finish_reason {finish!r}) is no {self._class.__name__}{hint}: "
                f"{text!r}: {error}"
            ) from error

    def partial(self, response: ChatResponse) -> Model | FlexibleModel | None:
        """What is there of the object so far; None if that is no more than before.

        Where it is none of the class yet, it is one of a class with all fields optional.
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
        calls = calls_of(response.message)
        return json.dumps(dict(calls[0].arguments), ensure_ascii=False) if calls else ""
