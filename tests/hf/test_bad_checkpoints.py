"""Checkpoints that do not fit their configuration, their tokenizer or the machine are refused."""

from __future__ import annotations

import gc
import json
import re
import weakref
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from specfuse_core import FusionEngine, ModelConfig
from specfuse_core.errors import ModelLoadError, NoWeightsError
from specfuse_core.hf import loading, placement, shapes
from specfuse_core.hf.placement import free_memory

#: The vocabulary of the saved model.
SIZE = len(tiny.tokenizer("bytelevel"))


def describe(folder: Path, file: str = "config.json", **changes: Any) -> None:
    described = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**described, **changes}))


def refusal(*models: Any) -> str:
    """Return the error when models are loaded, from a directory or from a pair of objects."""
    make = (
        FusionEngine.from_models if isinstance(models[0], tuple) else FusionEngine.from_pretrained
    )
    with pytest.raises(ModelLoadError) as caught:
        make(list(models), progress=False, warm_up=True)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"hidden_size": 10**6, "intermediate_size": 10**6},
            r"config\.json describes a model of \d,\d{3},\d{3},\d{3},\d{3} parameters "
            r"\([\d,.]+ GB\), but the weights have only 0\.\d MB; check that config\.json belongs",
        ),
        ({"vocab_size": 10**9}, r"config\.json describes a model of 64,\d{3},\d{3},\d{3} param"),
        ({"num_hidden_layers": 10**6}, r"describes a model of 1,000,000 layers; check the file"),
    ],
)
def test_an_absurd_configuration_is_refused_before_memory_is_allocated(
    saved: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int], told: str
) -> None:
    describe(saved, **changes)
    # The machine has enough memory.
    monkeypatch.setattr(shapes, "free_memory", lambda device: 10**18)
    monkeypatch.setattr("specfuse_core.hf.loading.check_complete", pytest.fail)
    message = refusal(saved)
    assert re.search(told, message), message
    assert message.startswith(f"{str(saved)!r}: ")


def test_weights_in_another_form_do_not_count_for_the_size(saved: Path) -> None:
    """Some repositories have the weights twice, in files that transformers does not load."""
    (saved / "consolidated.safetensors").write_bytes(b"\0" * 10**7)
    describe(saved, hidden_size=256, intermediate_size=512, num_hidden_layers=1)
    assert "but the weights have only 0.3 MB" in refusal(saved)


