"""specfuse: one chat model made out of several.

The public names of the core. Importing this package loads neither torch nor transformers.
"""

from specfuse_core.config import FusionConfig, ModelConfig, SamplingParams
from specfuse_core.errors import FusionError
from specfuse_core.fusion import FusionEngine
from specfuse_core.types import (
    Candidate,
    Generation,
    Message,
    Request,
    Round,
    Segment,
    ToolCall,
    Usage,
    Verification,
)

__all__ = [
    "Candidate",
    "FusionConfig",
    "FusionEngine",
    "FusionError",
    "Generation",
    "Message",
    "ModelConfig",
    "Request",
    "Round",
    "SamplingParams",
    "Segment",
    "ToolCall",
    "Usage",
    "Verification",
]

__version__ = "0.1.0"
