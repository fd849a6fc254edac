"""Base models run on this machine by transformers; the only place that imports torch."""

from specfuse_core.hf.backend import LoadedModel, LocalBackend
from specfuse_core.hf.loading import check_files, load_model, template_of
from specfuse_core.hf.runner import Runner

__all__ = [
    "LoadedModel",
    "LocalBackend",
    "Runner",
    "check_files",
    "load_model",
    "template_of",
]
