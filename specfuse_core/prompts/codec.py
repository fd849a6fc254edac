"""Encodes text to token ids and decodes ids to text, with the tokenizer of one base model.

Ordinary text never becomes a control token. This module knows nothing of conversations or models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

from specfuse_core.errors import ModelLoadError

__all__ = ["Encoded", "TextCodec"]

#: Characters that are put before a text to encode it as in the middle of a longer text.
_ANCHORS = ("\n", ".", "a")
#: Letters that few vocabularies contain: a syllable of Yi and a hieroglyph.
_RARE = "\ua000 \U00013000"
#: Name of a byte-fallback token.
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_letters() -> dict[str, int]:
    """Return the visible characters that byte-level tokenizers (GPT-2) use for bytes."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    letters = {chr(byte): byte for byte in visible}
    return letters | {chr(256 + index): byte for index, byte in enumerate(hidden)}


_LETTERS = _byte_letters()


class Encoded(NamedTuple):
    """An encoded text.

    Args:
        ids: the token ids. ``[T]``
        starts: position in the text at which each token's characters begin. ``[T]``
    """

    ids: list[int]
    starts: list[int]


class TextCodec:
    """Encodes and decodes text with private copies of a fast tokenizer.

    *Control tokens* are the special tokens and the end-of-turn tokens. Text that spells a control
    token is encoded as ordinary tokens, and control tokens are never drafted as text.

    Args:
        tokenizer: a tokenizer that is backed by the tokenizers library. It is not changed.
        ends: ids of the end-of-turn tokens.

    Raises:
        ModelLoadError: if the tokenizer is not backed by the tokenizers library.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Iterable[int] = ()) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ModelLoadError(
                f"{type(tokenizer).__name__} is not a fast tokenizer, which specfuse needs; save "
                "a tokenizer.json with the weights (AutoTokenizer converts most formats)."
            )
        added = backend.get_added_tokens_decoder()
        special = {id_ for id_, token in added.items() if token.special}
        # An end-of-turn token that is an ordinary token (such as a line break) stays text.
        special |= set(tokenizer.all_special_ids) | (set(ends) & added.keys())
        self.control = frozenset(special)
        self.vocabulary = backend.get_vocab_size(with_added_tokens=True)
        self._names = {
            name: id_ for id_ in self.control if (name := backend.id_to_token(id_)) is not None
        }
        self._strips = {token.content: (token.lstrip, token.rstrip) for token in added.values()}
        self._marked = _copy(backend)
        self._plain = _copy(backend)
        self._plain.add_special_tokens(
            [
                AddedToken(token.content, special=True, normalized=token.normalized)
                for id_, token in added.items()
                if id_ in self.control and not token.special
            ]
        )
        self._plain.encode_special_tokens = True
        # Ids that text must never become. The unknown token is not one of them if the tokenizer
        # uses it for unknown characters. If it never does, the unknown token may be another
        # control token (in GPT-2 it is the end-of-text token).
        unknown = set(self._plain.encode(_RARE, add_special_tokens=False).ids)
        self._forbidden = self.control - unknown
        self._spelled: dict[int, list[int]] = {}

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

    @cached_property
    def opens_with_space(self) -> bool:
        """Whether text is encoded differently at the start than in the middle (SentencePiece)."""
        return self._encode("a b").ids != self._after_anchor("a b").ids

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
        full = self._plain.decode([*before, *ids], skip_special_tokens=True)
        shared = len(base)
        while not full.startswith(base[:shared]):
            shared -= 1
        return str(full[shared:])

    def decode_marked(self, ids: Sequence[int], before: Sequence[int] = ()) -> str:
        """Text of ``ids`` as a continuation of ``before``, with the text of control tokens."""
        base = self._plain.decode(list(before), skip_special_tokens=False)
        full = self._plain.decode([*before, *ids], skip_special_tokens=False)
        shared = len(base)
        while not full.startswith(base[:shared]):
            shared -= 1
        return str(full[shared:])

    @cached_property
    def anchor(self) -> list[int]:
        """Ids to pass to ``decode`` as ``before``, so that the first token keeps its space."""
        return list(self._plain.encode(_ANCHORS[0], add_special_tokens=False).ids)

    def strips(self, control: str) -> tuple[bool, bool]:
        """Return whether a control token absorbs white space to its left and to its right."""
        return self._strips.get(control, (False, False))

    def token_bytes(self) -> list[bytes]:
        """Return the bytes of each id in the middle of a text; empty for control tokens. ``[V]``"""
        tokenizer = self._plain
        decoder = json.dumps(json.loads(tokenizer.to_str())["decoder"], ensure_ascii=False)
        added = {id_: token.content for id_, token in tokenizer.get_added_tokens_decoder().items()}
        whole = self._spelled_bytes if '"ByteLevel"' in decoder else self._decoded_bytes
        fallback = '"ByteFallback"' in decoder
        tokens: list[bytes] = []
        for id_ in range(self.vocabulary):
            name = tokenizer.id_to_token(id_)
            if name is None or id_ in self.control:
                tokens.append(b"")
            elif id_ in added:
                tokens.append(added[id_].encode())
            elif fallback and (byte := _BYTE.fullmatch(name)):
                tokens.append(bytes([int(byte[1], 16)]))
            else:
                tokens.append(whole(id_, name))
        return tokens

    def _spelled_bytes(self, id_: int, name: str) -> bytes:
        """Return the bytes of a byte-level token, whose name has one character per byte."""
        if all(character in _LETTERS for character in name):
            return bytes(_LETTERS[character] for character in name)
        return name.encode()

    def _decoded_bytes(self, id_: int, name: str) -> bytes:
        """Return the bytes of any other token: the text that it adds to the text before it."""
        text = self.decode([id_], self.anchor)
        return b"" if "\ufffd" in text else text.encode()

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


def _copy(tokenizer: Tokenizer) -> Tokenizer:
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    return copy
