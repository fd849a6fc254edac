"""SpecFuseLLM at the import path of LlamaIndex's own integrations.

``llama_index`` and ``llama_index.llms`` are namespace packages: neither this distribution nor
``llama-index-core`` has an ``__init__.py`` there.
"""

from llama_index.llms.specfuse.base import SpecFuseLLM

from llamaindex_specfuse import FusionRoundEvent, FusionTraceHandler, capture

__all__ = ["FusionRoundEvent", "FusionTraceHandler", "SpecFuseLLM", "capture"]
