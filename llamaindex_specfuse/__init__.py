"""The LlamaIndex integration: ``SpecFuseLLM``, an LLM made of several base models."""

from specfuse_core.frameworks.extras import missing_extra

try:
    from llamaindex_specfuse.base import SpecFuseLLM
    from llamaindex_specfuse.events import FusionRoundEvent, FusionTraceHandler, capture
    from llamaindex_specfuse.tokenizer import ConservativeTokenizer
except ModuleNotFoundError as error:
    raise missing_extra(error, "llama_index", "llamaindex") from None

__all__ = [
    "ConservativeTokenizer",
    "FusionRoundEvent",
    "FusionTraceHandler",
    "SpecFuseLLM",
    "capture",
]
