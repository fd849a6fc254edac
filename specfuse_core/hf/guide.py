"""Guide: computes which token ids a grammar allows next, for the vocabulary of one tokenizer.

This module knows nothing of models. ``answer.follower`` tracks a grammar by text, without tokens.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from specfuse_core.answer.follower import Follower
from specfuse_core.errors import InvalidConstraintError
from specfuse_core.grammar.calls import CALL_OPEN
from specfuse_core.grammar.matching import matcher_of, vocabulary_of
from specfuse_core.grammar.openings import Offered
from specfuse_core.prompts.codec import TextCodec

__all__ = ["Guide", "Vocabulary"]

#: Number of compiled grammars to keep for each vocabulary.
_KEPT = 32


class Vocabulary:
    """The bytes of one tokenizer's tokens, and the grammars that are compiled over them.

    Use :meth:`of` to share one among all models of one tokenizer and size.

    Args:
        codec: the tokenizer.
        size: number of rows of the model's output layer. Ids beyond the tokenizer's vocabulary
            have no text.
    """

    #: The vocabularies that are in use, by tokenizer and size.
    _shared: ClassVar[weakref.WeakValueDictionary[tuple[object, int], Vocabulary]] = (
        weakref.WeakValueDictionary()
    )
    _sharing: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, codec: TextCodec, size: int) -> None:
        self.size = size
        self._codec = codec
        self._lock = threading.Lock()
        self._compiled: OrderedDict[tuple[str, str | None], Any] = OrderedDict()
        self._openings: dict[str, list[bytes]] = {}
        self._tokenizers: dict[str | None, Any] = {}

    @classmethod
    def of(cls, codec: TextCodec, size: int) -> Vocabulary:
        """Return the vocabulary of a tokenizer and a size."""
        with cls._sharing:
            vocabulary = cls._shared.get((codec.key, size))
            if vocabulary is None:
                vocabulary = cls._shared[codec.key, size] = cls(codec, size)
            return vocabulary

    @cached_property
    def tokens(self) -> list[bytes]:
        """The bytes of each id in the middle of a text; empty for control tokens. ``[V]``

        Raises:
            InvalidConstraintError: if the tokenizer has no such bytes (see
                ``TextCodec.token_bytes``).
        """
        tokens = self._codec.token_bytes()
        return (tokens + [b""] * (self.size - len(tokens)))[: self.size]

    @cached_property
    def spoken(self) -> Tensor:
        """A mask of the ids that stand for text. ``[V]``"""
        return torch.tensor([bool(token) for token in self.tokens])

    def opening(self, lead: str | None) -> list[bytes]:
        """Return the bytes of each id at the beginning of an answer. ``[V]``

        Args:
            lead: white space that the first id may have before its text; None for none.
        """
        if lead is None:
            return self.tokens
        if lead not in self._openings:
            self._openings[lead] = [token.removeprefix(lead.encode()) for token in self.tokens]
        return self._openings[lead]

    def matcher(self, grammar: str, lead: str | None = None) -> Any:
        """Return a matcher at the beginning of the grammar, over the tokens ``opening(lead)``.

        Raises:
            InvalidConstraintError: if the grammar is invalid or not supported.
        """
        with self._lock:
            key = (grammar, lead)
            if key not in self._compiled:
                vocabulary = self._tokenizer(lead)
                self._compiled[key] = matcher_of(vocabulary, grammar)
                if len(self._compiled) > _KEPT:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(key)
            return self._compiled[key].deep_copy()

    def _tokenizer(self, lead: str | None) -> Any:
        if lead not in self._tokenizers:
            # The slices speed up masks. The mask of the first id of an answer does without.
            options: dict[str, Any] = {} if lead is None else {"slices": []}
            self._tokenizers[lead] = vocabulary_of(self.opening(lead), **options)
        return self._tokenizers[lead]


class Guide:
    """The position of one answer in its grammar: by ids while drafting, by text when committing.

    Args:
        vocabulary: the vocabulary of the tokenizer.
        grammar: a grammar in llguidance's dialect of Lark.
        lead: see ``Vocabulary.opening``; it applies to the first id of the answer only.
        offered: the tools that the answer may call.
        free: whether the grammar allows any text outside of tool calls.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        grammar: str,
        lead: str | None,
        offered: Offered = Offered(),  # noqa: B008 -- immutable
        *,
        free: bool = False,
    ) -> None:
        self._vocabulary = vocabulary
        self._grammar = grammar
        self._lead = lead
        self._offered = offered
        self.free = free
        self._matcher = vocabulary.matcher(grammar)
        #: The committed text.
        self.text = ""
        self._drafted = b""
        self._steps = 0

    def commit(self, text: str) -> None:
        """Advance by ``text`` from the committed text.

        Raises:
            InvalidConstraintError: if the grammar does not allow the text.
        """
        self.rewind()
        if text and not self._consume(text.encode()):
            raise InvalidConstraintError(
                f"the committed text {text!r} violates the constraint; check the grammar."
            )
        self._steps = 0
        self.text += text

    def rewind(self) -> None:
        """Go back to the end of the committed text."""
        if self._steps:
            self._matcher.rollback(self._steps)
        self._steps, self._drafted = 0, b""

    def legal(self, text: str) -> int:
        """How many characters of ``text`` may follow what was committed."""
        self.rewind()
        first = self._vocabulary.size
        raw = text.encode()
        taken = self._matcher.validate_tokens([first + byte for byte in raw])
        return len(raw[:taken].decode(errors="ignore"))

    def ends_after(self, text: str) -> bool:
        """Whether what was committed satisfies the grammar with ``text``, which is legal."""
        self.rewind()
        self._consume(text.encode())
        ends = self.may_end
        self.rewind()
        return ends

    def spells(self, ids: Sequence[int], text: str) -> bool:
        """Whether ``ids`` may follow what was committed, and stand for ``text``."""
        self.rewind()
        spells = all(map(self.take, ids)) and self._drafted == text.encode()
        self.rewind()
        return spells

    @property
    def drafted(self) -> bytes:
        """The bytes of the ids that were taken since the last commit or rewind."""
        return self._drafted

    @property
    def may_end(self) -> bool:
        """Whether the text so far satisfies the grammar."""
        return bool(self._matcher.is_accepting())

    def allowed(self, *, exact: bool = True) -> Tensor:
        """Return a mask of the ids that may come next. ``[V]``

        Args:
            exact: whether :meth:`take` takes every id of the mask. Otherwise, the mask of free text
                has every id that stands for text, which costs nothing to compute.
        """
        if not exact and self.free and not self._at_opening and not self._in_call:
            return self._vocabulary.spoken.clone()
        matcher = self._matcher
        if self._at_opening:
            matcher = self._vocabulary.matcher(self._grammar, self._lead)
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        flags = np.unpackbits(bits, count=self._vocabulary.size, bitorder="little")
        return torch.from_numpy(flags).bool()

    def take(self, id_: int) -> bool:
        """Advance by one id. Returns False and changes nothing if the id is not allowed."""
        opening = self._at_opening
        text = (self._vocabulary.opening(self._lead) if opening else self._vocabulary.tokens)[id_]
        if not text:
            return False
        if opening:
            if not self._consume(text):
                return False
        elif self._matcher.try_consume_tokens([id_]) == 1:
            self._steps += 1
        else:
            return False
        self._drafted += text
        return True

    def rescue(self) -> str:
        """Return one allowed character, for a tokenizer that has no token for the allowed text."""
        follower = Follower(self._grammar)
        follower.push(self.text)
        return (follower.closing() or "")[:1]

    @property
    def _in_call(self) -> bool:
        answer = self.text + self._drafted.decode(errors="ignore")
        return CALL_OPEN in answer and self._offered.in_call(answer)

    @property
    def _at_opening(self) -> bool:
        return self._lead is not None and not self.text and not self._drafted

    def _consume(self, text: bytes) -> bool:
        """Advance by bytes. Returns False and changes nothing if they are not all allowed."""
        first = self._vocabulary.size
        tokens = [first + byte for byte in text]
        taken = self._matcher.try_consume_tokens(tokens)
        if taken < len(tokens):
            self._matcher.rollback(taken)
            return False
        self._steps += taken
        return True
