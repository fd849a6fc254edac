"""Where a model runs, in which dtype, and how much memory is free there.

This module loads no model and knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from specfuse_core.config import ModelConfig
from specfuse_core.errors import ModelLoadError

__all__ = ["device_of", "dtype_of", "free_memory", "input_device"]

_MEMINFO = Path("/proc/meminfo")
#: Files of a container with its limit, its use and the parts of its use, for both versions of
#: control groups.
_LIMITS = (
    tuple(
        Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current", "memory.stat")
    ),
    tuple(
        Path("/sys/fs/cgroup/memory") / name
        for name in ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    ),
)
#: Parts of the use that are given up when memory is needed: the cache of files that were read.
_RECLAIMED = ("inactive_file", "active_file")


def input_device(model: Any) -> torch.device:
    """Return the device that the inputs of a model must be on.

    The weights of a model that accelerate offloads are on the meta device between its passes. Then
    its hooks know the device.
    """
    device: torch.device = model.device
    if device.type != "meta":
        return device
    return next(_executing(model), device)


def _executing(model: nn.Module) -> Iterator[torch.device]:
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        for one in getattr(hook, "hooks", (hook,)):
            device = getattr(one, "execution_device", None)
            if device is not None:
                yield torch.device(device)


def free_memory(device: torch.device) -> int | None:
    """Return the number of bytes that are free on a device; None if it is not known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type != "cpu":
        return None
    known = [*_host(), *_container()]
    return min(known, default=None)


def _host() -> Iterator[int]:
    """The free memory of the machine, with what swapping can free."""
    with suppress(OSError, KeyError, ValueError, IndexError):
        table = _table(_MEMINFO)
        yield 1024 * (table["MemAvailable:"] + table["SwapFree:"])


def _container() -> Iterator[int]:
    """What is left of the limit of a container."""
    for limit, used, parts in _LIMITS:
        # Some files do not exist everywhere, and without a limit the file says "max".
        with suppress(OSError, KeyError, ValueError, IndexError):
            left = int(limit.read_text(encoding="ascii")) - int(used.read_text(encoding="ascii"))
            table = _table(parts)
            yield left + sum(table[name] for name in _RECLAIMED)


def _table(file: Path) -> dict[str, int]:
    """Return the first number of each line by the name before it."""
    lines = (line.split() for line in file.read_text(encoding="ascii").splitlines())
    return {words[0]: int(words[1]) for words in lines}


def dtype_of(config: ModelConfig) -> torch.dtype | Literal["auto"]:
    """Return the dtype of the loaded weights; ``"auto"`` for that of the files.

    Raises:
        ModelLoadError: if weights cannot have the configured dtype.
    """
    if config.dtype == "auto":
        return "auto"
    dtype = getattr(torch, config.dtype.removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ModelLoadError(
            f"{config.path!r}: weights cannot have the dtype {config.dtype!r}; use 'auto', "
            "'float32', 'bfloat16' or 'float16'."
        )
    return dtype


def device_of(config: ModelConfig) -> torch.device:
    """Return the device to run the model on.

    Raises:
        ModelLoadError: if the configured device is not available.
    """
    if config.device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(config.device)
        torch.empty(0, device=device)
    # Builds of PyTorch without CUDA raise an AssertionError.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelLoadError(
            f"{config.path!r}: the device {config.device!r} is not available; use one of: "
            f"{', '.join(_devices())}."
        ) from error
    return device


def _devices() -> list[str]:
    if not torch.accelerator.is_available():
        return ["cpu"]
    kind = torch.accelerator.current_accelerator()
    return ["cpu", *(f"{kind}:{index}" for index in range(torch.accelerator.device_count()))]
