"""Creates tiny models with random weights of many architectures, and tokenizers of every family.

The weights have a large variance, so that attention matters and tests detect a wrong mask or a
stale cache.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from functools import cache
from typing import Any

import torch
import transformers
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Refuses a system role and roles that do not alternate, like the templates of Gemma and Mistral.
STRICT = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)

CORPUS = [
    "The hall has 12 lamps and 3 chairs. The attic has 30 lamps, and nobody knows why.",
    "How many lamps are in the hall and the attic in total? 12 + 30 = 42. The answer is 42.",
    "def add(a, b):\n    return a + b\n\n"
    "class Lamp:\n    def __init__(self, name):\n        pass\n",
    "Grüße aus Köln: heute ist es kühl, morgen wird's wärmer. Ça va? Où est la gare?",
    "東京は日本の首都です。人口は約千四百万人です。こんにちは、世界!",
    "Once upon a time, in a far-away land, there lived a fox who didn't like the rain. "
    'It said: "I won\'t go out today", and it stayed at home, reading three old books.',
    '{"name": "get_weather", "arguments": {"city": "Paris", "days": [1, 2, 3], "metric": true}}',
    "Tokens such as <|im_end|>, <s>, </s> and <|im_start|>user are text: [a] | {b_c} = 9 * 8 - 7.",
    "Большой город спит. Привет, мир! Ελληνικά. 😀 🎉 emoji and ligatures: ﬁ ﬂ.",
] * 3

FAMILIES = ("bytelevel", "metaspace", "unigram", "wordpiece", "sentencepiece")


def _trained(family: str) -> Tokenizer:
    specials = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]
    if family == "bytelevel":
        tok = Tokenizer(models.BPE())
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tok.decoder = decoders.ByteLevel()
        tok.post_processor = processors.ByteLevel(trim_offsets=True)
        trainer: Any = trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    elif family in ("metaspace", "sentencepiece"):
        bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
        tok = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        if family == "metaspace":
            tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        else:  # as Llama 2: the space comes from the normaliser, and nothing splits words
            tok.normalizer = normalizers.Sequence(
                [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
            )
        tok.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=900,
            special_tokens=[*specials, *bytes_],
            show_progress=False,
            max_token_length=12,
        )
    elif family == "unigram":
        words = [
            f"▁{word}" for text in CORPUS for word in unicodedata.normalize("NFKC", text).split()
        ]
        pieces = _pieces(words, 400)
        total = math.log(sum(pieces.values()))
        scored = [(piece, math.log(count) - total) for piece, count in pieces.items()]
        tok = Tokenizer(models.Unigram([*((s, 0.0) for s in specials), *scored], 0, False))
        tok.normalizer = normalizers.NFKC()
        tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        tok.decoder = decoders.Metaspace(prepend_scheme="always")
        return _marked(tok, specials)
    else:
        cut = pre_tokenizers.BertPreTokenizer()
        lower = normalizers.BertNormalizer(lowercase=True)
        words = [w for t in CORPUS for w, _ in cut.pre_tokenize_str(lower.normalize_str(t))]
        inner = _pieces([word[1:] for word in words], 250)
        names = [*specials, *_pieces(words, 300), *(f"##{piece}" for piece in inner)]
        tok = Tokenizer(
            models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="<unk>")
        )
        tok.normalizer = lower
        tok.pre_tokenizer = cut
        tok.decoder = decoders.WordPiece(cleanup=False)
        return _marked(tok, specials)
    tok.train_from_iterator(CORPUS, trainer)
    if family in ("metaspace", "sentencepiece"):
        # Byte tokens were special during training only so that the vocabulary contains them.
        data = json.loads(tok.to_str())
        data["added_tokens"] = [
            t for t in data["added_tokens"] if not t["content"].startswith("<0x")
        ]
        tok = Tokenizer.from_str(json.dumps(data))
    return _marked(tok, specials)


def _pieces(words: list[str], count: int) -> dict[str, int]:
    """Return all characters and the most useful other pieces of ``words``, with their counts.

    The trainers of these two models give different vocabularies in different processes.
    """
    counts = Counter(
        word[i : i + size]
        for word in words
        for i in range(len(word))
        for size in range(1, min(8, len(word) - i) + 1)
    )
    useful = sorted(counts, key=lambda piece: (len(piece) > 1, -counts[piece] * len(piece), piece))
    return {piece: counts[piece] for piece in useful[:count]}


def _marked(tok: Tokenizer, specials: list[str]) -> Tokenizer:
    tok.add_special_tokens([AddedToken(name, special=True) for name in specials])
    return tok


@cache
def _tokenizer_json(family: str) -> str:
    return _trained(family).to_str()


def tokenizer(
    family: str, template: str | None = CHATML, **options: Any
) -> PreTrainedTokenizerFast:
    """Create a tokenizer of one family."""
    specials = {
        "unk_token": "<unk>",
        "eos_token": "<|im_end|>",
        "bos_token": "<s>",
        "pad_token": "<pad>",
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_tokenizer_json(family)),
        chat_template=template,
        **{**specials, **options},
    )


def characters(template: str | None = CHATML, **options: Any) -> PreTrainedTokenizerFast:
    """Create a tokenizer of printable ASCII without merges: every id sequence is canonical."""
    names = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "\n"]
    names += [chr(code) for code in range(32, 127)]
    tok = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, [], unk_token="<unk>"))
    tok.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=_marked(tok, names[:6]),
        unk_token="<unk>",
        eos_token="<|im_end|>",
        bos_token="<s>",
        pad_token="<pad>",
        chat_template=template,
        **options,
    )


_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}


def dynamic(boundary: int, factor: float = 4.0) -> dict[str, Any]:
    """Return options of a Llama whose position encodings change with each token of a long text."""
    scaling = {"rope_type": "dynamic", "factor": factor, "rope_theta": 10_000.0}
    return {"max_position_embeddings": boundary, "rope_parameters": scaling}


_LAYERS = ["sliding_attention", "full_attention"]

#: name -> (config class, its options)
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _SMALL),
    "qwen2": ("Qwen2Config", _SMALL),
    "qwen3": ("Qwen3Config", _SMALL),
    "mistral": ("MistralConfig", {**_SMALL, "sliding_window": 24}),
    "gemma2": ("Gemma2Config", {**_SMALL, "sliding_window": 24, "query_pre_attn_scalar": 8}),
    "gemma3": (
        "Gemma3TextConfig",
        {**_SMALL, "sliding_window": 24, "query_pre_attn_scalar": 8, "layer_types": _LAYERS},
    ),
    "gpt_neox": ("GPTNeoXConfig", _SMALL),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}),
    "phi": ("PhiConfig", _SMALL),
    # Its position encodings change beyond 64 tokens.
    "phi3": (
        "Phi3Config",
        {
            **_SMALL,
            "pad_token_id": 3,
            "original_max_position_embeddings": 64,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10_000.0,
                "short_factor": [1.0, 1.1, 1.2, 1.3],
                "long_factor": [1.5, 2.5, 5.0, 8.0],
            },
        },
    ),
    "smollm3": ("SmolLM3Config", {**_SMALL, "pad_token_id": 3}),
    "bloom": ("BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "mamba": (
        "MambaConfig",
        {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 2, "intermediate_size": 64},
    ),
    "mamba2": (
        "Mamba2Config",
        {
            "hidden_size": 32,
            "state_size": 8,
            "num_hidden_layers": 2,
            "num_heads": 8,
            "head_dim": 8,
            "n_groups": 2,
            "chunk_size": 8,
        },
    ),
    "lfm2": (
        "Lfm2Config",
        {**_SMALL, "layer_types": ["conv", "full_attention"], "conv_L_cache": 3},
    ),
}


def model(
    architecture: str, vocabulary: int = 900, *, seed: int = 0, **options: Any
) -> PreTrainedModel:
    """Create a tiny model with random weights, in eval mode."""
    name, defaults = ARCHITECTURES[architecture]
    attention = options.pop("attn_implementation", None)
    config = getattr(transformers, name)(
        **{**defaults, "vocab_size": vocabulary, "bos_token_id": 1, "eos_token_id": 5, **options}
    )
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    made.eval()
    made.generation_config.eos_token_id = 5
    return made


def pair(
    architecture: str, family: str, *, seed: int = 0, template: str | None = CHATML
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Create a tiny model and a tokenizer with the same vocabulary size."""
    tok = tokenizer(family, template)
    return model(architecture, len(tok), seed=seed), tok
