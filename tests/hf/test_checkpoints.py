"""The forms of checkpoints and loaded objects that are taken, each with the answer it must give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoints
import huggingface_hub
import pytest
import tiny
import torch
import transformers
from accelerate import disk_offload

from specfuse_core import FusionEngine, ModelConfig
from specfuse_core.errors import InvalidOptionError, ModelLoadError
from specfuse_core.hf import LoadedModel, hub

QUESTION = "How many lamps are in the hall?"


def answer(fused: FusionEngine) -> str:
    return fused.generate(QUESTION, max_new_tokens=16).text


@pytest.fixture(scope="module")
def expected() -> str:
    """The answer of the tiny Llama."""
    return answer(FusionEngine.from_models([tiny.pair("llama", "bytelevel")], progress=False))


def loaded(**options: Any) -> FusionEngine:
    return FusionEngine.from_pretrained([ModelConfig(**options)], progress=False, warm_up=True)


def model_of(fused: FusionEngine) -> LoadedModel:
    model: LoadedModel = fused.backends[0].model  # type: ignore[attr-defined]
    return model


def test_an_image_text_model_answers_as_its_language_model(tmp_path: Path, expected: str) -> None:
    model, tokenizer = checkpoints.image_text_model()
    model.save_pretrained(tmp_path / "eyes")
    tokenizer.save_pretrained(tmp_path / "eyes")
    fused = loaded(path=tmp_path / "eyes")
    assert model_of(fused).method == "packed-full"
    assert answer(fused) == expected


@pytest.mark.parametrize("kind", ["mistral3", "qwen2_5_vl"])
def test_other_image_text_models_give_the_logits_of_transformers(kind: str, tmp_path: Path) -> None:
    model = checkpoints.other_image_text_model(kind)
    model.save_pretrained(tmp_path / kind)
    tiny.tokenizer("bytelevel").save_pretrained(tmp_path / kind)
    fused = loaded(path=tmp_path / kind)
    ids = [7, 8, 9, 100, 200]
    logits, _ = model_of(fused).runner.run(ids, use_cache=False)
    with torch.inference_mode():
        assert torch.allclose(logits, model(input_ids=torch.tensor([ids])).logits[0], atol=1e-4)
    assert model_of(fused).method.startswith("packed")
    assert answer(fused)


@pytest.mark.parametrize("form", ["field", "path"])
def test_a_gguf_file_has_its_weights_and_its_tokenizer(
    tmp_path: Path, expected: str, form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model = checkpoints.save_gguf(tmp_path / "tiny.gguf")
    capfd.readouterr()
    named = {
        "field": ModelConfig(path=tmp_path, gguf_file="tiny.gguf"),
        "path": tmp_path / "tiny.gguf",
    }
    fused = FusionEngine.from_pretrained([named[form]], progress=False)
    assert fused.models == ("tiny",)
    weights = model_of(fused).runner.model.state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(weights[name], weight), name
    assert capfd.readouterr() == ("", "")
    assert answer(fused) == expected


def test_a_gguf_file_on_the_hub_needs_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []

    def ask(url: str, token: str | None) -> None:
        asked.append((url.partition("/resolve/main/")[2], token))
        raise ConnectionError("down")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "_ask", ask)
    with pytest.raises(ModelLoadError, match=r"which could not be reached\..*\[down\]"):
        loaded(path="nobody/none", gguf_file="q8.gguf", token="hf_secret")
    assert asked == [("q8.gguf", "hf_secret")]


def test_a_gguf_file_without_the_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("specfuse_core.hf.loading.find_spec", lambda name: None)
    with pytest.raises(ModelLoadError, match=r"install it with: pip install 'specfuse\[gguf\]'"):
        loaded(path=tmp_path, gguf_file="tiny.gguf")


def test_a_gguf_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelLoadError, match=r"no file 'q8\.gguf'; its GGUF files: tiny\.gguf\."):
        loaded(path=tmp_path, gguf_file="q8.gguf")
    with pytest.raises(ModelLoadError, match=r"no config\.json; .* gguf_file: tiny\.gguf\."):
        loaded(path=tmp_path)


def test_a_tokenizer_can_be_stored_elsewhere(saved: Path, tmp_path: Path, expected: str) -> None:
    (tmp_path / "words").mkdir()
    for file in [*saved.glob("token*"), *saved.glob("chat*")]:
        file.rename(tmp_path / "words" / file.name)
    with pytest.raises(
        ModelLoadError, match=r"the tokenizer could not be loaded.*, tokenizer=\.\."
    ):
        loaded(path=saved)
    assert answer(loaded(path=saved, tokenizer=tmp_path / "words")) == expected


def test_max_memory_spreads_the_weights(saved: Path, expected: str) -> None:
    fused = loaded(path=saved, max_memory={"cpu": 200_000})
    assert set(model_of(fused).runner.model.hf_device_map.values()) == {"cpu", "disk"}
    assert answer(fused) == expected
    with pytest.raises(InvalidOptionError, match="device and max_memory were both given"):
        ModelConfig(path="a", device="cpu", max_memory={"cpu": "1GiB"})


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16", "torch.bfloat16", "bf16"])
def test_a_dtype_can_be_given_in_several_forms(dtype: object) -> None:
    assert ModelConfig(path="a", dtype=dtype).dtype == "bfloat16"


def test_a_token_is_not_shown() -> None:
    config = ModelConfig(path="org/private", token="hf_secret", adapter="org/adapter")
    assert "hf_secret" not in repr(config) + str(config) + config.model_dump_json()
    assert config.token is not None
    assert config.token.get_secret_value() == "hf_secret"
    assert config.adapter_source is not None
    assert config.adapter_source.token == config.token
    with pytest.raises(InvalidOptionError) as caught:
        ModelConfig(path="org/private", token=["hf_secret"])
    assert str(caught.value) == "token is not valid: give a string."


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_quantized_float16_checkpoint_runs_on_a_cpu(
    saved: Path, monkeypatch: pytest.MonkeyPatch, device: str | None
) -> None:
    """transformers does not convert quantized weights to another dtype."""
    checkpoints.register_quantizer(monkeypatch)
    description = json.loads((saved / "config.json").read_text())
    model = tiny.model("llama", description["vocab_size"]).half()
    model.save_pretrained(saved)
    description |= {"dtype": "float16", "quantization_config": {"quant_method": "tiny"}}
    (saved / "config.json").write_text(json.dumps(description))
    fused = loaded(path=saved, device=device)
    assert model_of(fused).runner.is_quantized
    assert model_of(fused).runner.dtype == torch.float16
    assert answer(fused)


def test_a_model_whose_weights_are_on_disk_answers(tmp_path: Path, expected: str) -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel")
    disk_offload(model, str(tmp_path), execution_device=torch.device("cpu"))
    assert model.device.type == "meta"
    fused = FusionEngine.from_models([(model, tokenizer)], progress=False)
    assert answer(fused) == expected


def test_a_pipeline_is_taken_as_its_model_and_tokenizer(expected: str) -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel")
    pipe = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)
    assert answer(FusionEngine.from_models([pipe], progress=False)) == expected
