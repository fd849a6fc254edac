"""How drafts are sampled."""

from __future__ import annotations

from pydantic import Field

from specfuse_core.config.options import Options

__all__ = ["SamplingParams"]


class SamplingParams(Options):
    """How each base model samples its drafts.

    The verification of drafts does not depend on these options: scores use the unchanged
    probabilities of the models. The random numbers depend only on the seed, the base model, the
    position and the token, so the same seed gives the same answer, even if other requests run at
    the same time. The papers (arXiv 2412.07380) sample with ``temperature=0.6, top_p=0.9``.

    Args:
        temperature: divisor of the logits; 0 is greedy decoding.
        top_p: sample from the most probable tokens whose probabilities add up to this.
        top_k: sample from this many of the most probable tokens; None for all.
        min_p: leave out tokens less probable than this fraction of the most probable token.
        repetition_penalty: above 1.0, tokens that occur in the text become less probable, as in
            transformers; 1.0 has no effect.
        seed: seed of the random numbers. None draws a new one for each request, which
            :attr:`Usage.seed` reports.

    Raises:
        UnknownOptionError: if an option does not exist.
        InvalidOptionError: if the value of an option has the wrong type or is out of range.
    """

    temperature: float = Field(default=0.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=1)
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    repetition_penalty: float = Field(default=1.0, gt=0.0)
    seed: int | None = None
