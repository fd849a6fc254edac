"""Measures the cost of constraints: constrained against unconstrained fused generation, per token.

The bundled models answer the same tool questions with the tools as text only, and with the tools as
constraints. Models with vocabularies of 128,000 tokens write a given JSON document, with and
without its schema. JSON with everyday patterns is closed after each character.
``benchmarks.speed`` uses this module.
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
from specfuse_core.answer.follower import Follower
from specfuse_core.grammar.answers import grammar_of
from specfuse_core.hf import LocalBackend
from training.splits import Split

__all__ = ["bundled_overhead", "closing_cost", "large_vocabulary_overhead"]

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

#: Patterns as users write them, each with a text that it matches.
_PATTERNS = {
    r"\d{3}-\d{4}": "call 555-0199 now",
    r"^\+?[0-9 ()-]{7,15}$": "+47 22 85 50 50",
    r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}": "London SW1A 1AA",
    r"^\d{4}-\d{2}-\d{2}$": "2026-11-25",
    r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?": "at 23:59 sharp",
    r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$": "123e4567-e89b-12d3-a456-426614174000",
    r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}": "ann.lee@example.org",
    r"^https?://[^\s/$.?#][^\s]*$": "https://example.org/a?b=c",
    r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$": "1.12.0-rc.1",
    r"#[0-9a-fA-F]{6}": "the color #ff8800",
    r"^((25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(25[0-5]|2[0-4]\d|1?\d?\d)$": "192.168.10.1",
    r"\$\d+\.\d{2}": "about $12.50 each",
    r"[A-Z]{1,3}-[A-Z]{1,2} \d{1,4}": "B-AB 1234",
    r"^[A-Z]{2}\d+$": "AB123456",
    "abc": "the abc of it",
    "(foo|bar)baz": "a foobaz b",
    ".*abc.*": "letters abc here",
    r"^(Dr\. )?[A-Z][a-z]+( [A-Z][a-z]+)*$": "Dr. Ada King Lovelace",
    r"(ab){2,5}-(cd)+": "ababab-cdcd",
    r"\p{Lu}\p{L}+ \d+": "Straße Äpfel 12",
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


def closing_cost(repeats: int) -> dict[str, Any]:
    """Measure the search for an end after each character of an answer, with one pattern each.

    Returns:
        The milliseconds of the costliest call, and the median and the maximum of the milliseconds
        for a whole answer, over the patterns.
        ``none`` is the number of calls that found no end.
    """
    worst, answers, none = 0.0, [], 0
    for pattern, value in _PATTERNS.items():
        schema = {
            "type": "object",
            "properties": {"value": {"type": "string", "pattern": pattern}},
            "required": ["value"],
            "additionalProperties": False,
        }
        grammar, times = grammar_of(JsonSchema(schema)), []
        for _ in range(max(repeats, 2)):  # the first answer also compiles the grammar
            follower, spent = Follower(grammar or ""), []
            for char in json.dumps({"value": value}, ensure_ascii=False):
                follower.push(char)
                started = time.perf_counter()
                none += follower.closing(shortest=True) is None
                spent.append(1000 * (time.perf_counter() - started))
            times.append(spent)
        calls = [min(each) for each in zip(*times, strict=True)]
        worst = max(worst, *calls)
        answers.append(sum(calls))
    return {
        "patterns": len(_PATTERNS),
        "worst_call_ms": round(worst, 2),
        "answer_ms": round(statistics.median(answers), 1),
        "worst_answer_ms": round(max(answers), 1),
        "none": none,
    }


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
