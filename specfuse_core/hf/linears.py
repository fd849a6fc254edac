"""Runs the linear layers of a model with oneDNN, on a CPU in float32.

PyTorch multiplies float32 matrices with MKL, which is slow on some processors. With oneDNN a
forward pass took 0.65 to 1.1 of the time in our measurements (``benchmarks/LOG.md``). Both use the
same weights. A call of oneDNN takes 20 microseconds longer, so small layers keep MKL. In bfloat16
PyTorch uses oneDNN already. This module knows nothing of requests.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from specfuse_core.hf.trees import is_compiled, twin

__all__ = ["OneDnnLinear", "use_onednn", "with_onednn"]

Model = TypeVar("Model", bound=nn.Module)

#: Number of weights from which a layer uses oneDNN.
_LARGE = 2**18


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


def with_onednn(model: Model) -> Model:
    """Return a copy of ``model`` whose linear layers use oneDNN.

    The copy shares weights, buffers and configuration with ``model``, which is not changed.

    Returns:
        The copy, or ``model`` itself if no layer can use oneDNN, or if torch.compile has compiled
        the model.
    """
    if not any(map(_gains, model.modules())) or is_compiled(model):
        return model
    return use_onednn(twin(model))


def use_onednn(model: Model) -> Model:
    """Change the linear layers of ``model`` so that they use oneDNN, and return it.

    This includes the layers of adapters and the layers that the adapters are put around.
    """
    for module in model.modules():
        if _gains(module):
            module.__class__ = OneDnnLinear
    return model


def _gains(module: nn.Module) -> bool:
    # Subclasses of nn.Linear (quantized layers) are not replaced.
    if type(module) is not nn.Linear or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    weight = module.weight
    return weight.is_cpu and weight.dtype == torch.float32 and weight.numel() >= _LARGE
