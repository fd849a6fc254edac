"""The probe chooses a correct method for each model."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
import transformers
from transformers import PreTrainedModel

from specfuse_core import FusionEngine
from specfuse_core.errors import ModelLoadError
from specfuse_core.hf import probe
from specfuse_core.hf.probe import METHODS, choose_method, deviation
from specfuse_core.hf.rows import CroppedContext, PackedContext
from specfuse_core.hf.runner import Runner
from specfuse_core.hf.states import RereadContext, SnapshotContext

EXPECTED = {
    **dict.fromkeys(
        ("llama", "qwen2", "qwen3", "gpt_neox", "gpt2", "phi", "phi3", "smollm3"), "packed-full"
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
    choice = choose_method(runner)
    assert choice.method == EXPECTED[architecture]
    assert not choice.slow
    faster = list(METHODS)[: list(METHODS).index(choice.method)]
    assert [*choice.failures] == [name for name in faster if _is_tried(runner, name)]
    assert deviation(runner, METHODS[choice.method]) < 5e-4


def _is_tried(runner: Runner, method: str) -> bool:
    return runner.window is not None or method not in ("packed-both", "packed-window")


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
def test_a_method_that_a_model_refuses_is_an_error(architecture: str, method: str) -> None:
    with pytest.raises(probe._REFUSALS):
        deviation(Runner(tiny.model(architecture)), METHODS[method])


@pytest.mark.parametrize("architecture", ["mistral", "gemma2", "gemma3"])
def test_a_window_longer_than_the_scene_is_shrunk_while_it_is_played(architecture: str) -> None:
    runner = Runner(tiny.model(architecture, sliding_window=4096))
    assert choose_method(runner).method == EXPECTED[architecture]
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
                "layer_types": ["chunked_attention", "full_attention"],
            },
        ),
    ],
    ids=["gpt_neo", "llama4"],
)
def test_local_attention_that_cannot_be_shrunk_is_not_packed(
    name: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packing is correct within the window of the test sequence, and wrong beyond it."""
    monkeypatch.setitem(tiny.ARCHITECTURES, name, (name, options))
    runner = Runner(tiny.model(name))
    choice = choose_method(runner)
    method = choice.method
    assert method == "cropped"
    assert choice.failures == {"packed-full": "its local attention cannot be expressed by masks"}
    assert not choice.slow
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
    assert choose_method(runner).method == EXPECTED[architecture]


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma3", "gpt2", "lfm2"])
def test_half_precision_takes_the_same_method(architecture: str) -> None:
    runner = Runner(tiny.model(architecture).bfloat16())
    assert choose_method(runner).method == EXPECTED[architecture]


@pytest.mark.parametrize("architecture", ["mistral", "gemma3"])
def test_half_precision_does_not_excuse_a_wrong_mask(architecture: str) -> None:
    runner = Runner(tiny.model(architecture).bfloat16())
    assert deviation(runner, METHODS["packed-full"]) > probe._tolerance(runner)


def test_a_model_whose_methods_all_fail_is_read_again_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = Runner(tiny.model("llama"))
    monkeypatch.setattr(probe, "deviation", lambda runner, method: float("inf"))
    choice = choose_method(runner)
    assert (choice.method, choice.slow) == ("reread", True)
    wrong = "log-probabilities are off by inf, more than 0.0005"
    assert choice.failures == dict.fromkeys(
        ("packed-full", "cropped", "snapshot", "stepwise"), wrong
    )


#: The slowest method that is no reason for a warning.
NEEDED = {
    "llama": "packed-full",
    "gemma3": "packed-full",
    "bloom": "cropped",
    "mamba": "stepwise",
    "lfm2": "stepwise",
}


@pytest.mark.parametrize("architecture", NEEDED)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_slow_if_it_is_slower_than_a_model_of_the_kind_needs(
    architecture: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(tiny.model(architecture))
    right = METHODS[method]
    monkeypatch.setattr(probe, "_worth_trying", lambda runner: [*METHODS][:-1])
    monkeypatch.setattr(probe, "deviation", lambda runner, method: float(method is not right))
    choice = choose_method(runner)
    order = [*METHODS]
    assert choice.method == method
    assert choice.slow == (order.index(method) > order.index(NEEDED[architecture]))


def test_alibi_is_no_reason_for_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "alibi": True,
    }
    monkeypatch.setitem(tiny.ARCHITECTURES, "falcon", ("FalconConfig", options))
    choice = choose_method(Runner(tiny.model("falcon")))
    assert (choice.method, choice.slow) == ("cropped", False)


