"""Runs the linear layers of a model with oneDNN, on a CPU in float32.

PyTorch multiplies float32 matrices with MKL, which is slow on some processors. With oneDNN a
forward pass took 0.65 to 0.9 of the time in our measurements (``benchmarks/LOG.md``). Both use the
same weights. In bfloat16 PyTorch uses oneDNN already. This module knows nothing of requests.
"""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

__all__ = ["OneDnnLinear", "with_onednn"]


class OneDnnLinear(nn.Linear):
    """A linear layer for inference that uses oneDNN for float32 on the CPU.

    For other devices and types it behaves like ``nn.Linear``.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Multiply ``input`` by the weights and add the bias. ``[..., in] -> [..., out]``"""
        if input.is_cpu and input.dtype == self.weight.dtype == torch.float32:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(
                input, self.weight, self.bias, "none", [], ""
            )
            return product
        return super().forward(input)


def with_onednn(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of ``model`` whose linear layers use oneDNN.

    The copy shares weights, buffers and configuration with ``model``, which is not changed. Later
    changes of the weights apply to both. Layers that are added to ``model`` later (such as an
    adapter) are not in the copy.

    Returns:
        The copy, or ``model`` itself if no layer can use oneDNN.
    """
    linears = [module for module in model.modules() if _gains(module)]
    if not linears or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return model
    shared = chain(
        model.parameters(),
        model.buffers(),
        # The configuration has the attention window, which must be the same in both.
        (module.config for module in model.modules() if hasattr(module, "config")),
    )
    twin = copy.deepcopy(model, {id(one): one for one in shared})
    for module in twin.modules():
        if _gains(module):
            module.__class__ = OneDnnLinear
    return twin


def _gains(module: nn.Module) -> bool:
    # Subclasses of nn.Linear (quantized layers, adapters) are not replaced.
    if type(module) is not nn.Linear:
        return False
    return module.weight.is_cpu and module.weight.dtype == torch.float32
