"""Linear layers with oneDNN give the same numbers and leave the caller's model unchanged."""

from __future__ import annotations

import copy

import pytest
import tiny
import torch
from torch import nn

from specfuse_core.hf import linears
from specfuse_core.hf.linears import OneDnnLinear, with_onednn
from specfuse_core.hf.runner import Runner

pytestmark = [
    pytest.mark.skipif(
        not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN"
    ),
    pytest.mark.usefixtures("onednn_everywhere"),
]

_IDS = [[5, 9, 3, 3, 7, 11]]


def _kinds(model: nn.Module) -> set[type]:
    return {type(module) for module in model.modules() if isinstance(module, nn.Linear)}


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt_neox", "phi", "qwen3", "lfm2"])
def test_logits_are_those_of_the_model(architecture: str) -> None:
    model = tiny.model(architecture)
    twin = with_onednn(model)
    assert _kinds(twin) == {OneDnnLinear}
    with torch.inference_mode():
        ours = twin(input_ids=torch.tensor(_IDS)).logits
        theirs = model(input_ids=torch.tensor(_IDS)).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_model_that_was_given_is_left_as_it_is() -> None:
    model = tiny.model("llama")
    before = {name: id(weight) for name, weight in model.named_parameters()}
    twin = with_onednn(model)
    assert twin is not model and _kinds(model) == {nn.Linear}
    assert {name: id(weight) for name, weight in model.named_parameters()} == before
    # No second copy of any weight, and one set of settings.
    assert {name: id(weight) for name, weight in twin.named_parameters()} == before
    assert twin.config is model.config
    assert all(getattr(module, "config", model.config) is model.config for module in twin.modules())


def test_weights_that_change_change_in_both() -> None:
    model = tiny.model("llama")
    runner = Runner(model)
    before, _ = runner.run([5, 9, 3])
    before = before.clone()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    after, _ = runner.run([5, 9, 3])
    plain, _ = Runner(model, onednn=False).run([5, 9, 3])
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(after, plain, rtol=1e-4, atol=1e-5)


def test_other_types_of_numbers_and_other_classes_run_as_they_are() -> None:
    half = tiny.model("llama").bfloat16()
    assert with_onednn(half) is half

    class Adapted(nn.Linear):
        """A layer with which a library replaces a linear layer."""

    model = tiny.model("llama")
    model.lm_head.__class__ = Adapted
    assert _kinds(with_onednn(model)) == {Adapted, OneDnnLinear}
    # A model that is made half precise after it was given still runs.
    model = tiny.model("qwen2")
    runner = Runner(model)
    model.bfloat16()
    assert runner.run([5, 9, 3])[0].dtype == torch.bfloat16


def test_bias_and_leading_dimensions_are_as_in_a_linear() -> None:
    plain = nn.Linear(12, 7)
    ours = copy.deepcopy(plain)
    ours.__class__ = OneDnnLinear
    for shape in ((12,), (3, 12), (2, 3, 12), (1, 1, 12)):
        x = torch.randn(*shape)
        with torch.inference_mode():
            torch.testing.assert_close(ours(x), plain(x), rtol=1e-5, atol=1e-6)


def test_only_large_layers_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linears, "_LARGE", 600 * 32)
    model = tiny.model("llama", 600)
    twin = with_onednn(model)
    assert type(twin.lm_head) is OneDnnLinear
    assert {type(m) for m in twin.model.modules() if isinstance(m, nn.Linear)} == {nn.Linear}
    monkeypatch.setattr(linears, "_LARGE", 600 * 32 + 1)
    assert with_onednn(model) is model
