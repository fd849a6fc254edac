"""Runner: runs token ids through one loaded model. No other module calls the model.

This module knows the signature of the model's forward pass and its attention windows. It knows
nothing of requests.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from specfuse_core.hf.linears import use_onednn, with_onednn
from specfuse_core.hf.placement import input_device
from specfuse_core.hf.rope import LengthRope
from specfuse_core.hf.trees import has_virtual_tokens, own_tree, state_of, wrapped

__all__ = ["UNBOUNDED", "MaskForm", "Runner"]

#: The 4-D mask that a model expects: one for all layers, without or with the window, or one per
#: kind of layer.
MaskForm = Literal["full", "window", "both"]

#: The context window of a model whose configuration states none.
UNBOUNDED = 1_000_000
#: Names of the cache in arguments and outputs of models, the newest first. transformers 5.24
#: renamed ``past_key_values`` (in state-space models ``cache_params``) to ``cache``.
_CACHE_NAMES = ("cache", "past_key_values", "cache_params")
_EITHER_NAME = " or ".join(_CACHE_NAMES)
#: Settings of models whose local attention has fixed chunks or cannot be changed after creation.
_OTHER_WINDOWS = ("window_size", "attention_window_size", "attention_chunk_size", "local_attention")


class Runner:
    """Runs a causal LM on token ids and returns logits.

    The model is run by a copy of its modules that shares its weights, if the linear layers can use
    oneDNN or if the layers hold adapters. :meth:`follow` renews the copy.

    Args:
        model: a causal LM in eval mode.
        onednn: whether linear layers use oneDNN on a CPU.
    """

    def __init__(self, model: PreTrainedModel, *, onednn: bool = True) -> None:
        self.model = model
        self._onednn = onednn
        self._lock = threading.Lock()
        self._state: Hashable = None
        self.follow()
        parameters = _parameters(model)
        self._takes_positions = "position_ids" in parameters
        self._takes_keep = "logits_to_keep" in parameters
        names = (name for name in _CACHE_NAMES if name in parameters)
        # PEFT passes virtual tokens to each pass, at its start or as a cache of its own.
        self._cache_name = None if has_virtual_tokens(model) else next(names, None)
        self.takes_masks = "attention_mask" in parameters

    def follow(self) -> None:
        """Renew the copy if the owner of the model has changed its layers or adapters since.

        Raises:
            ModelLoadError: if the adapters that are active in the model cannot be used.
        """
        with self._lock:
            self._placed = self.device
            state = state_of(self.model)
            if state == self._state:
                return
            tree: Any = own_tree(self.model)
            if self._onednn:
                tree = use_onednn(tree) if tree is not self.model else with_onednn(tree)
            self._tree, self._state = tree, state
            self.rope = LengthRope(tree)
            self.config = tree.config.get_text_config(decoder=True)

    @property
    def name(self) -> str:
        """Name of the model in messages: its path, its hub id or its class."""
        return self.config.name_or_path or type(self.model).__name__

    @property
    def device(self) -> torch.device:
        """The device of the model's inputs."""
        return input_device(self.model)

    @property
    def dtype(self) -> torch.dtype:
        """The model's floating-point type, which additive masks must have too."""
        return self.model.dtype

    @property
    def is_quantized(self) -> bool:
        """Whether linear layers round their weights or inputs to few bits."""
        return bool(getattr(self.model, "is_quantized", False))

    @property
    def window(self) -> int | None:
        """Number of tokens that a layer with a window sees; None if no layer has one."""
        window = getattr(self.config, "sliding_window", None)
        kinds = getattr(self.config, "layer_types", None)
        if not window or (kinds and "sliding_attention" not in kinds):
            return None
        return int(window)

    @property
    def has_other_windows(self) -> bool:
        """Whether some layers have local attention that ``window`` does not describe."""
        kinds = set(getattr(self.config, "layer_types", None) or ())
        named = any(getattr(self.config, name, None) for name in _OTHER_WINDOWS)
        return named or "chunked_attention" in kinds

    @property
    def takes_trees(self) -> bool:
        """Whether one forward pass can contain branches, with a position and a mask per token.

        Models with ALiBi cannot: they derive positions from the columns of the mask.
        """
        alibi = getattr(self.config, "alibi", False)
        return self._takes_positions and self.takes_masks and not (alibi or self.has_other_windows)

    @property
    def embeddings(self) -> int | None:
        """Number of ids that have an embedding; None if the model does not show it."""
        try:
            found = self.model.get_input_embeddings()
        except (AttributeError, NotImplementedError):
            return None
        return getattr(found, "num_embeddings", None)

    @property
    def context_window(self) -> int:
        """The context window in tokens, from the model's configuration."""
        for name in ("max_position_embeddings", "max_seq_len", "seq_length", "n_positions"):
            size = getattr(self.config, name, None)
            if isinstance(size, int) and size > 0:
                return int(size * self.rope.stretch)
        return UNBOUNDED

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
        """Run ``ids`` after the ids in ``cache``.

        Args:
            ids: ids to run. ``[T]``
            cache: the model's cache; None for a new one that the model creates.
            use_cache: whether to use a cache at all.
            positions: position of each id; by default they follow those in the cache. ``[T]``
            mask: additive 4-D mask ``[1, 1, T, S]``, or one per kind of layer.
            keep: number of last ids to return logits for; 0 for all.

        Returns:
            The logits ``[T or keep, V]``, and the cache (None without ``use_cache``).

        Raises:
            TypeError: if the model accepts no cache, or does not return a new one.
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
        device = self.device
        if device != self._placed:
            # The model was moved. The weights of the copy move with it, but not the buffers.
            self.follow()
        tree, rope = self._tree, self.rope
        with rope.fresh():
            output = tree(input_ids=torch.tensor([list(ids)], device=device), **options)
        logits: Tensor = output.logits[0]
        if keep and logits.shape[0] > keep:
            logits = logits[-keep:]
        after = _cache_of(output) if use_cache else None
        if use_cache and cache is after is None:
            raise TypeError(f"the output of the forward pass has no field {_EITHER_NAME}")
        return logits, after


def _parameters(model: nn.Module) -> set[str]:
    """Return the argument names of the forward pass, also of models inside wrappers."""
    names: set[str] = set()
    inner: nn.Module | None = model
    while inner is not None:
        parameters = inspect.signature(inner.forward).parameters.values()
        names |= {parameter.name for parameter in parameters}
        passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not passes_on or (isinstance(inner, PreTrainedModel) and names & {*_CACHE_NAMES}):
            break
        inner = wrapped(inner)
    return names


def _cache_of(output: Any) -> Any:
    """Return the cache in a model's output; None if it has none."""
    found = (getattr(output, name, None) for name in _CACHE_NAMES)
    return next((cache for cache in found if cache is not None), None)
