"""Puts adapters of PEFT on base models whose weights they share.

This module knows how PEFT opens an adapter. The files are in ``adapter_files``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from specfuse_core.config import ModelConfig
from specfuse_core.errors import AdapterBaseWarning, ModelLoadError
from specfuse_core.hf.adapter_files import (
    check_adapter,
    described,
    fetch_adapter,
    other_base,
    shapes,
)
from specfuse_core.hf.hub import cached
from specfuse_core.hf.trees import twin

__all__ = ["checked_base", "with_adapter"]

_PREFIX = "base_model.model."
#: Initializations of LoRA layers that leave the weights of the base model as they are.
_PLAIN = (True, False, "gaussian", "eva", "orthogonal")


def with_adapter(base: PreTrainedModel, config: ModelConfig, source: ModelConfig) -> Any:
    """Return a model with the adapter of ``config`` that shares the weights of ``base``.

    ``base`` is not changed.

    Raises:
        ModelLoadError: if PEFT is not installed, or the adapter does not fit the base model.
    """
    try:
        import peft
    except ImportError as error:
        raise ModelLoadError(
            f"{source.path!r} is an adapter, which needs PEFT; install it with: "
            "pip install 'specfuse[peft]'"
        ) from error
    folder = fetch_adapter(source)
    check_adapter(source, folder)
    if any(weight.is_meta for weight in base.parameters()):
        raise ModelLoadError(
            f"{config.path!r}: adapters cannot be put on weights that are offloaded; use a "
            "device_map without 'cpu' and 'disk' beside a GPU, or merge the adapter into its base "
            "model (merge_and_unload of PEFT)."
        )
    if (named := described(source, folder)["peft_type"]) not in peft.PeftType.__members__:
        raise ModelLoadError(
            f"{source.path!r}: adapter_config.json names the peft_type {named!r}, which PEFT "
            f"{peft.__version__} does not know; upgrade PEFT, or save the adapter again."
        )
    try:
        # Warnings of this kind are about how PEFT uses transformers.
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            kind = peft.PeftConfig.from_pretrained(str(folder))
            kind.inference_mode = True
            tree, private = _prepared(base, folder, kind)
            # The device map describes a model that was placed already.
            vars(tree).pop("hf_device_map", None)
            model = peft.PeftModelForCausalLM(tree, kind)
            found = model.load_adapter(
                str(folder),
                "default",
                torch_device="cpu",
                key_mapping=getattr(tree, "_checkpoint_conversion_mapping", {}),
            )
    # PEFT raises many kinds of errors for files that do not fit.
    except Exception as error:
        raise _unfit(config, source, folder, _reason(error)) from error
    # PEFT itself leaves layers without weights as they are, and weights without layers aside. It
    # puts virtual tokens into a module with other names, and checks that they fit.
    if not kind.is_prompt_learning:
        if left := found.unexpected_keys:
            reason = f"it has {len(left)} weights for other layers, the first is {left[0]}"
            raise _unfit(config, source, folder, reason)
        if lacking := _unfilled(model, found.missing_keys):
            reason = f"it lacks {len(lacking)} weights, the first is {lacking[0]}"
            raise _unfit(config, source, folder, reason)
    # Models of different architectures may have weights of the same names and shapes.
    made_for, given = _kinds(_base_config(source, folder)), _kinds(base.config.to_dict())
    if made_for and made_for.isdisjoint(given):
        reason = f"its base is of the type {min(made_for)!r}, not {base.config.model_type!r}"
        raise _unfit(config, source, folder, reason)
    _share_again(private)
    return model.eval().requires_grad_(False)


def checked_base(config: ModelConfig, source: ModelConfig) -> str | None:
    """Return the base model that an adapter was trained on, if its name is another, and warn."""
    trained_on = other_base(config, source, fetch_adapter(source))
    if trained_on is not None:
        warnings.warn(
            f"the adapter {source.path!r} was trained on {trained_on!r} and is loaded on "
            f"{config.path!r}; check that they are the same model.",
            AdapterBaseWarning,
            stacklevel=2,
        )
    return trained_on


def _base_config(source: ModelConfig, folder: Path) -> Mapping[str, Any]:
    """The configuration of the base that an adapter names; empty if it is not on disk."""
    named = described(source, folder).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        return {}
    file: Path | None = Path(named).expanduser() / "config.json"
    if file is not None and not file.is_file():
        file = cached(ModelConfig(path=named), "config.json")
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _kinds(described: Mapping[str, Any]) -> set[str]:
    """The model types in a configuration: of the model, and of the language model in it."""
    inner = described.get("text_config")
    parts = [described, inner] if isinstance(inner, Mapping) else [described]
    return {kind for part in parts if isinstance(kind := part.get("model_type"), str)}


def _prepared(
    base: PreTrainedModel, folder: Path, kind: Any
) -> tuple[PreTrainedModel, list[tuple[nn.Parameter, nn.Parameter]]]:
    """Return the modules to put an adapter on, and their own copies of weights.

    Adapters may replace weights of the base model (saved embeddings), change their number of rows
    (tokens that were added), or change them when they are put on (PiSSA, OLoRA). Then the modules
    have their own copies of these weights, so that the base model stays as it is.

    Returns:
        The modules, and pairs of a copy and the weight that it was copied from.
    """
    weights = dict(base.named_parameters(remove_duplicate=False))
    stored = {key.removeprefix(_PREFIX): shape for key, shape in shapes(folder).items()}
    saved = {name: shape for name, shape in stored.items() if name in weights}
    plain = kind.peft_type == "LORA" and kind.init_lora_weights in _PLAIN
    tree = twin(
        base,
        private=[weights[name] for name in (saved if plain else weights)],
        own_config=True,
    )
    copies = [
        (copied, weights[name])
        for name, copied in tree.named_parameters()
        if copied is not weights[name]
    ]
    embedding = base.get_input_embeddings().weight
    for name, shape in saved.items():
        if weights[name] is embedding and shape[0] != embedding.shape[0]:
            tree.resize_token_embeddings(shape[0], mean_resizing=False)
    return tree, copies


def _unfilled(model: nn.Module, missing: Sequence[str]) -> list[str]:
    """Return which of the missing weights are not the same as one that was loaded."""
    weights = dict(model.named_parameters(remove_duplicate=False))
    loaded = {id(weight) for name, weight in weights.items() if name not in {*missing}}
    return [name for name in missing if name in weights and id(weights[name]) not in loaded]


def _share_again(copies: Sequence[tuple[nn.Parameter, nn.Parameter]]) -> None:
    """Give up the copies that are still equal to the weights that they were copied from."""
    for copied, weight in copies:
        if copied.is_floating_point() and copied.shape == weight.shape and copied.equal(weight):
            copied.data = weight.data


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    line = next((line for line in lines if "mismatch" in line), lines[0])
    return f"{type(error).__name__}: {line.strip().rstrip('.')}"


def _unfit(config: ModelConfig, source: ModelConfig, folder: Path, reason: str) -> ModelLoadError:
    base = described(source, folder).get("base_model_name_or_path")
    hint = f"it was made for {base!r}; use that model as path" if base else "use its own base model"
    return ModelLoadError(
        f"the adapter {source.path!r} cannot be put on {config.path!r} ({reason}); {hint}."
    )