def test_a_model_that_is_larger_than_the_free_memory_is_refused(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = sum(weight.numel() for weight in tiny.model("llama", SIZE).parameters())
    monkeypatch.setattr(shapes, "free_memory", lambda device: count * 4 - 1)
    assert re.search(
        rf"saved': the model has {count:,} parameters and needs 0\.\d MB in float32, but only "
        r"0\.\d MB are free on 'cpu'; use a smaller dtype, a quantization_config",
        refusal(ModelConfig(path=saved, device="cpu")),
    )
    monkeypatch.setattr(shapes, "free_memory", lambda device: count * 4)
    for config in (
        ModelConfig(path=saved, device="cpu"),
        ModelConfig(path=saved, device="cpu", dtype="bfloat16"),
    ):
        assert FusionEngine.from_pretrained([config], progress=False, warm_up=True)


def test_the_free_memory_is_the_least_that_host_and_container_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, limit, used = tmp_path / "meminfo", tmp_path / "max", tmp_path / "current"
    parts = tmp_path / "stat"
    host.write_text("MemTotal: 9 kB\nMemAvailable:   6 kB\nSwapFree:  1 kB\n")
    limit.write_text("5000\n")
    used.write_text("2000\n")
    # The cache of files makes room for a model.
    parts.write_text("anon 1400\nfile 600\nshmem 100\ninactive_file 300\nactive_file 200\n")
    monkeypatch.setattr(placement, "_MEMINFO", host)
    monkeypatch.setattr(placement, "_LIMITS", ((limit, used, parts),))
    cpu = torch.device("cpu")
    assert free_memory(cpu) == 3500
    limit.write_text("max\n")
    assert free_memory(cpu) == 7 * 1024
    host.unlink()
    assert free_memory(cpu) is None
    assert free_memory(torch.device("meta")) is None


def test_weights_of_other_shapes_are_refused(saved: Path) -> None:
    describe(saved, intermediate_size=62)
    assert (
        "saved': 6 weights do not have the shape that config.json describes. The first is "
        "'model.layers.0.mlp.down_proj.weight': 32 x 64 in the files, 32 x 62 by config.json; "
        "check that they belong together."
    ) in refusal(saved)


def test_layers_without_weights_are_refused(saved: Path) -> None:
    (saved / "model.safetensors").rename(saved / "part.safetensors")
    model = tiny.model("llama", SIZE)
    kept = {name: each for name, each in model.state_dict().items() if ".layers.1." not in name}
    model.save_pretrained(saved, state_dict=kept)
    with pytest.raises(
        NoWeightsError, match=r"9 weights are missing, the first is 'model\.layers\.1"
    ):
        FusionEngine.from_pretrained([saved], progress=False, warm_up=True)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "alien"}, "check model_type in config.json, or upgrade transformers (this"),
        ({"model_type": "vit"}, "type 'vit' is not a language model that transformers"),
        ({"hidden_size": "many"}, "Field 'hidden_size' expected int"),
        ({"num_attention_heads": 0}, "the weights could not be loaded"),
    ],
)
def test_a_configuration_that_describes_no_language_model_is_refused(
    saved: Path, changes: dict[str, object], told: str
) -> None:
    describe(saved, **changes)
    message = refusal(saved)
    assert told in message
    assert message.startswith(f"{str(saved)!r}: ")


@pytest.mark.parametrize("ends", [90_000, [5, 90_000], [-1]])
def test_an_end_token_outside_of_the_vocabulary_is_refused(saved: Path, ends: object) -> None:
    describe(saved, "generation_config.json", eos_token_id=ends)
    outside = [-1] if ends == [-1] else [90_000]
    assert (
        f"the end-of-turn ids {outside} are outside of the model's vocabulary of {SIZE} ids; "
        "correct eos_token_id in generation_config.json, or load the tokenizer that belongs to the "
        "model."
    ) in refusal(saved)


def test_a_tokenizer_that_is_larger_than_the_vocabulary_is_refused(saved: Path) -> None:
    tiny.tokenizer("metaspace").save_pretrained(saved)
    assert re.search(
        rf"'saved': the tokenizer gives ids up to \d+, but the model's vocabulary has only {SIZE} "
        "ids; load the tokenizer that belongs to the model",
        refusal(saved),
    )


def test_the_weights_of_a_model_that_failed_are_freed_while_its_error_is_kept(saved: Path) -> None:
    describe(saved, "generation_config.json", eos_token_id=90_000)
    made: list[weakref.ref[Any]] = []
    load = loading._weights

    def watched(config: ModelConfig) -> Any:
        model = load(config)
        made.append(weakref.ref(model))
        return model

    with pytest.MonkeyPatch.context() as patch, pytest.raises(ModelLoadError) as caught:
        patch.setattr(loading, "_weights", watched)
        FusionEngine.from_pretrained([saved], progress=False, warm_up=True)
    gc.collect()
    assert [each() for each in made] == [None]
    assert caught.value.__traceback__ is not None


@pytest.mark.parametrize(("id_", "shown"), [(890, "no token"), (70, "'a'")])
def test_a_tokenizer_that_lacks_the_models_end_token_is_refused(id_: int, shown: str) -> None:
    model, tokenizer = tiny.model("llama", 900), tiny.tokenizer("bytelevel")
    model.generation_config.eos_token_id = id_
    assert (
        f"none of the model's end-of-turn ids ends a turn in the tokenizer: {id_} ({shown}); load "
        "the tokenizer that belongs to the model, or correct eos_token_id in "
        "generation_config.json."
    ) in refusal((model, tokenizer))
    # One of them is enough.
    model.generation_config.eos_token_id = [5, id_]
    FusionEngine.from_models([(model, tokenizer)], progress=False, warm_up=True)


