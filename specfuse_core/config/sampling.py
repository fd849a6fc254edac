"""How drafts are sampled."""

from __future__ import annotations

from pydantic import Field

from specfuse_core.config.options import Options

__all__ = ["SamplingParams"]


class SamplingParams(Options):
    """How each base model samples its drafts. The verification of drafts does not depend on it.

    The random numbers depend only on the seed, the base model, the position and the token, so the
    same seed gives the same answer whatever else runs. The papers sample with
    ``temperature=0.6, top_p=0.9``.

    Args:
        temperature: 0 is greedy decoding.
        top_p: sample from the most probable tokens whose probabilities add up to this.
        top_k: sample from this many of the most probable tokens; None for all.
        min_p: leave out tokens less probable than this fraction of the most probable token.
        repetition_penalty: above 1.0, tokens that are in the text already become less probable.
        seed: None uses a new seed for each request, which :attr:`Usage.seed` reports.
    """

    temperature: float = Field(default=0.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=1)
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    repetition_penalty: float = Field(default=1.0, gt=0.0)
    seed: int | None = None
