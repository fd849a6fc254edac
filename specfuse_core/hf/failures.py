"""Words the errors for a model that cannot be found or loaded, and frees what they hold.

This module looks at no file; ``damage`` finds the file that is damaged.
"""

from __future__ import annotations

import traceback

import transformers
from huggingface_hub import constants

from specfuse_core.config import ModelConfig
from specfuse_core.errors import ModelLoadError, ModelNotFoundError, PickleWeightsError

__all__ = ["drop_locals", "failed", "not_found", "pickled"]


def not_found(config: ModelConfig, what: str, answer: str, error: Exception) -> ModelNotFoundError:
    """Return the error for files that are neither on this machine nor on the hub.

    Args:
        config: the model.
        what: what was looked for, such as ``"the weights"``.
        answer: what the hub said, as a sentence that lacks only its subject.
        error: the error of the hub's client.
    """
    return ModelNotFoundError(
        f"{config.path!r}: {what} could not be found: looked for a directory of that name, in the "
        f"hub's cache ({constants.HF_HUB_CACHE}), and on the hub, which {answer}. Check the name, "
        f"download the model first (`hf download {config.path}`), or give a local directory. "
        f"[{_first_line(error)}]"
    )


def failed(config: ModelConfig, what: str, error: Exception) -> ModelLoadError:
    """Return the error for files that exist but cannot be used."""
    hint = "check the files, the dtype, the device and the free memory"
    if "trust_remote_code" in str(error):
        hint = "it includes its own code: read that code, then allow it with trust_remote_code=True"
    elif "model_type" in str(error) or "model type" in str(error):
        hint = (
            f"check model_type in config.json, or upgrade transformers (this is "
            f"{transformers.__version__})"
        )
    elif what == "the tokenizer":
        hint = (
            "check its files (tokenizer.json and others), or give another tokenizer with "
            "ModelConfig(path=..., tokenizer=...)"
        )
    return ModelLoadError(
        f"{config.path!r}: {what} could not be loaded: {type(error).__name__}: "
        f"{_first_line(error)}; {hint}."
    )


def pickled(config: ModelConfig) -> PickleWeightsError:
    """Return the error for weights that are stored only as pickle."""
    return PickleWeightsError(
        f"{config.path!r}: the weights are stored only as pickle, which can run code when opened; "
        "convert them (model.save_pretrained writes safetensors) or, if you trust their source, "
        "use ModelConfig(path=..., allow_pickle=True) in Python."
    )


def _first_line(error: Exception) -> str:
    lines = list(filter(None, map(str.strip, str(error).splitlines()))) or [type(error).__name__]
    # A line that ends with a colon is completed by the next one.
    first = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return first.rstrip(".,:")


def drop_locals(error: BaseException) -> None:
    """Clear the variables of the functions that raised an error, and of those before it.

    Otherwise the weights of a model that failed stay in memory as long as somebody has the error.
    """
    cleared: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in cleared:
        traceback.clear_frames(following.__traceback__)
        cleared.append(following)
        following = following.__cause__ or following.__context__
