"""SpecFuseLLM, in the module where LlamaIndex's own integrations have their class."""

from llamaindex_specfuse.base import SpecFuseLLM

__all__ = ["SpecFuseLLM"]
