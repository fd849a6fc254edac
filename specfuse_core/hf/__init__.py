"""Runs base models on this machine with transformers. Only this package imports torch directly.

Templates and tokenizers belong in ``prompts/``; rounds and votes belong in ``algorithm/``.
"""

from specfuse_core.hf.backend import LoadedModel, LocalBackend
from specfuse_core.hf.loading import check_files, load_model, look_up, template_of
from specfuse_core.hf.runner import Runner
from specfuse_core.hf.trees import check_distinct

__all__ = [
    "LoadedModel",
    "LocalBackend",
    "Runner",
    "check_distinct",
    "check_files",
    "load_model",
    "look_up",
    "template_of",
]
