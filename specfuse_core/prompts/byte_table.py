"""The bytes that each token of a vocabulary stands for. Masks of grammars are made from them.

A token's bytes are what it adds to a text when it is decoded in the middle of one, whatever its
name is. This module knows nothing of control tokens, conversations or models.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Sequence

import tokenizers
from tokenizers import Tokenizer

from specfuse_core.prompts import table_cache

__all__ = ["anchor_of", "byte_table", "decoded_after", "misspelled"]

#: Characters after which tokens are decoded as in the middle of a text.
_ANCHORS = ("\n", ".", "a")
#: Name of a byte-fallback token.
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
#: Number of ids that are decoded in one call.
_BATCH = 50_000
#: Changes with what ``byte_table`` gives for a tokenizer, so that older files are not used.
_ALGORITHM = 1
#: A table that takes longer to build than this is stored on disk.
_SLOW_SECONDS = 1.0

#: Texts that a table must spell as the tokenizer reads them.
_PROBES = (
    "The hall has 12 lamps, and the attic has 3. Isn't it 4567890 in total?",
    "a b  c   d    e     f      g       h        i" + " " * 16 + "j" + " " * 31 + "k",
    "\ta\t\tb\t\t\tc\nd\n\ne\n\n\nf\r\n  g \n h",
    "def f(x):\n    if x >= 1:\n\t\treturn {'a': [x, \"b\"]}  # <done>\n\n\n",
    "Größe, café, naïve, Ça, Łódź. Привет, Ελλάδα, שלום, नमस्ते",
    "東京は日本の首都です。한국어 、「数量」",
    "😀🎉 👩‍💻 € → ∑",
)


def _letters() -> dict[int, int]:
    """The characters that byte-level tokenizers (GPT-2) write for bytes, as codes."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    letters = {byte: byte for byte in visible}
    # What these tokenizers never write is no byte.
    letters |= dict.fromkeys(hidden, 0xFFFF)
    return letters | {256 + index: byte for index, byte in enumerate(hidden)}


_LETTERS = _letters()


def byte_table(tokenizer: Tokenizer, key: str) -> list[bytes]:
    """The bytes of each id in the middle of a text. ``[V]``

    Args:
        tokenizer: the tokenizer.
        key: a hash of its content, under which a table that is slow to build is stored on disk.
    """
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    label = f"byte table {_ALGORITHM}, tokenizers {tokenizers.__version__}, {size} ids of {key}"
    stored = table_cache.load(key, label, size)
    if stored is not None:
        return stored
    started = time.perf_counter()
    table = _built(tokenizer, size)
    if time.perf_counter() - started > _SLOW_SECONDS:
        table_cache.store(key, label, table)
    return table


def anchor_of(tokenizer: Tokenizer) -> list[int]:
    """Ids after which a token keeps its leading space; none if the tokenizer has none."""
    for anchor in _ANCHORS:
        ids = list(tokenizer.encode(anchor, add_special_tokens=False).ids)
        if tokenizer.decode(ids):
            return ids
    return []


def decoded_after(before: str, whole: str) -> str:
    """What ids add to a text, from the text before them and the whole text."""
    if whole.startswith(before):
        return whole[len(before) :]
    # The last character of the text before was not complete yet.
    shared = len(before)
    while not whole.startswith(before[:shared]):
        shared -= 1
    return whole[shared:]


def misspelled(
    table: Sequence[bytes], encode: Callable[[str], list[int]], decode: Callable[[list[int]], str]
) -> int | None:
    """Return the first id whose bytes in ``table`` are not what it adds to a text; None if none.

    The probe texts are spelled by the table, and decoded. What the tokenizer itself changes or
    drops when it encodes (case, accents, white space, unknown characters) is no fault of the table.

    Args:
        table: the bytes of each id.
        encode: encodes a text as in the middle of one, without ids that have no text.
        decode: decodes ids as in the middle of a text.
    """

    def right(ids: list[int], text: str, *, whole: bool) -> bool:
        # An incomplete character at the end is not looked at.
        spelled = b"".join(table[id_] for id_ in ids).decode(errors="ignore")
        if spelled == text if whole else text.startswith(spelled):
            return True
        return spelled == decode(ids).rstrip("\ufffd") and _nothing_added(spelled, text)

    for text in _PROBES:
        ids = encode(text)
        if not right(ids, text, whole=True):
            ends = range(1, len(ids) + 1)
            return next(
                (ids[end - 1] for end in ends if not right(ids[:end], text, whole=False)), ids[-1]
            )
    return None


def _nothing_added(spelled: str, text: str) -> bool:
    """Whether ``spelled`` is ``text`` without some of its characters, whatever their form."""
    rest = iter(_folded(text))
    return all(character in rest for character in _folded(spelled))


def _folded(text: str) -> str:
    """``text`` without white space, accents and case, and with ligatures as letters."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if not c.isspace() and not unicodedata.combining(c))


def _built(tokenizer: Tokenizer, size: int) -> list[bytes]:
    added = tokenizer.get_added_tokens_decoder()
    names = [tokenizer.id_to_token(id_) for id_ in range(size)]
    # The state of a decoder is its configuration in JSON.
    decoder = bytes(tokenizer.decoder.__getstate__()) if tokenizer.decoder else b""
    if b'"ByteLevel"' in decoder:
        table = [_spelled(name or "") for name in names]
    else:
        table = _decoded(tokenizer, names, fallback=b'"ByteFallback"' in decoder)
    for id_, token in added.items():
        if token.special:
            table[id_] = b""
        elif not _is_text(table[id_]):
            # Such a token was added as text, but its characters are also those of bytes.
            table[id_] = token.content.encode()
    return table


def _spelled(name: str) -> bytes:
    """The bytes of a byte-level token, whose name has one character per byte."""
    try:
        return name.translate(_LETTERS).encode("latin-1")
    except UnicodeEncodeError:
        # An added token is named by its text.
        return name.encode()


def _decoded(tokenizer: Tokenizer, names: Sequence[str | None], *, fallback: bool) -> list[bytes]:
    """The bytes of other tokens: the text that each adds to the anchor."""
    anchor = anchor_of(tokenizer)
    before = tokenizer.decode(anchor)
    table: list[bytes] = []
    for start in range(0, len(names), _BATCH):
        ids = range(start, min(start + _BATCH, len(names)))
        texts = tokenizer.decode_batch([[*anchor, id_] for id_ in ids])
        for id_, whole in zip(ids, texts, strict=True):
            name = names[id_] or ""
            if fallback and len(name) == 6 and (byte := _BYTE.fullmatch(name)):
                table.append(bytes([int(byte[1], 16)]))
            else:
                text = decoded_after(before, whole)
                # A part of a character has no text of its own.
                table.append(b"" if "\ufffd" in text and "\ufffd" not in name else text.encode())
    return table


def _is_text(raw: bytes) -> bool:
    try:
        return bool(raw.decode())
    except UnicodeDecodeError:
        return False
