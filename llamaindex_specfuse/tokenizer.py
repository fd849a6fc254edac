"""A tokenizer for ``Settings.tokenizer`` that never counts too few tokens.

LlamaIndex measures prompts with one global tokenizer, which does not know the base models. This
tokenizer returns the encoding of the base model that needs the most tokens for the text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["ConservativeTokenizer"]


class ConservativeTokenizer:
    """Encodes text with the base model that needs the most tokens for it.

    Args:
        encode: returns the longest encoding of a text by a base model, without special tokens.
    """

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self._encode = encode

    def __call__(self, text: str) -> list[int]:
        """Return the longest encoding of ``text`` of all base models, without special tokens."""
        return self._encode(text)

    def __deepcopy__(self, memo: dict[int, Any]) -> ConservativeTokenizer:
        """Return the object itself, since splitters are copied but base models are not."""
        return self
