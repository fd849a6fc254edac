"""Saves tiny models in the forms that a checkpoint can have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlavaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.quantizers import HfQuantizer, auto
from transformers.utils.quantization_config import QuantizationConfigMixin

#: The types of tokens in GGUF.
_NORMAL, _CONTROL = 1, 3


#: The size of the part that reads images.
_VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}


def image_text_model(family: str = "bytelevel") -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Create a tiny model that reads images and text, as LLaVA does, with its tokenizer."""
    language, tokenizer = tiny.pair("llama", family)
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=language.config,
        image_token_index=3,
        vision_feature_layer=-1,
    )
    model = AutoModelForImageTextToText.from_config(config)
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    model.generation_config.eos_token_id = 5
    return model.eval(), tokenizer


def other_image_text_model(kind: str) -> PreTrainedModel:
    """Create a tiny model of another kind that reads images and text, for the same tokenizer."""
    text = {**tiny._SMALL, "vocab_size": len(tiny.tokenizer("bytelevel")), "initializer_range": 0.3}
    if kind == "mistral3":
        vision = {"image_size": 8, "patch_size": 4, "head_dim": 8, **_VISION}
        config: Any = transformers.Mistral3Config(
            text_config=transformers.MistralConfig(**text),
            vision_config=transformers.PixtralVisionConfig(**vision, num_attention_heads=2),
        )
    else:
        rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}
        config = transformers.Qwen2_5_VLConfig(
            text_config={**text, "rope_parameters": rope},
            vision_config={**_VISION, "depth": 1, "num_heads": 2, "out_hidden_size": 32},
        )
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForImageTextToText.from_config(config).eval()
    model.generation_config.eos_token_id = 5
    return model


def save_gguf(file: Path) -> PreTrainedModel:
    """Write a tiny Llama and its tokenizer to a GGUF file, and return the model.

    The tokenizer is the byte-level one.
    """
    import gguf

    model, tokenizer = tiny.pair("llama", "bytelevel")
    config: Any = model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(tokenizer))
    described = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    control = set(tokenizer.all_special_ids) | {4}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(names)
    writer.add_token_types([_CONTROL if id_ in control else _NORMAL for id_ in range(len(names))])
    writer.add_token_merges([" ".join(pair) for pair in described["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(5)
    writer.add_chat_template(tiny.CHATML)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(_gguf_name(name), _permuted(name, tensor, config).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers": "blk",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def _gguf_name(name: str) -> str:
    for ours, theirs in _NAMES.items():
        name = name.replace(ours, theirs)
    return name


def _permuted(name: str, tensor: torch.Tensor, config: Any) -> torch.Tensor:
    """Put the rows of queries and keys into the order of llama.cpp: pairs beside each other."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    kind = next((kind for kind in heads if kind in name), None)
    if kind is None:
        return tensor
    split = tensor.reshape(heads[kind], 2, config.head_dim // 2, tensor.shape[1])
    return split.swapaxes(1, 2).reshape(tensor.shape).contiguous()


def register_quantizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make transformers know a method of quantization that leaves the weights as they are."""

    class TinyConfig(QuantizationConfigMixin):
        def __init__(self, **options: Any) -> None:
            super().__init__("tiny")  # type: ignore[arg-type]

    class TinyQuantizer(HfQuantizer):
        requires_calibration = False
        is_trainable = False

        def is_serializable(self, **options: Any) -> bool:
            return True

    monkeypatch.setitem(auto.AUTO_QUANTIZATION_CONFIG_MAPPING, "tiny", TinyConfig)
    monkeypatch.setitem(auto.AUTO_QUANTIZER_MAPPING, "tiny", TinyQuantizer)


def keep(cache: Path, name: str, directory: Path, commit: str = "0123abc") -> None:
    """Put the files of a directory into a cache of the hub."""
    entry = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(directory, entry / "snapshots" / commit)
    (entry / "refs").mkdir(exist_ok=True)
    (entry / "refs" / "main").write_text(commit)
