"""A tokenizer for ``Settings.tokenizer`` that never counts too few tokens.

LlamaIndex measures prompts with one global tokenizer, which does not know the base models. This
tokenizer returns the encoding of the base model that needs the most tokens for the text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from specfuse_core import FusionEngine

__all__ = ["ConservativeTokenizer"]


class ConservativeTokenizer:
    """Encodes text with the base model that needs the most tokens for it.

    Args:
        engine: returns the engine. It is called at the first text, since it loads the tokenizers.
    """

    def __init__(self, engine: Callable[[], FusionEngine]) -> None:
        self._engine = engine

    def __call__(self, text: str) -> list[int]:
        """Return the longest encoding of ``text`` of all base models, without special tokens."""
        backends = self._engine().backends
        return max((list(backend.token_ids(text)) for backend in backends), key=len)

    def __deepcopy__(self, memo: dict[int, Any]) -> ConservativeTokenizer:
        """Return the object itself, since splitters are copied but base models are not."""
        return self
