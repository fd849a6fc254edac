"""Trains a byte-level BPE tokenizer with a token for each digit, on generated text."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from training.templates import ChatFormat

# Splits words like recent Llama and Qwen tokenizers, with a token for each digit.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Only a space joins a word, so that a word has the same tokens in JSON and in prose.
PLAIN_WORDS = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train_tokenizer(
    texts: Iterable[str],
    vocabulary: int,
    chat: ChatFormat,
    *,
    max_length: int,
    words: str = WORDS,
) -> PreTrainedTokenizerFast:
    """Train a tokenizer with at most `vocabulary` tokens: special tokens, 256 bytes, then merges.

    Args:
        texts: the training texts.
        vocabulary: maximum number of tokens.
        chat: the chat format, with the special tokens and the template.
        max_length: context window, in tokens.
        words: pattern of words; tokens never cross its matches.
    """
    specials = [chat.pad, chat.end_of_turn, *chat.marks]
    if chat.begin is not None:
        specials.append(chat.begin)
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bare.decoder = decoders.ByteLevel()
    bare.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token=chat.begin,
        eos_token=chat.end_of_turn,
        pad_token=chat.pad,
        additional_special_tokens=list(chat.marks),
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = chat.template
    return tokenizer
