"""The fields of SpecFuseLLM, its metadata, and its serialization.

This module runs no request. It does not import torch before an engine is needed.
"""

from __future__ import annotations

import sys
from os import PathLike, fspath
from types import FrameType
from typing import Any, Self, SupportsIndex

from llama_index.core.base.llms.types import LLMMetadata, MessageRole
from llama_index.core.bridge.pydantic import model_serializer
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.schema import BaseComponent
from pydantic import BaseModel

from llamaindex_specfuse.errors import NotPicklableError
from llamaindex_specfuse.tokenizer import ConservativeTokenizer
from specfuse_core import ModelConfig, errors
from specfuse_core.answer.limits import DEFAULT_TOKENS
from specfuse_core.frameworks.aliases import renamed
from specfuse_core.frameworks.fields import EngineFields

__all__ = ["Ensemble"]

#: Number of tokens that PromptHelper and memories reserve for an answer if no limit is set.
_RESERVED = 512
#: Maximum number of tokens that chat templates add, which PromptHelper does not count.
_AROUND = 64


class Ensemble(EngineFields, CustomLLM, FunctionCallingLLM):
    """The part of ``SpecFuseLLM`` that does not generate answers."""

    is_function_calling_model: bool = True
    """Whether LlamaIndex uses tool calls. False makes it use ReAct agents and text programs. The
    answers of ``structured_predict`` match their class in both cases."""

    @classmethod
    def class_name(cls) -> str:
        """The name of the class in serialized forms."""
        return "SpecFuseLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """The smallest context window, and the number of tokens to reserve for the answer.

        It loads a model only if the model's files do not declare the context window.
        """
        windows = [window for window in self._windows() if window is not None]
        known = len(windows) == len(self._windows())
        window = min(windows) if known else self._base().context_window
        if self.context_window is not None:
            window = min(window, self.context_window)
        wanted = max(self.max_tokens or _RESERVED, _AROUND)
        return LLMMetadata(
            context_window=window,
            num_output=min(wanted, window // 2),
            is_chat_model=True,
            is_function_calling_model=self.is_function_calling_model,
            model_name=self.model_name,
            system_role=MessageRole.SYSTEM,
        )

    def to_payload(self) -> dict[str, Any]:
        """The model's fields for events. It loads nothing."""
        return {
            "class_name": self.class_name(),
            "model_name": self.model_name,
            "context_window": self._window(),
            "max_tokens": self.max_tokens or DEFAULT_TOKENS,
            "temperature": self.temperature or 0.0,
            "is_chat_model": True,
            "is_function_calling_model": self.is_function_calling_model,
        }

    @property
    def tokenizer(self) -> ConservativeTokenizer:
        """A tokenizer for ``Settings.tokenizer``. Its counts are high enough for all models."""
        return ConservativeTokenizer(self._token_ids)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the fields and share the loaded models."""
        return self.model_copy()

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Pickle the fields. The models are loaded in the other process when they are needed.

        Raises:
            NotPicklableError: if the model was made with ``engine=``.
        """
        if _is_tried():
            return str, ()
        return super().__reduce_ex__(protocol)

    def __getstate__(self) -> dict[Any, Any]:
        with renamed({errors.NotPicklableError: NotPicklableError}):
            state = super().__getstate__()
        # Its handlers belong to this process.
        state["__dict__"] = {**state["__dict__"], "callback_manager": CallbackManager()}
        return state

    def __setstate__(self, state: dict[Any, Any]) -> None:
        BaseModel.__setstate__(self, state)

    @model_serializer(mode="wrap")
    def custom_model_dump(self, handler: Any, info: Any) -> dict[str, Any]:
        """Serialize the fields, with the ``class_name``.

        Tokens of the hub are left out.
        """
        data: dict[str, Any] = handler(self)
        if self.models is not None:
            data["models"] = [
                fspath(model)
                if isinstance(model, str | PathLike)
                else ModelConfig.of(model).model_dump(mode="json")
                for model in self.models
            ]
        data["class_name"] = self.class_name()
        return data


def _is_tried() -> bool:
    """Whether a component of LlamaIndex tries whether the model can be pickled.

    If that raises an error, the component removes the model from itself, and another process uses
    ``Settings.llm`` instead, by default OpenAI. Without an error the component pickles the model
    next, which raises the error where it is seen.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is BaseComponent.__getstate__.__code__:
            return True
        frame = frame.f_back
    return False
