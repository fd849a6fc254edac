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
        """
        options: dict[str, Any] = {"use_cache": use_cache}
        if use_cache and cache is not None and self._cache_name is not None:
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
        return logits, _cache_of(output) if use_cache else None


def _parameters(model: nn.Module) -> set[str]:
    """Names that the forward pass takes, also behind wrappers that pass on all they are given."""
    names: set[str] = set()
    wrapped: Any = model
    while wrapped is not None:
        parameters = inspect.signature(wrapped.forward).parameters.values()
        names |= {parameter.name for parameter in parameters}
        if isinstance(wrapped, PreTrainedModel) or not any(
            parameter.kind is parameter.VAR_KEYWORD for parameter in parameters
        ):
            break
        wrapped = _wrapped(wrapped)
    return names


def _wrapped(model: Any) -> Any:
    """What a wrapper holds: PEFT's, torch.compile's or a parallel one's; None if it is none."""
    if callable(getattr(model, "get_base_model", None)):
        return model.get_base_model()
    return getattr(model, "_orig_mod", None) or getattr(model, "module", None)


def _cache_of(output: Any) -> Any:
    """The cache in a model's output, None if it gives none back."""
    found = (getattr(output, name, None) for name in _CACHE_NAMES)
    return next((cache for cache in found if cache is not None), None)
