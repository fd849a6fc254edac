"""Runs base models on this machine with transformers. Only this package imports torch directly.

Templates and tokenizers belong in ``prompts/``; rounds and votes belong in ``algorithm/``.
"""

from specfuse_core.hf.backend import LocalBackend
from specfuse_core.hf.hub import remote_counts
from specfuse_core.hf.loaded import LoadedModel
from specfuse_core.hf.loading import (
    check_files,
    download,
    is_loaded,
    load_model,
    look_up,
    template_of,
)
from specfuse_core.hf.placement import device_of, free_memory
from specfuse_core.hf.runner import Runner
from specfuse_core.hf.trees import check_distinct

__all__ = [
    "LoadedModel",
    "LocalBackend",
    "Runner",
    "check_distinct",
    "check_files",
    "device_of",
    "download",
    "free_memory",
    "is_loaded",
    "load_model",
    "look_up",
    "remote_counts",
    "template_of",
]
