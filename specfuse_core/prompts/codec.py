"""Encodes text to token ids and decodes ids to text, with the tokenizer of one base model.

Ordinary text never becomes a control token. This module knows nothing of conversations or models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Self

from tokenizers import Tokenizer

from specfuse_core.errors import InvalidConstraintError, ModelLoadError
from specfuse_core.prompts.byte_table import anchor_of, decoded_after, misspelled
from specfuse_core.prompts.private import PrivateTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Encoded", "TextCodec"]

#: Characters that are put before a text to encode it as in the middle of a longer text.
_ANCHORS = ("\n", ".", "a")
#: Letters that few vocabularies contain: a syllable of Yi and a hieroglyph.
_RARE = "\ua000 \U00013000"


class Encoded(NamedTuple):
    """An encoded text.

    Args:
        ids: the token ids. ``[T]``
        starts: position in the text at which each token's characters begin. ``[T]``
    """

    ids: list[int]
    starts: list[int]


class TextCodec:
    """Encodes and decodes text with a private copy of a fast tokenizer.

    *Control tokens* are the special tokens and the end-of-turn tokens. Text that spells a control
    token is encoded as ordinary tokens, and control tokens are never drafted as text.

    Args:
        tokenizer: a tokenizer that is backed by the tokenizers library. It encodes as before.
        ends: ids of the end-of-turn tokens.
        owned: whether the caller alone uses ``tokenizer`` and will not change it (see
            ``PrivateTokenizer.of``).

    Raises:
        ModelLoadError: if the tokenizer is not backed by the tokenizers library.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, ends: Iterable[int] = (), *, owned: bool = False
    ) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ModelLoadError(
                f"{type(tokenizer).__name__} is not a fast tokenizer, which specfuse needs; save "
                "a tokenizer.json with the weights (AutoTokenizer converts most formats)."
            )
        self._private = PrivateTokenizer.of(backend, owned=owned)
        self._special = frozenset(tokenizer.all_special_ids)
        self._separate(ends)

    def with_ends(self, ends: Iterable[int]) -> Self:
        """Return a codec of the same tokenizer with other end-of-turn tokens."""
        codec = object.__new__(type(self))
        codec._private, codec._special = self._private, self._special
        codec._separate(ends)
        return codec

    def _separate(self, ends: Iterable[int]) -> None:
        """Separate control tokens from text."""
        self._marked = self._private.marked
        added = self._marked.get_added_tokens_decoder()
        special = {id_ for id_, token in added.items() if token.special}
        # An end-of-turn token that is an ordinary token (such as a line break) stays text.
        special |= self._special | (set(ends) & added.keys())
        self.control = frozenset(special)
        self.vocabulary = self._marked.get_vocab_size(with_added_tokens=True)
        #: The largest id that ordinary text can become.
        self.largest = max(
            self._marked.get_vocab_size(with_added_tokens=False) - 1, *(added.keys() - special), 0
        )
        self._names = {
            name: id_ for id_ in self.control if (name := self._marked.id_to_token(id_)) is not None
        }
        self._strips = {token.content: (token.lstrip, token.rstrip) for token in added.values()}
        self._plain = self._private.plain(self.control.intersection(added))
        # Ids that text must never become. The unknown token is not one of them if the tokenizer
        # uses it for unknown characters. If it never does, the unknown token may be another
        # control token (in GPT-2 it is the end-of-text token).
        self._rare = frozenset(self._plain.encode(_RARE, add_special_tokens=False).ids)
        self._forbidden = self.control - self._rare
        self._spelled: dict[int, list[int]] = {}

    @property
    def key(self) -> tuple[str, frozenset[int]]:
        """Equal for codecs that encode and decode alike."""
        return self._private.key, self.control

    @property
    def kind(self) -> str:
        """The algorithm of the tokenizer, for example ``"byte-level BPE"``."""
        return self._private.kind

    @cached_property
    def control_pattern(self) -> re.Pattern[str] | None:
        """A pattern that matches the text of any control token; None if there are none."""
        names = sorted(self._names, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names))) if names else None

    @property
    def control_names(self) -> Mapping[str, int]:
        """The ids of the control tokens, by their texts."""
        return self._names

    def control_id(self, text: str) -> int | None:
        """Return the id of the control token that ``text`` spells; None if it spells none."""
        return self._names.get(text)

    def name_of(self, control: int | None) -> str:
        """The text of a control token; empty for None."""
        return next((name for name, id_ in self._names.items() if id_ == control), "")

    def text_of(self, id_: int) -> str | None:
        """The text of one token; None if the tokenizer has no such id."""
        known = self._marked.id_to_token(id_) is not None
        return self._marked.decode([id_], skip_special_tokens=False) if known else None

    @cached_property
    def opens_with_space(self) -> bool:
        """Whether text is encoded differently at the start than in the middle (SentencePiece)."""
        return self._encode("a b").ids != self._after_anchor("a b").ids

    def leading_space(self, *, continuing: bool) -> str:
        """The space that the first token of a text adds before it; empty if it adds none.

        Args:
            continuing: whether the text is encoded as in the middle of a text.
        """
        first = self.encode("a", continuing=continuing).ids[:1]
        return " " if self.decode(first, self.anchor).startswith(" ") else ""

    @cached_property
    def opens_with_space_after_control(self) -> bool:
        """Whether text after a control token is encoded as at the start."""
        for name, id_ in self._names.items():
            ids = self._marked.encode(name + "a b", add_special_tokens=False).ids
            if ids and ids[0] == id_:
                return bool(ids[1:] == self._encode("a b").ids)
        return self.opens_with_space

    @cached_property
    def opening(self) -> int | None:
        """Id of the control token that the tokenizer adds before a text; None if it adds none."""
        ids = self._marked.encode("a", add_special_tokens=True).ids
        return ids[0] if ids and ids[0] in self.control else None

    def encode(self, text: str, *, continuing: bool = False) -> Encoded:
        """Encode ordinary text. Text that spells a control token is encoded as ordinary tokens.

        Args:
            text: any text.
            continuing: whether to encode it as in the middle of a text, without an artificial
                space before it.
        """
        if continuing and self.opens_with_space:
            return self._after_anchor(text)
        return self._encode(text)

    def encode_marked(self, text: str) -> list[int]:
        """Encode a rendered template: text that spells a control token becomes that token."""
        return list(self._marked.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int], before: Sequence[int] = ()) -> str:
        """Return the text that ``ids`` add to the text of the ids ``before``."""
        if not before:
            return str(self._plain.decode(list(ids), skip_special_tokens=True))
        base = self._plain.decode(list(before), skip_special_tokens=True)
        return decoded_after(base, self._plain.decode([*before, *ids], skip_special_tokens=True))

    def decode_marked(self, ids: Sequence[int], before: Sequence[int] = ()) -> str:
        """Text of ``ids`` as a continuation of ``before``, with the text of control tokens."""
        base = self._plain.decode(list(before), skip_special_tokens=False)
        return decoded_after(base, self._plain.decode([*before, *ids], skip_special_tokens=False))

    @cached_property
    def anchor(self) -> list[int]:
        """Ids to pass to ``decode`` as ``before``, so that the first token keeps its space."""
        return anchor_of(self._plain)

    def strips(self, control: str) -> tuple[bool, bool]:
        """Return whether a control token absorbs white space to its left and to its right."""
        return self._strips.get(control, (False, False))

    def token_bytes(self) -> list[bytes]:
        """Return the bytes of each id in the middle of a text; empty for control tokens. ``[V]``

        Raises:
            InvalidConstraintError: if the tokenizer has no such bytes, since what a token adds to a
                text depends on the tokens beside it.
        """
        tokens = list(self._private.table)
        # Rare letters have no ASCII in them: such a token only says that a character is unknown.
        unknown = {id_ for id_ in self._rare if tokens[id_].isascii() and tokens[id_].strip()}
        silent = self.control | unknown
        for id_ in silent:
            tokens[id_] = b""

        def encode(text: str) -> list[int]:
            return [id_ for id_ in self.encode(text, continuing=True).ids if id_ not in silent]

        def decode(ids: Sequence[int]) -> str:
            return self.decode(ids, self.anchor)

        wrong = misspelled(tokens, encode, decode)
        if wrong is not None:
            raise InvalidConstraintError(
                "constraints and tools cannot be used with this tokenizer, because the text of its "
                f"token {wrong} ({self._plain.id_to_token(wrong)!r}) depends on the tokens beside "
                "it; leave the model out, or ask without a constraint and without tools."
            )
        return tokens

    def _encode(self, text: str) -> Encoded:
        return self._without_control(self._raw(text))

    def _after_anchor(self, text: str) -> Encoded:
        return self._without_control(self._after_anchor_raw(text))

    def _without_control(self, encoded: Encoded) -> Encoded:
        """Replace control tokens in ``encoded`` by ordinary tokens.

        Some vocabularies (Unigram) contain the text of a control token as an ordinary token too.
        """
        if self._forbidden.isdisjoint(encoded.ids):
            return encoded
        spelled = Encoded([], [])
        for id_, start in zip(*encoded, strict=True):
            pieces = self._spell(id_) if id_ in self._forbidden else [id_]
            spelled.ids.extend(pieces)
            spelled.starts.extend([start] * len(pieces))
        return spelled

    def _spell(self, id_: int) -> list[int]:
        """Return ordinary ids for the characters of a control token's text."""
        if id_ not in self._spelled:
            characters = self._plain.id_to_token(id_) or ""
            ids = [i for character in characters for i in self._after_anchor_raw(character).ids]
            self._spelled[id_] = [i for i in ids if i not in self._forbidden]
        return self._spelled[id_]

    def _raw(self, text: str) -> Encoded:
        encoding = self._plain.encode(text, add_special_tokens=False)
        return Encoded(list(encoding.ids), [start for start, _ in encoding.offsets])

    def _after_anchor_raw(self, text: str) -> Encoded:
        for anchor in _ANCHORS:
            size = len(self._plain.encode(anchor, add_special_tokens=False).ids)
            encoding = self._plain.encode(anchor + text, add_special_tokens=False)
            head, rest = encoding.offsets[:size], encoding.offsets[size:]
            # If the anchor was merged with the text, it cannot be removed: try the next one.
            if all(end <= len(anchor) for _, end in head) and all(
                start >= len(anchor) for start, _ in rest[:1]
            ):
                starts = [start - len(anchor) for start, _ in rest]
                return Encoded(list(encoding.ids[size:]), starts)
        return self._raw(text)
