"""Measures the cost of constraints: constrained against unconstrained fused generation, per token.

The bundled models answer the same tool questions with the tools as text only, and with the tools as
constraints. Models with vocabularies of 128,000 tokens write a given JSON document, with and
without its schema. ``benchmarks.speed`` uses this module.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.evaluation.answers import draw
from benchmarks.evaluation.calls import take_tools
from benchmarks.hf.ensemble import tokenizer_of
from specfuse_core import FusionConfig, FusionEngine, Generation, JsonSchema, Request
from specfuse_core.hf import LocalBackend
from training.splits import Split

__all__ = ["bundled_overhead", "large_vocabulary_overhead"]

_VOCABULARY = 128_000
_RECORDS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "title": {"type": "string", "maxLength": 60},
            "pages": {"type": "integer", "minimum": 1, "maximum": 5000},
            "kind": {"enum": ["novel", "essay", "poem"]},
        },
        "required": ["title", "pages", "kind"],
        "additionalProperties": False,
    },
    "minItems": 2,
}


def bundled_overhead(repeats: int) -> dict[str, Any]:
    """Measure tool questions that both variants answer with a tool call."""
    engine = FusionEngine.bundled(FusionConfig(call_segment_tokens=None), progress=False)
    engine.warm_up()
    ratios = []
    for question in draw(["tools"], Split.VALIDATION, [1], 30):
        turns, tools = take_tools(question.sample.prompt)
        plain: list[Any] = [turn.as_dict() for turn in question.sample.prompt]
        bare: list[Any] = [turn.as_dict() for turn in turns]
        free = partial(engine.generate, plain, max_new_tokens=160)
        ruled = partial(engine.generate, bare, tools=tools, max_new_tokens=160)
        if tools and free().text.startswith("<tool_call>") and ruled().tool_calls:
            ratios.append(_ratio(free, ruled, repeats))
    return {"questions": len(ratios), "constrained_over_free": _median(ratios)}


def large_vocabulary_overhead(repeats: int) -> dict[str, Any]:
    """Measure two models with vocabularies of 128,000 tokens that write one document."""
    pairs = [_model(_tokenizer(family), seed) for seed, family in enumerate(("bytelevel", "words"))]
    engine = FusionEngine.from_models(pairs, names=["a", "b"])
    engine.warm_up()
    books = [{"title": f"The {i + 7} boats of the sea", "pages": 131 * i, "kind": "novel"}
             for i in range(1, 6)]  # fmt: skip
    document = json.dumps(books)
    for backend in engine.backends:
        assert isinstance(backend, LocalBackend)
        backend._chooser = partial(_Typist, backend, document)  # type: ignore[method-assign]
    free = partial(engine.generate, "List the books.", max_new_tokens=400)
    ruled = partial(free, constraint=JsonSchema(_RECORDS))
    if not free().text == ruled().text == document:
        raise RuntimeError("the models do not write the document")
    ratios = [_ratio(free, ruled, 1) for _ in range(repeats)]
    return {"vocabulary": _VOCABULARY, "constrained_over_free": _median(ratios)}


class _Typist:
    """Chooses the next token of a document. It also computes the argmax, as a greedy sampler."""

    def __init__(self, backend: LocalBackend, document: str, request: Request) -> None:
        self._codec = backend.template.codec
        self._document = document
        self._start = len(backend.template.prompt(request.messages).ids)
        self._end = min(backend.template.ends)

    def choose(self, logits: Tensor, position: int, context: Sequence[int]) -> int:
        logits.argmax()
        typed = self._codec.decode(context[self._start :])
        rest = self._document[len(typed) :]
        return self._codec.encode(rest).ids[0] if rest else self._end


def _ratio(free: Callable[[], Generation], ruled: Callable[[], Generation], repeats: int) -> float:
    """Return the CPU time per token of ``ruled`` divided by that of ``free``, measured in turns."""
    found: list[list[float]] = [[], []]
    for _ in range(repeats):
        for work, seconds in zip((free, ruled), found, strict=True):
            started = time.process_time()
            result = work()
            spent = time.process_time() - started
            seconds.append(spent / max(1, result.usage.completion_tokens))
    return statistics.median(found[1]) / statistics.median(found[0])


def _median(ratios: list[float]) -> float:
    return round(statistics.median(ratios), 3)


def _tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Return a trained tokenizer, extended with pairs of its tokens to a large vocabulary."""
    state = json.loads(tokenizer_of(family, 16_000).to_str())
    vocabulary: dict[str, int] = state["model"]["vocab"]
    tokens, rng = list(vocabulary), random.Random(family)
    while len(vocabulary) < _VOCABULARY:
        vocabulary.setdefault(rng.choice(tokens) + rng.choice(tokens), len(vocabulary))
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        eos_token="</s>",
        chat_template="{{ messages[0].content }}",
    )


def _model(tokenizer: PreTrainedTokenizerFast, seed: int) -> tuple[Any, PreTrainedTokenizerFast]:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=4,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval(), tokenizer
