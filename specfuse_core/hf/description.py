"""Describes a loaded model: adds to a report what is known only after loading.

This module runs no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from specfuse_core.errors import InvalidConstraintError
from specfuse_core.hf.loaded import LoadedModel
from specfuse_core.hf.runner import UNBOUNDED, Runner
from specfuse_core.model_report import ModelReport, TokenizerReport, WeightsReport
from specfuse_core.prompts.survey import survey
from specfuse_core.prompts.template import ChatTemplate

__all__ = ["completed"]


def completed(
    known: ModelReport, model: LoadedModel, template: ChatTemplate, window: int, seconds: float
) -> ModelReport:
    """Return ``known`` with what is known of the loaded model.

    Args:
        known: what was known before loading.
        model: the loaded model.
        template: its chat template, with the tokenizer.
        window: its context window.
        seconds: seconds that loading took.
    """
    ends = sorted(template.ends)
    return replace(
        known,
        adapter_base=model.trained_on,
        context_window=window if window < UNBOUNDED else None,
        template_source="none" if template.plain else known.template_source or "model",
        weights=_weights(model.runner, known.weights),
        method=model.method,
        failures=_failures(model),
        slow=model.slow,
        ends=_texts(template, ends),
        ordinary_ends=_texts(template, [id_ for id_ in ends if id_ not in template.codec.control]),
        template=survey(template),
        tokenizer=_tokenizer(template),
        vocabulary=int(model.runner.config.vocab_size),
        seconds=seconds,
    )


def _failures(model: LoadedModel) -> dict[str, str]:
    # The packed methods differ in the masks that a model takes, and not in speed.
    return {} if model.method.startswith("packed") else dict(model.failures)


def _texts(template: ChatTemplate, ids: Sequence[int]) -> tuple[str, ...]:
    return tuple(template.codec.decode_marked([id_]) for id_ in ids)


def _weights(runner: Runner, expected: WeightsReport | None) -> WeightsReport:
    weights = list(runner.model.parameters())
    kinds = Counter(str(weight.dtype).removeprefix("torch.") for weight in weights)
    packed = any(not weight.is_floating_point() for weight in weights)
    devices = {str(weight.device) for weight in weights}
    return WeightsReport(
        size=sum(weight.numel() * weight.element_size() for weight in weights),
        dtype=next((kind for kind, _ in kinds.most_common(1)), None),
        # Packed weights (quantization) have several parameters per element.
        parameters=None if packed else sum(weight.numel() for weight in weights),
        device=devices.pop() if len(devices) == 1 else None,
        free=expected.free if expected is not None else None,
    )


def _tokenizer(template: ChatTemplate) -> TokenizerReport:
    codec = template.codec
    unconstrained = ""
    try:
        codec.token_bytes()
    except InvalidConstraintError as error:
        unconstrained = str(error)
    return TokenizerReport(codec.kind, codec.vocabulary, unconstrained)
