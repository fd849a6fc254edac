"""Creates ensembles of tiny random-weight models of any architecture and tokenizer family."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import tiny

from specfuse_core import FusionConfig, FusionEngine
from specfuse_core.hf import LoadedModel, LocalBackend, Runner, template_of
from specfuse_core.prompts.template import ChatTemplate


@cache
def parts(architecture: str, tokens: str, seed: int) -> tuple[LoadedModel, ChatTemplate]:
    model, tokenizer = tiny.pair(architecture, tokens, seed=seed)
    return LoadedModel(Runner(model)), template_of(model, tokenizer)


def engine(members: list[tuple[str, str]], config: FusionConfig, **options: Any) -> FusionEngine:
    """Create an engine over tiny models ``a``, ``b``, ...; each is (architecture, tokenizer)."""
    backends = [
        LocalBackend("abcde"[i], partial(parts, *member, i)) for i, member in enumerate(members)
    ]
    return FusionEngine(backends, config, **options)
