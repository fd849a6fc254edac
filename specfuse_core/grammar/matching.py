"""Grammars compiled over a vocabulary: the one place that makes llguidance's matchers.

A grammar is over bytes. Every vocabulary ends with the 256 bytes, so that a text can be followed
whatever its tokens are. This module knows nothing of requests or models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from specfuse_core.errors import InvalidConstraintError

__all__ = ["matcher_of", "vocabulary_of"]

# The lines of a grammar that an error cites, and its pointer into them.
_SOURCE = re.compile(r"^ *(?:\d+ \|.*|\^ *)$", re.MULTILINE)


class _Tokens:
    """What llguidance asks of a tokenizer: tokens, the 256 bytes, and an end."""

    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self.eos_token_id = len(tokens) + 256
        self.special_token_ids = [self.eos_token_id]
        self.tokens = [*tokens, *(bytes([byte]) for byte in range(256)), b""]

    def __call__(self, text: bytes | str) -> list[int]:
        first = self.eos_token_id - 256
        return [first + byte for byte in (text.encode() if isinstance(text, str) else text)]


def vocabulary_of(tokens: Sequence[bytes], **options: Any) -> LLTokenizer:
    """``tokens`` and, with the ids after theirs, the 256 bytes.

    Args:
        tokens: the bytes of each id; none for one that no text has.
        options: llguidance's.
    """
    return LLTokenizer(TokenizerWrapper(_Tokens(tokens)), **options)


def matcher_of(vocabulary: LLTokenizer, grammar: str) -> Any:
    """A matcher at the beginning of ``grammar``.

    Raises:
        InvalidConstraintError: for a grammar that cannot be followed.
    """
    matcher = LLMatcher(vocabulary, LLMatcher.grammar_from_lark(grammar), log_level=0)
    if matcher.is_error():
        raise InvalidConstraintError(f"the constraint cannot be followed: {_told(matcher)}.")
    return matcher


def _told(matcher: Any) -> str:
    """What is wrong with a grammar, in one line."""
    error = _SOURCE.sub("", str(matcher.get_error()))
    for before in ("failed to compile JSON schema: ", "): "):
        error = error.partition(before)[2] or error
    return " ".join(error.split()).rstrip(".")
