"""Chooses the class of transformers that loads a checkpoint, from its configuration.

The mappings of transformers decide, never the name of a model. This module loads no weights.
"""

from __future__ import annotations

from typing import Any

import transformers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PretrainedConfig,
)

from specfuse_core.config import ModelConfig
from specfuse_core.errors import ModelLoadError

__all__ = ["check_direction", "is_quantized", "loader_of"]


def loader_of(config: ModelConfig, described: PretrainedConfig) -> Any:
    """Return the auto class that loads the weights of a checkpoint.

    Args:
        config: the model.
        described: the configuration that is stored with the weights.

    Raises:
        ModelLoadError: if transformers has no language model for the configuration.
    """
    check_direction(repr(config.path), described)
    own = getattr(described, "auto_map", None) or {}
    if config.trust_remote_code and "AutoModelForCausalLM" in own:
        return AutoModelForCausalLM
    if type(described) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    if type(described) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return AutoModelForImageTextToText
    raise ModelLoadError(
        f"{config.path!r}: a model of the type {described.model_type!r} is not a language model "
        f"that transformers {transformers.__version__} can load; give a causal language model."
    )


def check_direction(name: str, described: PretrainedConfig) -> None:
    """Check that a model is not an encoder-decoder model.

    Args:
        name: the model in error messages.
        described: the configuration of the model.

    Raises:
        ModelLoadError: if it is one.
    """
    if getattr(described, "is_encoder_decoder", False):
        raise ModelLoadError(
            f"{name} is an encoder-decoder model ({described.model_type}), which cannot continue a "
            "text that others wrote; give a causal language model."
        )


def is_quantized(described: PretrainedConfig) -> bool:
    """Whether a checkpoint was quantized before it was saved."""
    configs = (described, described.get_text_config(decoder=True))
    return any(getattr(one, "quantization_config", None) for one in configs)
