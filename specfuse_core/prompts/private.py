"""Private copies of tokenizers: one per distinct tokenizer and process, whatever its owners do.

This module knows nothing of conversations or models. ``codec`` decides what the copies encode.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from functools import cached_property
from typing import ClassVar

from tokenizers import AddedToken, Tokenizer

from specfuse_core.prompts.byte_table import byte_table

__all__ = ["PrivateTokenizer"]


class PrivateTokenizer:
    """A copy of a tokenizer that no one else changes. Use :meth:`of` to get the shared one.

    Args:
        key: hash of the tokenizer's content.
        marked: the copy. It encodes text that spells a special token as that token.
    """

    #: The copies that are in use, by their keys.
    _shared: ClassVar[weakref.WeakValueDictionary[str, PrivateTokenizer]] = (
        weakref.WeakValueDictionary()
    )
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, key: str, marked: Tokenizer) -> None:
        self.key = key
        self.marked = marked
        self._plain: dict[frozenset[int], Tokenizer] = {}

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, owned: bool = False) -> PrivateTokenizer:
        """Return the copy of ``tokenizer``. Tokenizers with the same content share one.

        Args:
            tokenizer: any tokenizer. Its padding and truncation are not copied.
            owned: whether the caller alone uses ``tokenizer`` and will not change it. It then
                shares the vocabulary of the copy, instead of keeping its own in memory.
        """
        view = _view(tokenizer)
        content = view.to_str()
        key = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
        with cls._lock:
            private = cls._shared.get(key)
            if private is None:
                private = cls(key, view if owned else Tokenizer.from_str(content))
                cls._shared[key] = private
            elif owned:
                tokenizer.model = private.marked.model
        return private

    def plain(self, control: frozenset[int]) -> Tokenizer:
        """Return a tokenizer that encodes text as ordinary tokens, even if it spells a special one.

        Args:
            control: added tokens to treat like the special ones.
        """
        with self._lock:
            if control not in self._plain:
                plain = _view(self.marked)
                added = plain.get_added_tokens_decoder()
                plain.add_special_tokens(
                    [
                        AddedToken(
                            added[id_].content, special=True, normalized=added[id_].normalized
                        )
                        for id_ in sorted(control)
                        if not added[id_].special
                    ]
                )
                plain.encode_special_tokens = True
                self._plain[control] = plain
            return self._plain[control]

    @property
    def kind(self) -> str:
        """The algorithm, for example ``"byte-level BPE"``."""
        model = self.marked.model
        name = type(model).__name__
        if "ByteLevel" in repr(self.marked.decoder):
            return f"byte-level {name}"
        return f"{name} with byte fallback" if getattr(model, "byte_fallback", False) else name

    @cached_property
    def table(self) -> list[bytes]:
        """The bytes of each id in the middle of a text. ``[V]``"""
        return byte_table(self.marked, self.key)


def _view(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer of the same parts: it takes no time to make, and shares the vocabulary."""
    view = Tokenizer(tokenizer.model)
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if (own := getattr(tokenizer, part)) is not None:
            setattr(view, part, own)
    added = tokenizer.get_added_tokens_decoder()
    # In the order of their ids, since the library numbers them in the order in which they come.
    view.add_tokens([added[id_] for id_ in sorted(added)])
    return view
