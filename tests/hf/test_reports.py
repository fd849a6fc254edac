"""Reports of local models: what their files say, what is known after loading, what goes wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from adapters import TARGETS, adapted, lora
from huggingface_hub.hf_api import ModelInfo

from specfuse_core import FusionEngine, ModelConfig, ModelReport, WeightsReport
from specfuse_core.hf import LoadedModel, LocalBackend, Runner, hub, template_of
from specfuse_core.hf.probe import MethodChoice
from specfuse_core.models import load
from specfuse_core.models.stored import stored_counts, stored_template, stored_weights


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and its tokenizer, as save_pretrained writes them."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    model, tokenizer = tiny.pair("llama", "bytelevel")
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def reported(config: Path | ModelConfig) -> ModelReport:
    (report,) = FusionEngine.from_pretrained([config], progress=False).report()
    return report


def adopted(architecture: str, family: str, template: str | None = tiny.CHATML) -> ModelReport:
    pair = tiny.pair(architecture, family, template=template)
    (report,) = FusionEngine.from_models([pair], names=["m"]).report()
    return report


# What is known of a loaded model


def test_a_saved_model_is_described(saved: Path) -> None:
    report = reported(ModelConfig(path=str(saved), name="one", device="cpu"))
    tokens = len(tiny.tokenizer("bytelevel"))
    assert (report.name, report.path, report.error) == ("one", str(saved), "")
    assert (report.context_window, report.template_source) == (512, "model")
    assert (report.method, report.failures, report.slow) == ("packed-full", {}, False)
    assert (report.ends, report.ordinary_ends) == (("<|im_end|>",), ())
    assert report.tokenizer is not None
    assert report.tokenizer.kind == "byte-level BPE"
    assert report.tokenizer.tokens == report.vocabulary == tokens
    assert report.tokenizer.unconstrained == ""
    assert report.template is not None
    assert report.template.calls == "instruction"
    assert report.seconds is not None
    assert 0 < report.seconds < 60
    assert report.fits


def test_the_memory_that_is_announced_is_the_memory_that_is_used(saved: Path) -> None:
    config = ModelConfig(path=str(saved), device="cpu")
    free = load.free_memory(torch.device("cpu"))
    announced = stored_weights(config, stored_counts(config), "cpu", free)
    used = reported(config).weights
    assert announced is not None
    assert used is not None
    assert free is not None
    assert used.free is not None
    assert used.dtype == "float32"  # the files have float16
    assert replace(announced, free=None) == replace(used, free=None)
    assert used.size == 4 * (used.parameters or 0)
    assert free / 2 < used.free < free * 2


@pytest.mark.parametrize(
    ("architecture", "family", "method", "kind", "window"),
    [
        ("mistral", "metaspace", "packed-window", "BPE with byte fallback", 512),
        ("mamba", "unigram", "stepwise", "Unigram", None),
        ("bloom", "wordpiece", "cropped", "WordPiece", None),
    ],
)
def test_models_of_each_kind(
    architecture: str, family: str, method: str, kind: str, window: int | None
) -> None:
    report = adopted(architecture, family)
    assert report.tokenizer is not None
    assert (report.method, report.tokenizer.kind) == (method, kind)
    assert (report.context_window, report.path, report.slow) == (window, None, False)
    assert report.weights is not None
    assert (report.weights.free, report.weights.device) == (None, "cpu")
    assert bool(report.failures) == (not method.startswith("packed"))
    assert report.fits


def test_a_model_without_a_template_is_noted() -> None:
    report = adopted("llama", "bytelevel", template=None)
    assert report.template_source == "none"
    assert any("no chat template" in note for note in report.notes)


def test_a_template_of_the_configuration_is_named(saved: Path) -> None:
    config = ModelConfig(path=str(saved), device="cpu", chat_template=tiny.STRICT)
    assert reported(config).template_source == "config"


def test_an_end_token_that_is_ordinary_text_is_noted() -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel")
    letter = tokenizer.convert_tokens_to_ids("a")
    model.generation_config.eos_token_id = [letter, 5]
    (report,) = FusionEngine.from_models([(model, tokenizer)]).report()
    assert (set(report.ends), report.ordinary_ends) == ({"a", "<|im_end|>"}, ("a",))


def test_a_report_of_a_loaded_model_does_not_load_it_again(saved: Path) -> None:
    engine = FusionEngine.from_pretrained([ModelConfig(path=str(saved), device="cpu")])
    (first,), (second,) = engine.report(), engine.report()
    assert first.weights is not None
    assert second == replace(first, weights=replace(first.weights, free=None))


def test_a_slow_model_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel")
    loaded = LoadedModel(Runner(model), "cropped")
    monkeypatch.setattr(loaded, "_choice", MethodChoice("cropped", {"packed-full": "off"}, True))
    backend = LocalBackend("m", lambda: (loaded, template_of(model, tokenizer)))
    report = backend.report()
    assert (report.slow, report.fits, report.failures) == (True, False, {"packed-full": "off"})


def test_adapters_share_the_memory_of_their_base(saved: Path, tmp_path: Path) -> None:
    base, _ = tiny.pair("llama", "bytelevel")
    base.name_or_path = str(saved)
    adapted(base, lora(TARGETS["llama"]), 1).save_pretrained(tmp_path / "tuned")
    config = ModelConfig(path=str(saved), device="cpu")
    other = config.replace(adapter=str(tmp_path / "tuned"))
    first, second = FusionEngine.from_pretrained([config, other]).report()
    assert (first.adapter, second.adapter) == (None, str(tmp_path / "tuned"))
    assert (second.name, second.error) == ("tuned", "")
    assert first.weights is not None
    assert second.weights is not None
    assert first.weights.free is not None
    assert second.weights.free is None
    assert (second.weights.parameters or 0) > (first.weights.parameters or 0)


# What goes wrong


def break_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def break_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of"}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [(break_weights, "model.safetensors has "), (break_config, "unheard_of")],
)
def test_what_fails_is_a_part_of_the_report(
    copy: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(copy)
    report = reported(ModelConfig(path=str(copy), device="cpu"))
    assert said in report.error
    assert report.problems == (report.error,)
    assert report.weights is not None
    assert report.weights.parameters is not None
    assert report.context_window == 512
    assert (report.method, report.template) == (None, None)


def test_a_model_that_cannot_be_described_is_named(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def unreachable(url: str, token: str | None) -> None:
        raise OSError("no route")

    monkeypatch.setattr(hub, "_ask", unreachable)
    gone = reported(ModelConfig(path="org/gone"))
    assert (gone.name, gone.path) == ("gone", "org/gone")
    assert "no route" in gone.error
    nowhere = reported(ModelConfig(path=str(saved), device="cuda:77"))
    assert (nowhere.path, nowhere.fits) == (str(saved), False)
    assert "'cuda:77' is not available" in nowhere.error
    tuned = reported(ModelConfig(path=str(saved), adapter="org/none"))
    assert (tuned.path, tuned.adapter, tuned.fits) == (str(saved), "org/none", False)


def test_a_template_that_refuses_a_question_hides_nothing_else() -> None:
    report = adopted("llama", "bytelevel", "{{ raise_exception('closed today') }}")
    (problem,) = report.problems
    assert problem.startswith("the chat template refuses a question, a system message, ")
    assert "closed today" in problem
    assert (report.error, report.method) == ("", "packed-full")
    assert report.tokenizer is not None


def test_a_small_context_window_hides_nothing_else() -> None:
    tokenizer = tiny.tokenizer("bytelevel")
    model = tiny.model("llama", len(tokenizer), max_position_embeddings=8)
    (report,) = FusionEngine.from_models([(model, tokenizer)]).report()
    assert report.problems == (report.error,)
    assert re.fullmatch(
        rf"'{report.name}': the context window of 8 tokens is too small: the prompt for a question "
        r"of one letter has \d\d; check the window in config\.json \(max_position_embeddings\), or "
        r"use another model\.",
        report.error,
    )
    assert (report.context_window, report.method) == (8, "packed-full")


def test_an_error_of_a_model_is_a_part_of_the_report() -> None:
    def fails() -> Any:
        raise RuntimeError("no kernel image")

    report = LocalBackend("m", fails, 99).report()
    assert report == ModelReport("m", context_window=99, error="RuntimeError: no kernel image")
    assert report.traceback.startswith("Traceback (most recent call last)")
    assert 'raise RuntimeError("no kernel image")' in report.traceback


def test_a_device_that_is_not_there_is_a_part_of_the_report(saved: Path) -> None:
    report = reported(ModelConfig(path=str(saved), device="nowhere"))
    assert "the device 'nowhere' is not available" in report.error


def test_weights_larger_than_the_free_memory_are_not_loaded(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "free_memory", lambda device: 100_000)
    monkeypatch.setattr(load, "load_model", None)
    report = reported(ModelConfig(path=str(saved), device="cpu"))
    assert report.weights is not None
    assert report.weights.size > 100_000
    (problem,) = report.problems
    assert problem.startswith("the weights need ")
    assert (report.seconds, report.template_source) == (None, "model")


# What files say


def counted(folder: Path, **options: Any) -> WeightsReport | None:
    config = ModelConfig(path=str(folder), **options)
    return stored_weights(config, stored_counts(config), "cuda:0", 10**9)


def test_the_dtype_decides_the_memory(saved: Path) -> None:
    whole = counted(saved)
    assert whole is not None
    assert (whole.dtype, whole.device, whole.free) == ("float16", "cuda:0", 10**9)
    parameters = whole.parameters or 0
    assert whole.size == 2 * parameters
    sizes = {}
    for dtype in ("float32", "bfloat16", "torch.float64"):
        other = counted(saved, dtype=dtype)
        assert other is not None
        sizes[other.dtype] = other.size / parameters
    assert sizes == {"float32": 4, "bfloat16": 2, "float64": 8}


def test_weights_in_several_files_count_once(copy: Path) -> None:
    whole = counted(copy)
    shutil.copy(copy / "model.safetensors", copy / "consolidated.safetensors")
    assert counted(copy) == whole
    (copy / "model.safetensors").rename(copy / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys("ab", "model-00001-of-00001.safetensors")}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert counted(copy) == whole


def test_packed_weights_keep_their_size(tmp_path: Path) -> None:
    header = {
        "__metadata__": {},
        "q": {"dtype": "I32", "shape": [10, 10], "data_offsets": [0, 400]},
        "s": {"dtype": "F16", "shape": [10], "data_offsets": [400, 420]},
    }
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    assert counted(tmp_path) == WeightsReport(420, "float16", None, "cuda:0", 10**9)


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x02" + b"\0" * 7 + b"{}", b"\1\0"])
def test_damaged_weights_have_no_size(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert counted(tmp_path) is None


def test_where_a_template_is_stored(tmp_path: Path) -> None:
    config = ModelConfig(path=str(tmp_path))
    assert stored_template(config) == "none"
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert stored_template(config) == "model"
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert stored_template(config) == "model"
    assert stored_template(ModelConfig(path="no/such")) is None


def test_the_template_is_that_of_the_tokenizer(saved: Path, tmp_path: Path) -> None:
    assert stored_template(ModelConfig(path="no/such", tokenizer=str(saved))) == "model"
    assert stored_template(ModelConfig(path=str(saved), tokenizer=str(tmp_path))) == "none"
    config = ModelConfig(path=str(saved), gguf_file="model.gguf")
    assert (stored_template(config), stored_counts(config)) == (None, {})
    assert stored_template(config.replace(tokenizer=str(saved))) == "model"


def test_the_hub_tells_the_size_before_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(path: str, **options: Any) -> ModelInfo:
        assert (path, options["revision"], options["expand"]) == ("org/big", "v2", ["safetensors"])
        return ModelInfo(id=path, safetensors={"parameters": {"BF16": 70 * 10**9}, "total": 1})

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "model_info", ask)
    monkeypatch.setattr(load, "look_up", lambda config: None)
    monkeypatch.setattr(load, "free_memory", lambda device: 10**9)
    report = reported(ModelConfig(path="org/big", revision="v2", device="cpu"))
    assert report.problems == (
        "the weights need 140.0 GB, but only 1.0 GB are free on cpu; use a smaller dtype or "
        "another device",
    )


def test_a_hub_that_does_not_answer_is_no_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(path: str, **options: Any) -> ModelInfo:
        raise OSError("no route")

    monkeypatch.setattr(hub, "model_info", ask)
    assert hub.remote_counts(ModelConfig(path="org/big")) == {}
