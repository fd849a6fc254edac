"""What a fused LLM is made of: its fields, and what it tells of itself.

This module runs no request; nothing here imports torch before an engine is asked for.
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any, Self

from llama_index.core.base.llms.types import LLMMetadata, MessageRole
from llama_index.core.bridge.pydantic import model_serializer
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM

from llamaindex_specfuse.errors import NotPicklableError
from llamaindex_specfuse.tokenizer import ConservativeTokenizer
from specfuse_core import Request
from specfuse_core.frameworks.fields import EngineFields

__all__ = ["Ensemble"]

_LIMIT: Any = Request.__dataclass_fields__["max_new_tokens"].default
#: Tokens that chat templates put around messages, at most: PromptHelper does not count them.
_AROUND = 64


class Ensemble(EngineFields, CustomLLM, FunctionCallingLLM):
    """The part of ``SpecFuseLLM`` that is there before any answer is."""

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

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
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
