"""What must hold of text and ids in any tokenizer, tried on texts that grow in random pieces."""

from __future__ import annotations

import random
from typing import Any

from transformers import PreTrainedTokenizerFast

from specfuse_core.errors import InvalidConstraintError
from specfuse_core.prompts.codec import TextCodec
from specfuse_core.prompts.tokens import ResponseTokens

__all__ = ["identities"]

_TEXTS = (
    "The hall has 12 lamps, and the attic has 7. How many are there in total?\n\n",
    "def f(x):\n    if x:\n\t\treturn {'a': [1, 2.5], \"b\": None}\n\n\n",
    "Grüße aus Köln, 東京は日本の首都です。 😀🎉 naïve café  -- ok?",
    '{"name": "get_weather", "arguments": {"city": "Oslo", "days": [1, 2]}}     spaces',
    "a  b   c    d     e\r\n\tend.",
)


def identities(tokenizer: PreTrainedTokenizerFast, *, rounds: int = 20) -> dict[str, Any]:
    """Counts of what was tried and of what failed.

    Args:
        tokenizer: a fast tokenizer.
        rounds: how many times each text grows in other pieces.
    """
    codec = TextCodec(tokenizer)
    dice = random.Random(0)
    tried, grown, encoded = 0, 0, 0
    for text in (*_TEXTS, "".join(_TEXTS)):
        for _ in range(rounds):
            tokens, position = ResponseTokens(codec), 0
            while position < len(text):
                size = dice.randint(1, 20)
                tokens.push(text[position : position + size])
                position += size
            tried += 1
            grown += tokens.ids != codec.encode(text).ids
        own = tokenizer(text, add_special_tokens=False)["input_ids"]
        encoded += own != codec.encode(text).ids
    names = sorted(codec.control_names)
    written = codec.encode(" ".join(names)).ids
    return {
        "grown": tried,
        "grown_otherwise": grown,
        "encoded_otherwise": encoded,
        "control_tokens": len(names),
        "control_ids_from_text": len(codec.control & set(written)),
        "byte_table_wrong": _wrong_bytes(codec),
    }


def _wrong_bytes(codec: TextCodec) -> int | str:
    """Texts that the byte table of a grammar spells otherwise than they are; the error if none."""
    try:
        table = codec.token_bytes()
    except InvalidConstraintError as error:
        return str(error)
    spelled = (
        b"".join(table[id_] for id_ in codec.encode(text, continuing=True).ids) for text in _TEXTS
    )
    return sum(raw != text.encode() for raw, text in zip(spelled, _TEXTS, strict=True))