class Renamed(torch.nn.Module):
    """A model that accepts its cache by one name and returns it by another."""

    def __init__(self, model: PreTrainedModel, taken: str, given: str) -> None:
        super().__init__()
        self.config, self.device, self.dtype = model.config, model.device, model.dtype
        known = [*inspect.signature(model.forward).parameters]
        (inner,) = {"cache", "past_key_values", "cache_params"} & {*known}

        def forward(input_ids: torch.Tensor, **options: Any) -> SimpleNamespace:
            if taken in options:
                options[inner] = options.pop(taken)
            output = model(input_ids=input_ids, **options)
            cache = output[inner] if options["use_cache"] else None
            return SimpleNamespace(logits=output.logits, **{given: cache})

        names = [taken if name == inner else name for name in known if name != "kwargs"]
        named = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
        forward.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
        self.forward = forward


def runner_of(model: Any) -> Runner:
    return Runner(model, onednn=False)


NAMES = ("cache", "past_key_values", "cache_params")
EITHER = "cache or past_key_values or cache_params"


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "mamba2", "lfm2"])
@pytest.mark.parametrize("taken", NAMES)
@pytest.mark.parametrize("given", NAMES)
def test_the_cache_is_found_under_each_name_that_it_had(
    architecture: str, taken: str, given: str
) -> None:
    runner = runner_of(Renamed(tiny.model(architecture), taken, given))
    assert choose_method(runner).method == EXPECTED[architecture]


def test_a_model_that_takes_its_cache_under_an_unknown_name_is_slow_and_why_is_said() -> None:
    choice = choose_method(runner_of(Renamed(tiny.model("llama"), "memory", "cache")))
    assert (choice.method, choice.slow) == ("reread", True)
    refused = f"TypeError: the forward pass has no argument {EITHER}"
    assert choice.failures == dict.fromkeys(
        ("packed-full", "cropped", "snapshot", "stepwise"), refused
    )


def test_a_cache_that_is_not_given_back_is_missed_only_where_the_model_makes_it() -> None:
    choice = choose_method(runner_of(Renamed(tiny.model("llama"), "cache", "memory")))
    assert (choice.method, choice.slow) == ("packed-full", False)
    choice = choose_method(runner_of(Renamed(tiny.model("mamba"), "cache", "memory")))
    assert (choice.method, choice.slow) == ("reread", True)
    missing = f"TypeError: the output of the forward pass has no field {EITHER}"
    assert choice.failures["snapshot"] == choice.failures["stepwise"] == missing


class PeftLike(torch.nn.Module):
    """Like PEFT's wrappers: some arguments by name, the rest passed on."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.base_model = model
        self.config, self.device, self.dtype = model.config, model.device, model.dtype

    def get_base_model(self) -> PreTrainedModel:
        return self.base_model

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **kwargs: Any) -> Any:
        return self.base_model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)


class ParallelLike(torch.nn.Module):
    """Like data-parallel wrappers: everything is passed on."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module
        self.config, self.device, self.dtype = module.config, module.device, module.dtype

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


class HubCode(PreTrainedModel):
    """Like code of a hub repository that passes everything on to the model it holds."""

    base_model_prefix = "inside"
    _supports_sdpa = True

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model.config)
        self.inside = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inside(*args, **kwargs)


WRAPPERS: dict[str, Any] = {
    "PEFT": PeftLike,
    "parallel": ParallelLike,
    "hub code": HubCode,
    "PEFT in parallel": lambda model: ParallelLike(PeftLike(model)),
    "compiled": lambda model: torch.compile(model, disable=True),
}


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "bloom", "mamba2"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_does_not_change_the_method(architecture: str, wrapper: str) -> None:
    runner = Runner(WRAPPERS[wrapper](tiny.model(architecture)))
    assert choose_method(runner).method == EXPECTED[architecture]


def test_the_signature_of_a_compiled_model_is_found() -> None:
    compiled: Any = torch.compile(tiny.model("llama"), backend="eager")
    assert Runner(compiled, onednn=False).takes_trees


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
    """The attributes of configurations that describe windows."""
    assert transformers.Gemma3TextConfig(layer_types=["sliding_attention"] * 26).sliding_window
    assert transformers.GPTNeoConfig().window_size
    assert transformers.Llama4TextConfig().attention_chunk_size
