"""Tokenizers whose tokens are not named by the text that they stand for, of our own making."""

from __future__ import annotations

import json
from collections.abc import Callable

import tiny
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

__all__ = ["REFUSED", "SPELLED", "made"]

_TEXT = sorted(set("".join(tiny.CORPUS)) - {" "})
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_SPECIALS = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]


def made(name: str) -> PreTrainedTokenizerFast:
    """Create one of the tokenizers."""
    tokenizer = {**SPELLED, **REFUSED}[name]()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in _SPECIALS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        pad_token="<pad>",
        chat_template=tiny.CHATML,
    )


def _family(name: str) -> Tokenizer:
    return Tokenizer.from_str(tiny.tokenizer(name).backend_tokenizer.to_str())


def _spaces(*, normalized: bool) -> Tokenizer:
    """As Gemma: added tokens of spaces are spelled as the vocabulary spells spaces."""
    runs = ["\u2581" * size for size in range(1, 32)]
    names = [*_SPECIALS, *_BYTES, *_TEXT, *runs]
    merges = [(runs[size - 1], run) for run in runs[:15] for size in (len(run), len(run) + 1)]
    tokenizer = Tokenizer(
        models.BPE({name: id_ for id_, name in enumerate(names)}, merges, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    runs = [*runs[1:], *("\n" * size for size in range(1, 9)), "\t", "\t\t"]
    tokenizer.add_tokens([AddedToken(run, normalized=normalized) for run in runs])
    return tokenizer


def _runs() -> Tokenizer:
    """As GPT-NeoX: added tokens of white space in a byte-level vocabulary."""
    tokenizer = _family("bytelevel")
    runs = [" " * size for size in range(2, 25)] + ["\t" * size for size in range(1, 5)] + ["\n\n"]
    tokenizer.add_tokens([AddedToken(run, normalized=True) for run in runs])
    return tokenizer


def _words() -> Tokenizer:
    """Added words whose letters are also those that byte-level names have for bytes."""
    tokenizer = _family("bytelevel")
    tokenizer.add_tokens([AddedToken(word) for word in ("caf\u00e9", "\u00c7a", "\u20ac", "東京")])
    return tokenizer


def _stripping() -> Tokenizer:
    """Added tokens that take the white space beside them along."""
    tokenizer = _family("bytelevel")
    tokenizer.add_tokens(
        [
            AddedToken("lamps", lstrip=True),
            AddedToken("12", rstrip=True),
            AddedToken("e", single_word=True),
        ]
    )
    return tokenizer


def _added_bytes() -> Tokenizer:
    """Byte-fallback tokens that were added, and a replacement character that is a token."""
    tokenizer = _family("metaspace")
    tokenizer.add_tokens([AddedToken(name) for name in (*_BYTES[:32], "\ufffd")])
    return tokenizer


def _word_pieces(*, cleanup: bool) -> Tokenizer:
    tokenizer = _family("wordpiece")
    tokenizer.decoder = decoders.WordPiece(cleanup=cleanup)
    return tokenizer


def _prefixed() -> Tokenizer:
    """As RoBERTa: a space before every text that is not taken away when it is decoded."""
    tokenizer = _family("bytelevel")
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def _unknown_is_text() -> Tokenizer:
    """An unknown token that nobody marked as special."""
    pieces = [("?unknown?", 0.0), *((piece, -5.0) for piece in ("\u2581", *_TEXT[:60]))]
    tokenizer = Tokenizer(models.Unigram(pieces, 0, False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return tokenizer


def _suffixed() -> Tokenizer:
    """As CLIP: the last piece of a word is named so, and the space after it is no piece's own."""
    names = [*_SPECIALS, *_TEXT, *(f"{letter}</w>" for letter in _TEXT)]
    tokenizer = Tokenizer(
        models.BPE(
            {name: id_ for id_, name in enumerate(names)},
            [],
            unk_token="<unk>",
            end_of_word_suffix="</w>",
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    return tokenizer


def _undecoded() -> Tokenizer:
    """A byte-level vocabulary whose decoder was forgotten."""
    data = json.loads(_family("bytelevel").to_str())
    return Tokenizer.from_str(json.dumps({**data, "decoder": None}))


#: Tokenizers whose tokens have bytes of their own, by what is unusual about them.
SPELLED: dict[str, Callable[[], Tokenizer]] = {
    "spaces": lambda: _spaces(normalized=False),
    "normalized spaces": lambda: _spaces(normalized=True),
    "runs": _runs,
    "words": _words,
    "stripping": _stripping,
    "added bytes": _added_bytes,
    "word pieces": lambda: _word_pieces(cleanup=False),
    "cleaned word pieces": lambda: _word_pieces(cleanup=True),
    "prefixed": _prefixed,
    "unknown is text": _unknown_is_text,
}
#: Tokenizers in which the text of a token depends on the tokens beside it.
REFUSED: dict[str, Callable[[], Tokenizer]] = {
    "suffixed": _suffixed,
    "undecoded": _undecoded,
}
