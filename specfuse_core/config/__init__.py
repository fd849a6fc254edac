"""The options that users set, as pydantic classes, and the errors for wrong options.

Only values and their checks belong here. This package knows nothing about models or text.
"""

from specfuse_core.config.fusion import FusionConfig, ScoreMode
from specfuse_core.config.model import ModelConfig
from specfuse_core.config.options import unknown_option
from specfuse_core.config.sampling import SamplingParams

__all__ = ["FusionConfig", "ModelConfig", "SamplingParams", "ScoreMode", "unknown_option"]
