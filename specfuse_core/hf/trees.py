"""Copies of a model's modules that share its weights, and the adapters that its layers hold.

Modules without their weights are small, so every adapter over one base model can have modules of
its own. Forward passes with several adapters then need no switching and no lock. This module knows
nothing of files and of requests.
"""

from __future__ import annotations

import copy
import gc
import types
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn
from transformers import PreTrainedModel

from specfuse_core.errors import ModelLoadError

__all__ = [
    "check_distinct",
    "has_virtual_tokens",
    "innermost",
    "is_compiled",
    "own_tree",
    "state_of",
    "twin",
    "wrapped",
]

Model = TypeVar("Model", bound=nn.Module)

#: Objects that ``copy.deepcopy`` does not copy, so that a search need not enter them.
_ATOMIC = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)


def twin(model: Model, *, private: Collection[Tensor] = (), own_config: bool = False) -> Model:
    """Return a copy of ``model`` that shares its weights and buffers.

    Later changes of the weights apply to both. Layers that are put into one are not in the other.

    Args:
        model: any model, also quantized, or with the hooks of accelerate.
        private: tensors that the copy gets a copy of, instead of sharing them.
        own_config: whether the copy gets a copy of the configuration, too.
    """
    own = {id(tensor) for tensor in private}
    shared: list[Any] = [tensor for tensor in _tensors(model) if id(tensor) not in own]
    if not own_config:
        shared += [module.config for module in model.modules() if hasattr(module, "config")]
    return copy.deepcopy(model, {id(each): each for each in shared})


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """Yield all tensors of a model.

    Quantized layers and the hooks of accelerate have tensors that are no parameters or buffers.
    """
    seen: set[int] = set()
    waiting: list[Any] = [model]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, _ATOMIC):
            continue
        seen.add(id(each))
        if isinstance(each, Tensor):
            yield each
        else:
            waiting += gc.get_referents(each)


def wrapped(model: Any) -> nn.Module | None:
    """Return the model inside a wrapper (PEFT, torch.compile, data parallel); None if none."""
    # Compiled and PEFT models pass the names of other attributes on to what they hold.
    if "_orig_mod" in model._modules:
        inner = model._modules["_orig_mod"]
    elif callable(getattr(model, "get_base_model", None)):
        inner = model.get_base_model()
    else:
        held = (getattr(model, name, None) for name in ("module", "base_model"))
        inner = next((one for one in held if one is not None), None)
    return inner if isinstance(inner, nn.Module) and inner is not model else None


def innermost(model: nn.Module) -> nn.Module:
    """Return the transformers model inside all wrappers."""
    inner: nn.Module | None = model
    while inner is not None and not isinstance(inner, PreTrainedModel):
        model, inner = inner, wrapped(inner)
    return model if inner is None else inner


def is_compiled(model: nn.Module) -> bool:
    """Whether torch.compile has compiled the model or a part of it."""
    return any(
        module._compiled_call_impl is not None
        or "_orig_mod" in module._modules
        or hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable")
        for module in model.modules()
    )


def has_virtual_tokens(model: nn.Module) -> bool:
    """Whether an active adapter puts virtual tokens before the text (prompt or prefix tuning)."""
    peft_model = _adapter_model(model)
    return peft_model is not None and any(
        peft_model.peft_config[name].is_prompt_learning for name in peft_model.active_adapters
    )


def state_of(model: nn.Module) -> Hashable:
    """Return what the result of a forward pass depends on besides the values of the weights.

    It changes if layers or weights are replaced, and if adapters are put in, switched or merged.
    """
    return (
        _own_adapters(model),
        *(
            (
                id(type(module)),
                *map(id, module._parameters.values()),
                *map(id, module._buffers.values()),
                id(vars(module).get("forward")),
                _adapters_of(module) if _holds_adapters(module) else None,
            )
            for module in model.modules()
        ),
    )


