"""PEFT models given to from_models: each runs with the adapters that are active in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import adapters
import peft
import pytest
import tiny
import torch
from adapters import IDS, QUESTION, SPECEM, close, logits, runner_of, same, two_over_one
from peft.tuners.tuners_utils import BaseTunerLayer

from specfuse_core import FusionEngine
from specfuse_core.errors import ModelLoadError
from specfuse_core.hf import Runner

# PEFT uses a name of transformers that is about to be dropped.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning"),
    pytest.mark.usefixtures("onednn_everywhere"),
]


@pytest.mark.parametrize(("dtype", "parallel"), [(torch.float32, True), (torch.bfloat16, False)])
def test_two_peft_models_over_one_base_run_each_with_its_own_adapter(
    dtype: torch.dtype, parallel: bool
) -> None:
    models, whole, tokenizer = two_over_one()
    # PEFT itself runs both with the adapter that was activated last.
    assert close(logits(models[0]), logits(whole[1]))
    flags = [weight.requires_grad for weight in models[0].parameters()]
    for model in models + whole:
        model.to(dtype)
    engine = FusionEngine.from_models(
        [(model, tokenizer) for model in models],
        SPECEM,
        names=["first", "second"],
        progress=False,
        parallel=parallel,
    )
    answer = engine.generate(QUESTION, max_new_tokens=12)
    assert any(len(set(played.candidates)) == 2 for played in answer.rounds)
    assert [weight.requires_grad for weight in models[0].parameters()] == flags
    assert all(str(backend.method).startswith("packed") for backend in engine.backends)
    if dtype == torch.float32:
        expected = FusionEngine.from_models(
            [(model, tokenizer) for model in whole], SPECEM, names=["first", "second"]
        )
        same(answer, expected.generate(QUESTION, max_new_tokens=12))


def test_two_peft_models_with_one_adapter_are_refused() -> None:
    models, _, tokenizer = two_over_one(("default", "default"))
    with pytest.raises(ModelLoadError) as caught:
        FusionEngine.from_models([(model, tokenizer) for model in models])
    assert str(caught.value) == (
        "model 1 and model 2 of from_models share one base model, in which both run with the "
        "adapter 'default'; load each adapter with a name of its own "
        "(PeftModel.from_pretrained(base, path, adapter_name=...)), or use "
        "from_pretrained([ModelConfig(path=..., adapter=...), ...])."
    )


def test_a_peft_model_beside_its_own_base_is_refused() -> None:
    models, _, tokenizer = two_over_one()
    base = models[1].get_base_model()
    other = tiny.pair("llama", "bytelevel")
    with pytest.raises(ModelLoadError, match=r"model 2 and model 3 .* adapter 'second'"):
        FusionEngine.from_models([other, (base, tokenizer), (models[1], tokenizer)])


def test_one_peft_model_given_twice_is_an_ensemble_with_itself() -> None:
    models, _, tokenizer = two_over_one()
    compiled = torch.compile(models[0], backend="eager")
    engine = FusionEngine.from_models([(models[0], tokenizer)] * 2, SPECEM, names=["x", "y"])
    answer = engine.generate(QUESTION, temperature=0.8, seed=1, max_new_tokens=12)
    assert engine.backends[0].model is engine.backends[1].model
    assert any(len(set(played.candidates)) == 2 for played in answer.rounds)
    FusionEngine.from_models([(models[0], tokenizer), (compiled, tokenizer)])


def test_a_copy_of_a_merged_model_is_no_peft_model() -> None:
    _, whole, tokenizer = two_over_one()
    FusionEngine.from_models([(model, tokenizer) for model in whole])


# What the owner does later


def activate(model: Any) -> None:
    model.set_adapter("second")


def disable(model: Any) -> None:
    model.base_model.disable_adapter_layers()


def merge(model: Any) -> None:
    model.merge_adapter()


def scale(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "scale_layer"):
            module.scale_layer(2.0)


def replace(model: Any) -> None:
    model.get_base_model().model.layers = model.get_base_model().model.layers[:1]


@pytest.mark.parametrize(
    ("change", "dtype"),
    [(each, torch.float32) for each in (activate, disable, merge, scale, replace)]
    + [(activate, torch.bfloat16)],
)
def test_what_the_owner_changes_holds_from_the_next_request_on(
    change: Callable[[Any], None], dtype: torch.dtype
) -> None:
    base, tokenizer = tiny.pair("llama", "bytelevel")
    config = adapters.lora(adapters.TARGETS["llama"])
    model = adapters.adapted(base, config, 1, "first")
    model.add_adapter("second", copy.deepcopy(config))
    adapters.fill(model, 2, "second")
    model.eval().to(dtype)
    engine = FusionEngine.from_models([(model, tokenizer)], SPECEM, names=["x"], progress=False)
    before = engine.generate(QUESTION, max_new_tokens=8)
    change(model)
    after = engine.generate(QUESTION, max_new_tokens=8)
    ours, theirs = logits(runner_of(engine)).float(), logits(model).float()
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2 if dtype == torch.float32 else 1)
    if change is not merge:
        assert after.text != before.text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_that_is_put_on_later_is_followed(dtype: torch.dtype) -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel")
    model.to(dtype)
    engine = FusionEngine.from_models([(model, tokenizer)], SPECEM, names=["x"], progress=False)
    before = engine.generate(QUESTION, max_new_tokens=8)
    # Without a wrapper, as transformers itself does.
    peft.inject_adapter_in_model(adapters.lora(["q_proj", "v_proj"], lora_dropout=0.5), model)
    adapters.fill(model, 3)
    after = [engine.generate(QUESTION, max_new_tokens=8).text for _ in range(2)]
    assert after[0] == after[1] != before.text
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.enable_adapters(False)
    assert engine.generate(QUESTION, max_new_tokens=8).text == before.text


def test_a_model_that_is_not_changed_keeps_its_copy() -> None:
    models, _, _ = two_over_one()
    runner = Runner(models[0])
    tree = runner._tree
    runner.run(IDS)
    runner.follow()
    assert runner._tree is tree
    # The other model activates its adapter in the layers that both share.
    models[1].set_adapter("second")
    before = logits(runner).clone()
    runner.follow()
    assert torch.equal(logits(runner), before)


def test_a_merged_adapter_cannot_be_told_apart_from_another() -> None:
    models, _, _ = two_over_one()
    models[1].merge_adapter()
    with pytest.raises(ModelLoadError, match=r"adapter 'first' is not the one .* set_adapter, or"):
        Runner(models[0])
    models[1].unmerge_adapter()
    Runner(models[0])
