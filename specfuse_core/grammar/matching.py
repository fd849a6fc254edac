"""Compiles grammars over a vocabulary; the only module that creates llguidance matchers.

Grammars are over bytes. Every vocabulary ends with the 256 single bytes, so that a matcher can
follow any text, regardless of its tokens. This module knows nothing of requests or models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from specfuse_core.errors import InvalidConstraintError

__all__ = ["matcher_of", "vocabulary_of"]

# Lines of an error message that quote the grammar or point into it.
_SOURCE = re.compile(r"^ *(?:\d+ \|.*|\^ *)$", re.MULTILINE)


class _Tokens:
    """The attributes of a tokenizer that llguidance needs: tokens, the 256 bytes and an end."""

    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self.eos_token_id = len(tokens) + 256
        self.special_token_ids = [self.eos_token_id]
        self.tokens = [*tokens, *(bytes([byte]) for byte in range(256)), b""]

    def __call__(self, text: bytes | str) -> list[int]:
        first = self.eos_token_id - 256
        return [first + byte for byte in (text.encode() if isinstance(text, str) else text)]


def vocabulary_of(tokens: Sequence[bytes], **options: Any) -> LLTokenizer:
    """Return a vocabulary of ``tokens``, followed by the 256 single bytes.

    Args:
        tokens: the bytes of each token id; empty for an id that stands for no text.
        options: keyword arguments of ``LLTokenizer``.
    """
    return LLTokenizer(TokenizerWrapper(_Tokens(tokens)), **options)


def matcher_of(vocabulary: LLTokenizer, grammar: str) -> Any:
    """Return a matcher at the beginning of ``grammar``.

    Raises:
        InvalidConstraintError: if the grammar is invalid or not supported.
    """
    matcher = LLMatcher(vocabulary, LLMatcher.grammar_from_lark(grammar), log_level=0)
    if matcher.is_error():
        raise InvalidConstraintError(
            f"the constraint is invalid or not supported ({_error_of(matcher)}); correct it or "
            "leave out what is not supported."
        )
    return matcher


def _error_of(matcher: Any) -> str:
    """Return llguidance's error message in one line, without quoted source."""
    error = _SOURCE.sub("", str(matcher.get_error()))
    for before in ("failed to compile JSON schema: ", "): "):
        error = error.partition(before)[2] or error
    return " ".join(error.split()).rstrip(".")
