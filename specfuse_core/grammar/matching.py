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

__all__ = [
    "allowed_bytes",
    "allowed_mask",
    "check",
    "fault_of",
    "forced_bytes",
    "matcher_of",
    "vocabulary_of",
]

#: Let masks hold every byte and every token that is allowed. Without it, llguidance looks for text
#: that the grammar forces, which never ends for some grammars (``start: /y+/ /y+/``) and cannot be
#: interrupted. It comes last, so that a grammar cannot take it back.
_NO_FORCING = '\n%llguidance {"no_forcing": true}\n'

#: The positions of the bits that are set, for each value of a byte.
_BITS = [[bit for bit in range(8) if byte >> bit & 1] for byte in range(256)]

# Errors of llguidance that mean that nothing may follow.
_NO_TEXT = ("NoExtension", "NoExtensionBias")

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
    rules = LLMatcher.grammar_from_lark(grammar + _NO_FORCING)
    matcher = LLMatcher(vocabulary, rules, log_level=0)
    check(matcher)
    return matcher


def fault_of(vocabulary: LLTokenizer, grammar: str) -> str:
    """Return llguidance's message if a grammar is not supported or too large; otherwise empty."""
    rules = LLMatcher.grammar_from_lark(grammar + _NO_FORCING)
    matcher = LLMatcher(vocabulary, rules, log_level=0)
    if not matcher.is_error():
        matcher.compute_bitmask()
    error = _error_of(matcher) if matcher.is_error() else ""
    return "" if error in _NO_TEXT else error


def check(matcher: Any) -> None:
    """Check that a matcher has not failed.

    Raises:
        InvalidConstraintError: if it has, because the grammar is too large or allows no text.
    """
    if not matcher.is_error():
        return
    error = _error_of(matcher)
    if error in _NO_TEXT:
        raise InvalidConstraintError("the constraint allows no text; make it less strict.")
    raise InvalidConstraintError(
        f"the constraint is invalid or not supported ({error}); correct it or leave out what is "
        "not supported."
    )


def allowed_mask(matcher: Any) -> int:
    """Return the bytes that may follow, as a number with one bit for each of the 256 bytes.

    The matcher must be over the 256 bytes alone.
    """
    return int.from_bytes(matcher.compute_bitmask()[: 256 // 8], "little")


def allowed_bytes(matcher: Any) -> list[int]:
    """Return the bytes that may follow. The matcher must be over the 256 bytes alone."""
    mask = matcher.compute_bitmask()[: 256 // 8]
    return [8 * place + bit for place, byte in enumerate(mask) if byte for bit in _BITS[byte]]


def forced_bytes(matcher: Any, most: int) -> bytes:
    """Return the next bytes up to the first choice, at most ``most``.

    The matcher must be over the 256 bytes alone; it is where it was afterwards.
    """
    forced = bytearray()
    while len(forced) < most and not matcher.is_accepting():
        mask = allowed_mask(matcher)
        if mask.bit_count() != 1:
            break
        byte = mask.bit_length() - 1
        matcher.consume_tokens([byte])
        forced.append(byte)
    if forced:
        matcher.rollback(len(forced))
    return bytes(forced)


def _error_of(matcher: Any) -> str:
    """Return llguidance's error message in one line, without quoted source and internal state."""
    error = _SOURCE.sub("", str(matcher.get_error()).partition("<state>")[0])
    for before in ("failed to compile JSON schema: ", "): "):
        error = error.partition(before)[2] or error
    return " ".join(error.split()).rstrip(".")
