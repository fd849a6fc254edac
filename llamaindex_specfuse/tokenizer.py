"""A tokenizer for ``Settings.tokenizer`` that never counts too few.

LlamaIndex packs prompts by one global tokenizer, which knows nothing of the base models. This one
counts as the base model does that needs most tokens for the text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from specfuse_core import FusionEngine

__all__ = ["ConservativeTokenizer"]


class ConservativeTokenizer:
    """Text -> token ids of the base model that has most of them for it.

    Args:
        engine: gives the engine; asked at the first text, since that loads the tokenizers.
    """

    def __init__(self, engine: Callable[[], FusionEngine]) -> None:
        self._engine = engine

    def __call__(self, text: str) -> list[int]:
        """The longest encoding of ``text`` over all base models, without special tokens."""
        backends = self._engine().backends
        return max((list(backend.token_ids(text)) for backend in backends), key=len)

    def __deepcopy__(self, memo: dict[int, Any]) -> ConservativeTokenizer:
        """Itself: splitters are copied, base models are not."""
        return self
