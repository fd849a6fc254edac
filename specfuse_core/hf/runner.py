"""Ids -> logits of one loaded model: the only place that calls it.

This module knows the model's call signature and its attention windows, and nothing of requests.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from specfuse_core.hf.linears import with_onednn

__all__ = ["MaskForm", "Runner"]

#: How a model takes 4-D masks: one for all layers, one with the window applied, or one per kind.
MaskForm = Literal["full", "window", "both"]

_UNBOUNDED = 1_000_000
#: Names under which models take their cache and give it back, the newest first: transformers 5.24
#: calls ``cache`` what was ``past_key_values``, and ``cache_params`` in state-space models.
_CACHE_NAMES = ("cache", "past_key_values", "cache_params")
_EITHER_NAME = " or ".join(_CACHE_NAMES)
#: Settings of models whose local attention is in fixed chunks, or is made when they are built.
_OTHER_WINDOWS = ("window_size", "attention_window_size", "attention_chunk_size", "local_attention")


class Runner:
    """Calls a causal LM with ids and gives back logits.

    Args:
        model: a causal LM in eval mode.
        onednn: whether linear layers run by oneDNN on a CPU; False runs the model as it is.
    """

    def __init__(self, model: PreTrainedModel, *, onednn: bool = True) -> None:
        self.model = model
        self._on_cpu = with_onednn(model) if onednn else model
        parameters = _parameters(model)
        self._takes_positions = "position_ids" in parameters
        self._takes_keep = "logits_to_keep" in parameters
        self._cache_name = next((name for name in _CACHE_NAMES if name in parameters), None)
        self.takes_masks = "attention_mask" in parameters
        self.config = model.config.get_text_config(decoder=True)

    @property
    def name(self) -> str:
        """What to call the model in messages: its path or hub id, or its class."""
        return self.config.name_or_path or type(self.model).__name__

    @property
    def device(self) -> torch.device:
        """Where ids go."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The model's floating-point type, which additive masks must share."""
        return self.model.dtype

    @property
    def window(self) -> int | None:
        """Tokens that a windowed layer sees, None if no layer is windowed."""
        window = getattr(self.config, "sliding_window", None)
        kinds = getattr(self.config, "layer_types", None)
        if not window or (kinds and "sliding_attention" not in kinds):
            return None
        return int(window)

    @property
    def has_other_windows(self) -> bool:
        """Whether attention is also local in ways that masks by ``window`` do not express."""
        kinds = set(getattr(self.config, "layer_types", None) or ())
        named = any(getattr(self.config, name, None) for name in _OTHER_WINDOWS)
        return named or "chunked_attention" in kinds

    @property
    def takes_trees(self) -> bool:
        """Whether one pass may hold branches: each token has a place and a mask of its own.

        Models with ALiBi derive the places from the columns of the mask.
        """
        alibi = getattr(self.config, "alibi", False)
        return self._takes_positions and self.takes_masks and not (alibi or self.has_other_windows)

    @property
    def context_window(self) -> int:
        """Tokens that the model can take, by its config."""
        for name in ("max_position_embeddings", "max_seq_len", "seq_length", "n_positions"):
            size = getattr(self.config, name, None)
            if isinstance(size, int) and size > 0:
                return size
        return _UNBOUNDED

    @torch.inference_mode()
    def run(
        self,
        ids: Sequence[int],
        *,
        cache: Any = None,
        use_cache: bool = True,
        positions: Sequence[int] | None = None,
        mask: Tensor | dict[str, Tensor] | None = None,
        keep: int = 0,
    ) -> tuple[Tensor, Any]:
        """Run ``ids`` after what is in ``cache``.

        Args:
            ids: the tokens to run. ``[T]``
            cache: the model's cache, None to begin with an empty one of its own choice.
            use_cache: False runs without any cache.
            positions: place of each token; by default they follow the cache. ``[T]``
            mask: additive 4-D mask ``[1, 1, T, S]``, or one per kind of layer.
            keep: logits of so many last tokens only; 0 for all.

        Returns:
            Logits ``[T or keep, V]``, and the cache.

        Raises:
            TypeError: if the model takes no cache, or gives none back where it should begin one.
        """
        options: dict[str, Any] = {"use_cache": use_cache}
        if use_cache and cache is not None:
            if self._cache_name is None:
                raise TypeError(f"the forward pass has no argument {_EITHER_NAME}")
            options[self._cache_name] = cache
        if positions is not None and self._takes_positions:
            options["position_ids"] = torch.tensor([list(positions)], device=self.device)
        if mask is not None:
            options["attention_mask"] = mask
        if self._takes_keep:
            options["logits_to_keep"] = keep
        input_ids = torch.tensor([list(ids)], device=self.device)
        # A model that was moved since has its buffers elsewhere.
        model = self._on_cpu if input_ids.is_cpu else self.model
        output = model(input_ids=input_ids, **options)
        logits: Tensor = output.logits[0]
        if keep and logits.shape[0] > keep:
            logits = logits[-keep:]
        after = _cache_of(output) if use_cache else None
        if use_cache and cache is after is None:
            raise TypeError(f"the output of the forward pass has no field {_EITHER_NAME}")
        return logits, after


def _parameters(model: nn.Module) -> set[str]:
    """Names that the forward pass takes, also behind wrappers that pass on all they are given."""
    names: set[str] = set()
    wrapped: nn.Module | None = model
    while wrapped is not None:
        parameters = inspect.signature(wrapped.forward).parameters.values()
        names |= {parameter.name for parameter in parameters}
        passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not passes_on or (isinstance(wrapped, PreTrainedModel) and names & {*_CACHE_NAMES}):
            break
        wrapped = _wrapped(wrapped)
    return names


def _wrapped(model: Any) -> nn.Module | None:
    """The model inside a wrapper of PEFT, torch.compile or data parallelism; None if it is none."""
    if callable(getattr(model, "get_base_model", None)):
        inner = model.get_base_model()
    else:
        held = (getattr(model, name, None) for name in ("_orig_mod", "module", "base_model"))
        inner = next((one for one in held if one is not None), None)
    return inner if isinstance(inner, nn.Module) and inner is not model else None


def _cache_of(output: Any) -> Any:
    """The cache in a model's output, None if it gives none back."""
    found = (getattr(output, name, None) for name in _CACHE_NAMES)
    return next((cache for cache in found if cache is not None), None)
