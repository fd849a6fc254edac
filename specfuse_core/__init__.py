"""specfuse combines several causal language models into one chat model.

This package exports the public names of the core. Importing it does not load torch or
transformers.
"""

from specfuse_core.config import FusionConfig, ModelConfig, SamplingParams
from specfuse_core.errors import FusionError
from specfuse_core.fusion import FusionEngine
from specfuse_core.grammar.constraints import Choice, Grammar, JsonObject, JsonSchema, Regex
from specfuse_core.grammar.tools import Tool
from specfuse_core.model_report import (
    ConversationReport,
    ModelReport,
    TemplateReport,
    TokenizerReport,
    WeightsReport,
)
from specfuse_core.request import Message, Request, ToolCall
from specfuse_core.types import (
    CallDelta,
    Candidate,
    Generation,
    Round,
    Segment,
    Usage,
    Verification,
)

__all__ = [
    "CallDelta",
    "Candidate",
    "Choice",
    "ConversationReport",
    "FusionConfig",
    "FusionEngine",
    "FusionError",
    "Generation",
    "Grammar",
    "JsonObject",
    "JsonSchema",
    "Message",
    "ModelConfig",
    "ModelReport",
    "Regex",
    "Request",
    "Round",
    "SamplingParams",
    "Segment",
    "TemplateReport",
    "TokenizerReport",
    "Tool",
    "ToolCall",
    "Usage",
    "Verification",
    "WeightsReport",
]

__version__ = "0.1.0"
