"""specfuse as a LlamaIndex LLM."""

from llamaindex_specfuse.base import SpecFuseLLM
from llamaindex_specfuse.events import FusionRoundEvent, FusionTraceHandler, capture
from llamaindex_specfuse.tokenizer import ConservativeTokenizer

__all__ = [
    "ConservativeTokenizer",
    "FusionRoundEvent",
    "FusionTraceHandler",
    "SpecFuseLLM",
    "capture",
]
