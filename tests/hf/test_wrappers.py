"""Models of torch.compile and accelerate given to from_models: they keep their cache."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator
from typing import Any

import adapters
import pytest
import tiny
import torch
from accelerate import cpu_offload, dispatch_model
from adapters import close, logits, two_over_one

from specfuse_core.errors import ModelLoadError
from specfuse_core.hf import LoadedModel, Runner
from specfuse_core.hf.trees import twin

# PEFT uses a name of transformers that is about to be dropped.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning"),
    pytest.mark.usefixtures("onednn_everywhere"),
]


@pytest.fixture(autouse=True)
def uncompiled() -> Iterator[None]:
    """Run the modules of torch.compile as they are, since compiling them takes many seconds."""
    torch.compiler.set_stance("force_eager")
    yield
    torch.compiler.set_stance("default")


def compiled_module(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def compiled_in_place(model: Any) -> Any:
    model.compile(backend="eager")
    return model


def compiled_forward(model: Any) -> Any:
    model.forward = torch.compile(model.forward, backend="eager")
    return model


@pytest.mark.parametrize(
    ("wrap", "adapter"),
    [
        (compiled_module, False),
        (compiled_module, True),
        (compiled_in_place, False),
        (compiled_forward, True),
    ],
)
def test_a_compiled_model_is_run_as_it_is_and_keeps_its_cache(
    wrap: Callable[[Any], Any], adapter: bool
) -> None:
    model: Any = tiny.model("llama")
    if adapter:
        model = adapters.adapted(model, adapters.lora(["q_proj"]), 1)
    expected = logits(model).clone()
    model = wrap(model)
    loaded = LoadedModel(Runner(model))
    assert loaded.runner._tree is model
    assert loaded.method == "packed-full"
    assert close(logits(loaded.runner), expected)


def test_a_compiled_model_whose_adapter_is_not_active_is_refused() -> None:
    models, _, _ = two_over_one()
    with pytest.raises(ModelLoadError, match="the adapter 'first' is not the one that is active"):
        Runner(compiled_module(models[0]))
    assert LoadedModel(Runner(compiled_module(models[1]))).method == "packed-full"


@pytest.mark.parametrize("adapter", [False, True], ids=["plain", "lora"])
def test_a_model_with_hooks_of_accelerate_keeps_its_cache(adapter: bool) -> None:
    model: Any = tiny.model("llama")
    expected = logits(adapters.adapted(copy.deepcopy(model), adapters.lora(["q_proj"]), 1))
    model = dispatch_model(model, {"": "cpu"}, force_hooks=True)
    if adapter:
        model = adapters.adapted(model, adapters.lora(["q_proj"]), 1)
    loaded = LoadedModel(Runner(model))
    assert loaded.method == "packed-full"
    assert close(logits(loaded.runner), expected if adapter else logits(tiny.model("llama")))


def test_offloaded_weights_are_not_copied() -> None:
    model: Any = cpu_offload(tiny.model("llama"), execution_device=torch.device("cpu"))
    kept = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
    copied = twin(model)
    known = set(map(id, kept))
    made = [e for e in gc.get_objects() if issubclass(type(e), torch.Tensor) and id(e) not in known]
    assert made == []
    assert close(logits(copied), logits(tiny.model("llama")))