def own_tree(model: nn.Module) -> nn.Module:
    """Return the modules to run ``model`` with.

    PEFT puts the layers of all adapters into the base model, and stores there which adapter is
    active. So all PEFT models over one base model would run with the adapter that was activated
    last. The modules that are returned run with the adapters that are active in ``model`` itself,
    whatever happens to the others.

    Returns:
        A copy that shares the weights, or ``model`` itself if its layers hold no adapters or if it
        is compiled.

    Raises:
        ModelLoadError: if another adapter is active in the base model, and the model is compiled or
            has adapters merged into its weights.
    """
    layers: list[Any] = [module for module in model.modules() if _is_adapted(module)]
    names = _own_adapters(model)
    switched = names is not None and any(names != tuple(each.active_adapters) for each in layers)
    if switched and (is_compiled(model) or any(each.merged_adapters for each in layers)):
        raise ModelLoadError(
            f"the adapter {_listed(names)} is not the one that is active in its base model, and "
            "the model is compiled or has merged adapters; activate it with set_adapter, or give "
            "each adapter a base model of its own."
        )
    if not layers or is_compiled(model):
        return model
    tree = twin(model, own_config=True)
    if switched:
        _activate(tree, names)
    return tree.eval()


def check_distinct(models: Sequence[nn.Module]) -> None:
    """Check that no two loaded models give the same answers since they share a base model.

    Raises:
        ModelLoadError: if two PEFT models, or a PEFT model and its base model, have the same
            adapters.
    """
    for place, model in enumerate(models, start=1):
        for before, other in enumerate(models[: place - 1], start=1):
            if (names := _indistinct(other, model)) is not None:
                raise ModelLoadError(
                    f"model {before} and model {place} of from_models share one base model, in "
                    f"which both run with the adapter {names}; load each adapter with a name of "
                    "its own (PeftModel.from_pretrained(base, path, adapter_name=...)), or use "
                    "from_pretrained([ModelConfig(path=..., adapter=...), ...])."
                )


def _indistinct(model: nn.Module, other: nn.Module) -> str | None:
    """Return the adapters that two models share, if they would give the same answers by mistake.

    Returns:
        The names of the adapters; None if the models differ, or if both are the same model, perhaps
        in a wrapper of torch.compile.
    """
    base = innermost(model)
    if base is not innermost(other) or _adapter_model(model) is _adapter_model(other):
        return None
    layer: Any = next((module for module in base.modules() if _is_adapted(module)), None)
    if layer is None:
        return None
    active = tuple(layer.active_adapters)
    names = _own_adapters(model) or active
    return _listed(names) if names == (_own_adapters(other) or active) else None


def _adapter_model(model: nn.Module) -> Any:
    """Return the PEFT model within other wrappers; None if there is none."""
    inner: nn.Module | None = model
    while inner is not None and not isinstance(inner, PreTrainedModel):
        if hasattr(type(inner), "active_adapters"):
            return inner
        inner = wrapped(inner)
    return None


def _own_adapters(model: nn.Module) -> tuple[str, ...] | None:
    """Return the adapters that are active in a PEFT model; None if it is no PEFT model."""
    peft_model = _adapter_model(model)
    return None if peft_model is None else tuple(peft_model.active_adapters)


def _is_adapted(module: nn.Module) -> bool:
    """Whether a module is a layer of the base model with adapters around it."""
    return hasattr(type(module), "merged_adapters") and hasattr(type(module), "get_base_layer")


def _holds_adapters(module: nn.Module) -> bool:
    """Whether adapters of a module can be active. Layers that are replaced as a whole are too."""
    return hasattr(type(module), "merged_adapters")


def _adapters_of(module: Any) -> Hashable:
    return (
        tuple(module.active_adapters),
        module.disable_adapters,
        tuple(module.merged_adapters),
        repr(vars(module).get("scaling")),
    )


def _activate(tree: nn.Module, names: tuple[str, ...] | None) -> None:
    """Activate adapters in a copy, without changing which of the shared weights are trainable."""
    # The model that was copied is one of PEFT, so PEFT is installed.
    from peft.functional import set_adapter

    flags = [(weight, weight.requires_grad) for weight in tree.parameters()]
    try:
        set_adapter(tree, list(names or ()), inference_mode=True)
    finally:
        for weight, trainable in flags:
            weight.requires_grad_(trainable)


def _listed(names: tuple[str, ...] | None) -> str:
    return ", ".join(map(repr, names or ()))
