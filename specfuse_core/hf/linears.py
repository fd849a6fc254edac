"""A model's linear layers by oneDNN, on a CPU in float32.

PyTorch multiplies float32 matrices by MKL, which is slow on some processors. oneDNN takes 0.65 to
0.9 of the time of a forward pass where it was measured (``benchmarks/LOG.md``). It uses the same
weights in place. In bfloat16 PyTorch calls oneDNN by itself.
"""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

__all__ = ["OneDnnLinear", "with_onednn"]


class OneDnnLinear(nn.Linear):
    """A linear layer for inference; off the CPU, or not in float32, as ``nn.Linear``."""

    def forward(self, input: Tensor) -> Tensor:
        """``input`` times the weights, plus the bias. ``[..., in] -> [..., out]``"""
        if input.is_cpu and input.dtype == self.weight.dtype == torch.float32:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(
                input, self.weight, self.bias, "none", [], ""
            )
            return product
        return super().forward(input)


def with_onednn(model: PreTrainedModel) -> PreTrainedModel:
    """A model that shares weights, buffers and settings with ``model``, its linears by oneDNN.

    ``model`` itself is left as it is; it is given back where there is nothing to gain. What is put
    into ``model`` later (an adapter's layers) is not in the copy; what becomes of its weights is.
    """
    linears = [module for module in model.modules() if _gains(module)]
    if not linears or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return model
    shared = chain(
        model.parameters(),
        model.buffers(),
        # Where windows are: what is set in one must hold in the other.
        (module.config for module in model.modules() if hasattr(module, "config")),
    )
    twin = copy.deepcopy(model, {id(one): one for one in shared})
    for module in twin.modules():
        if _gains(module):
            module.__class__ = OneDnnLinear
    return twin


def _gains(module: nn.Module) -> bool:
    # Classes of others (quantized layers, adapters) run as they are.
    if type(module) is not nn.Linear:
        return False
    return module.weight.is_cpu and module.weight.dtype == torch.float32