@pytest.mark.parametrize("unknown", [None, "<unk>"])
def test_a_tokenizer_without_tokens_for_text_is_refused(unknown: str | None) -> None:
    """transformers makes such a tokenizer if the files of the tokenizer are missing."""
    vocabulary = {"<|end|>": 0} if unknown is None else {"<|end|>": 0, unknown: 1}
    own = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(BPE(vocabulary, [], unk_token=unknown)),
        eos_token="<|end|>",
        unk_token=unknown,
    )
    model = tiny.model("llama", SIZE)
    model.generation_config.eos_token_id = 0
    assert refusal((model, own)).endswith(
        ": the tokenizer has no tokens for ordinary text, as if its files were missing; put "
        "tokenizer.json into the model's directory, or set ModelConfig(tokenizer=...)."
    )


def test_a_line_break_may_end_a_turn() -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel")
    model.generation_config.eos_token_id = tokenizer.encode("\n")[0]
    FusionEngine.from_models([(model, tokenizer)], progress=False, warm_up=True)


def test_an_error_names_the_model_even_if_the_name_is_part_of_a_word(tmp_path: Path) -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel")
    model.generation_config.eos_token_id = 90_000
    with pytest.raises(ModelLoadError, match=r"^'eos': the end-of-turn ids"):
        FusionEngine.from_models([(model, tokenizer)], names=["eos"], warm_up=True)


def test_a_tokenizer_with_control_tokens_that_the_model_lacks_is_taken() -> None:
    """Some tokenizers have tokens for training that the model has no embedding for."""
    tokenizer = tiny.tokenizer("bytelevel")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|unused|>"]})
    pair = (tiny.model("llama", SIZE), tokenizer)
    fused = FusionEngine.from_models([pair], progress=False)
    assert fused.generate("Is <|unused|> a lamp?", max_new_tokens=8).rounds


def test_a_template_that_needs_tools_does_not_prevent_loading() -> None:
    template = "{% if not tools %}{{ raise_exception('no tools') }}{% endif %}" + tiny.CHATML
    pair: tuple[Any, PreTrainedTokenizerFast] = tiny.pair("llama", "bytelevel", template=template)
    assert FusionEngine.from_models([pair], progress=False, warm_up=True).backends[0].ready


def test_a_vocabulary_that_is_larger_than_the_embedding_is_refused() -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel")
    model.config.vocab_size = 2000
    assert (
        f"LlamaForCausalLM has a vocabulary of 2000 ids in its configuration, but its embedding "
        f"has only {SIZE} rows; set vocab_size to {SIZE}, or resize the embedding"
    ) in refusal((model, tokenizer))


def bidirectional() -> PreTrainedModel:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vocabulary = len(tiny.tokenizer("bytelevel"))
    config = transformers.BertConfig(vocab_size=vocabulary, intermediate_size=32, **sizes)
    torch.manual_seed(0)
    return transformers.BertLMHeadModel(config)


@pytest.mark.filterwarnings("ignore:If you want to use `BertLMHeadModel`")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_reads_in_both_directions_is_refused(dtype: torch.dtype) -> None:
    model = bidirectional()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)
    pair = (model.to(dtype), tiny.tokenizer("bytelevel"))
    assert re.search(r"is not a causal language model.*from left to right", refusal(pair))


def encoder_decoder() -> PreTrainedModel:
    config = transformers.T5Config(
        vocab_size=len(tiny.tokenizer("bytelevel")),
        d_model=32,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
    )
    return transformers.T5ForConditionalGeneration(config)


def test_an_encoder_decoder_model_is_refused_by_name_and_as_object(tmp_path: Path) -> None:
    model, tokenizer = encoder_decoder(), tiny.tokenizer("bytelevel")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for given in (tmp_path, (model, tokenizer)):
        assert re.search(r"is an encoder-decoder model \(t5\).*give a causal", refusal(given))
