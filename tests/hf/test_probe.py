"""The method is measured, and what is measured is right."""

from __future__ import annotations

import pytest
import tiny
import torch
import transformers

from specfuse_core import FusionEngine
from specfuse_core.errors import ModelLoadError
from specfuse_core.hf import probe
from specfuse_core.hf.probe import METHODS, choose_method, deviation
from specfuse_core.hf.rows import CroppedContext, PackedContext
from specfuse_core.hf.runner import Runner
from specfuse_core.hf.states import RereadContext, SnapshotContext

EXPECTED = {
    **dict.fromkeys(
        ("llama", "qwen2", "qwen3", "gpt_neox", "gpt2", "phi", "smollm3"), "packed-full"
    ),
    "mistral": "packed-window",
    "gemma2": "packed-both",
    "gemma3": "packed-both",
    "bloom": "cropped",
    "mamba": "stepwise",
    "mamba2": "snapshot",
    "lfm2": "snapshot",
}
#: What is plainly wrong, not just rounded.
WRONG = 0.02


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_each_architecture_gets_the_fastest_method_that_is_right(architecture: str) -> None:
    runner = Runner(tiny.model(architecture))
    method = choose_method(runner)
    assert method == EXPECTED[architecture]
    assert deviation(runner, METHODS[method]) < 5e-4


def test_the_methods_are_what_their_names_say() -> None:
    runner = Runner(tiny.model("llama"))
    kinds = {name: type(make(runner, 0)) for name, make in METHODS.items()}
    assert kinds == {
        "packed-both": PackedContext,
        "packed-window": PackedContext,
        "packed-full": PackedContext,
        "cropped": CroppedContext,
        "snapshot": SnapshotContext,
        "stepwise": SnapshotContext,
        "reread": RereadContext,
    }


@pytest.mark.parametrize(
    ("architecture", "method"),
    [
        ("mistral", "packed-full"),
        ("gemma2", "packed-full"),
        ("gemma2", "packed-window"),
        ("gemma3", "packed-full"),
        ("gemma3", "packed-window"),
        ("mamba", "snapshot"),
    ],
)
def test_a_method_that_is_silently_wrong_is_measured_as_wrong(
    architecture: str, method: str
) -> None:
    found = deviation(Runner(tiny.model(architecture)), METHODS[method])
    assert WRONG < found < float("inf")


@pytest.mark.parametrize(
    ("architecture", "method"),
    [("bloom", "packed-full"), ("mamba", "cropped"), ("lfm2", "cropped"), ("llama", "packed-both")],
)
def test_a_method_that_a_model_refuses_is_infinitely_wrong(architecture: str, method: str) -> None:
    assert deviation(Runner(tiny.model(architecture)), METHODS[method]) == float("inf")


@pytest.mark.parametrize("architecture", ["mistral", "gemma2", "gemma3"])
def test_a_window_longer_than_the_scene_is_shrunk_while_it_is_played(architecture: str) -> None:
    runner = Runner(tiny.model(architecture, sliding_window=4096))
    assert choose_method(runner) == EXPECTED[architecture]
    assert runner.window == runner.model.config.sliding_window == 4096
    assert deviation(runner, METHODS["packed-full"]) > WRONG
    assert runner.window == 4096


def test_the_window_is_restored_when_the_scene_breaks_off() -> None:
    runner = Runner(tiny.model("mistral", sliding_window=4096))
    seen = []

    def broken(runner: Runner, capacity: int) -> PackedContext:
        seen.append(runner.window)
        raise MemoryError

    with pytest.raises(MemoryError):
        deviation(runner, broken)
    assert seen == [probe._WINDOW]
    assert runner.window == 4096


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (
            "GPTNeoConfig",
            {
                "hidden_size": 32,
                "num_layers": 2,
                "num_heads": 4,
                "attention_types": [[["global", "local"], 1]],
                "window_size": 64,
                "max_position_embeddings": 512,
            },
        ),
        (
            "Llama4TextConfig",
            {
                **tiny._SMALL,
                "attention_chunk_size": 64,
                "num_local_experts": 2,
                "intermediate_size_mlp": 64,
                "layer_types": ["chunked_attention", "full_attention", "chunked_attention"],
            },
        ),
    ],
    ids=["gpt_neo", "llama4"],
)
def test_local_attention_that_cannot_be_shrunk_is_not_packed(
    name: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packing is right within the window that the scene sees, and wrong beyond it."""
    monkeypatch.setitem(tiny.ARCHITECTURES, name, (name, options))
    runner = Runner(tiny.model(name))
    method = choose_method(runner)
    assert method == "cropped"
    assert deviation(runner, METHODS["packed-full"]) < 5e-4
    monkeypatch.setattr(probe, "_PREFIX", 120)
    assert deviation(runner, METHODS["packed-full"]) > WRONG
    assert deviation(runner, METHODS[method]) < 5e-4


@pytest.mark.parametrize(
    "architecture", ["llama", "mistral", "gemma2", "gemma3", "gpt2", "gpt_neox", "phi", "bloom"]
)
def test_eager_attention_takes_the_same_method(architecture: str) -> None:
    runner = Runner(tiny.model(architecture, attn_implementation="eager"))
    assert runner.model.config._attn_implementation == "eager"
    assert choose_method(runner) == EXPECTED[architecture]


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma3", "gpt2", "lfm2"])
def test_half_precision_takes_the_same_method(architecture: str) -> None:
    runner = Runner(tiny.model(architecture).bfloat16())
    assert choose_method(runner) == EXPECTED[architecture]


@pytest.mark.parametrize("architecture", ["mistral", "gemma3"])
def test_half_precision_does_not_excuse_a_wrong_mask(architecture: str) -> None:
    runner = Runner(tiny.model(architecture).bfloat16())
    assert deviation(runner, METHODS["packed-full"]) > probe._tolerance(runner)


def test_a_model_whose_methods_all_fail_is_read_again_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = Runner(tiny.model("llama"))
    monkeypatch.setattr(probe, "deviation", lambda runner, method: float("inf"))
    assert choose_method(runner) == "reread"


def test_weights_that_are_not_numbers_are_refused_by_name() -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    engine = FusionEngine.from_models([(model, tokenizer)], names=["broken"], progress=False)
    with pytest.raises(ModelLoadError, match=r"'broken'.*no finite logits; check that the weights"):
        engine.warm_up()


def test_a_model_that_cannot_run_at_all_is_refused_by_name() -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel")
    model.lm_head = torch.nn.Linear(7, 7)
    engine = FusionEngine.from_models([(model, tokenizer)], names=["broken"], progress=False)
    with pytest.raises(ModelLoadError, match=r"'broken'.*cannot run a plain forward pass"):
        engine.generate("a")


def test_probing_leaves_the_model_as_it_was() -> None:
    for architecture in ("gemma3", "lfm2", "bloom"):
        model = tiny.model(architecture)
        config = model.config.to_dict()
        ids = torch.tensor([[7, 8, 9]])
        with torch.inference_mode():
            before = model(input_ids=ids).logits
            choose_method(Runner(model))
            assert torch.equal(model(input_ids=ids).logits, before)
        assert model.config.to_dict() == config


def test_transformers_names_are_still_what_the_probe_reads() -> None:
    """The config attributes that tell of windows."""
    assert transformers.Gemma3TextConfig(layer_types=["sliding_attention"] * 26).sliding_window
    assert transformers.GPTNeoConfig().window_size
    assert transformers.Llama4TextConfig().attention_chunk_size
