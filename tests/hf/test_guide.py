"""Constraints in the local backend: they mask drafts and change nothing else."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import tiny
import torch
from ensembles import engine, parts
from naive import assert_same_answer

from specfuse_core import Choice, FusionConfig, FusionEngine, JsonSchema, Message, Regex, Request
from specfuse_core.grammar.answers import grammar_of
from specfuse_core.hf import LocalBackend
from specfuse_core.hf.guide import Guide, Vocabulary
from specfuse_core.prompts.codec import TextCodec
from specfuse_core.types import Candidate

TEXTS = ['{"name": "Anna", "n": 12}', "Größe: 数量 🎉\n\n  x", "<tool_call>\n", "don't a  b"]
LOSSLESS = ("bytelevel", "metaspace", "sentencepiece")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "n": {"type": "integer"}},
    "required": ["name", "n"],
    "additionalProperties": False,
}
TOOLS = [
    {"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}, "required": ["a"]}},
    {"name": "look", "parameters": {"properties": {"what": {"enum": ["here", "there"]}}}},
]
REQUESTS: dict[str, dict[str, Any]] = {
    "schema": {"constraint": JsonSchema(SCHEMA)},
    "regex": {"constraint": Regex(r"[a-z ]{4,30}\.( é\d+)*")},
    "choice": {"constraint": Choice(["the hall", "the attic", "théâtre"])},
    "tools": {"tools": TOOLS},
    "forced": {"tools": TOOLS, "tool_choice": "required"},
    "either": {"tools": TOOLS, "constraint": JsonSchema(SCHEMA)},
}
TRIOS = [
    [("llama", "bytelevel"), ("gpt_neox", "metaspace"), ("qwen3", "unigram")],
    [("gemma2", "sentencepiece"), ("mamba", "bytelevel"), ("phi", "metaspace")],
]


@pytest.mark.parametrize("family", LOSSLESS)
@pytest.mark.parametrize("text", TEXTS)
def test_the_bytes_of_the_tokens_are_those_of_the_text(family: str, text: str) -> None:
    codec = TextCodec(tiny.tokenizer(family))
    tokens = codec.token_bytes()
    ids = codec.encode(text, continuing=True).ids
    assert b"".join(tokens[id_] for id_ in ids).decode() == text


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_control_tokens_have_no_bytes(family: str) -> None:
    codec = TextCodec(tiny.tokenizer(family))
    tokens = codec.token_bytes()
    assert len(tokens) == codec.vocabulary
    assert all(tokens[id_] == b"" for id_ in codec.control)


@pytest.mark.parametrize("kind", list(REQUESTS))
@pytest.mark.parametrize("trio", [0, 1])
def test_the_cached_engine_is_the_naive_engine(kind: str, trio: int) -> None:
    temperature = 1.2 * ((list(REQUESTS).index(kind) + trio) % 2)
    fused = engine(TRIOS[trio], FusionConfig(segment_tokens=4, call_segment_tokens=30))
    result = assert_same_answer(
        fused,
        "What is in the hall?",
        tolerance=5e-4,
        max_new_tokens=40,
        temperature=temperature,
        seed=trio,
        **REQUESTS[kind],
    )
    assert result.segments


def test_scores_are_those_of_the_models_without_a_mask() -> None:
    backend = LocalBackend("a", partial(parts, "llama", "bytelevel", 0))
    backend.load()
    candidates = [Candidate('{"name": "An'), Candidate("no JSON at all"), Candidate("", True)]
    rows = []
    for options in ({}, {"constraint": JsonSchema(SCHEMA)}):
        session = backend.start(Request.of("Hello", seed=1, **options))
        session.draft(3)
        rows.append([each.logprobs for each in session.verify(candidates)])
        session.close()
    for free, ruled in zip(*rows, strict=True):
        assert ruled == pytest.approx(free, abs=1e-4)


def test_forced_text_costs_no_forward_pass() -> None:
    schema = {"type": "object", "properties": {"a": {"const": "b" * 40}}, "required": ["a"]}
    fused = engine(TRIOS[0], FusionConfig())
    closed = {**schema, "additionalProperties": False}
    result = fused.generate("Hello", constraint=JsonSchema(closed))
    assert (result.finish_reason, len(result.rounds)) == ("stop", 0)
    assert sum(model.cost.forward_passes for model in result.usage.models) == 0


def test_an_answer_that_goes_on_from_a_begun_turn_obeys() -> None:
    turns = [Message("user", "Where?"), Message("assistant", "It is in")]
    for trio in TRIOS:
        fused = engine(trio, FusionConfig(segment_tokens=2))
        result = fused.generate(turns, constraint=Choice([" the hall", " the attic"]), seed=1)
        assert result.text in (" the hall", " the attic")


def guide(family: str, pattern: str) -> tuple[Guide, TextCodec]:
    codec = TextCodec(tiny.tokenizer(family))
    grammar = grammar_of(Regex(pattern))
    assert grammar is not None
    return Guide(Vocabulary(codec, codec.vocabulary), grammar, None), codec


@pytest.mark.parametrize("family", LOSSLESS)
def test_a_guide_goes_on_by_ids_and_by_text_and_comes_back(family: str) -> None:
    guided, codec = guide(family, r"lamps? and [a-z]+\.")
    first = guided.allowed()
    for id_ in codec.encode("lamps and", continuing=True).ids:
        assert guided.take(id_)
    assert guided.drafted == b"lamps and"
    assert not guided.may_end
    guided.rewind()
    assert torch.equal(guided.allowed(), first)
    guided.commit("lamp and boats.")
    assert guided.may_end and guided.text == "lamp and boats."


def test_an_id_that_the_grammar_forbids_changes_nothing() -> None:
    guided, codec = guide("bytelevel", "[0-9]+")
    before = guided.allowed()
    letter = codec.encode("a").ids[0]
    assert not before[letter] and not guided.take(letter)
    assert torch.equal(guided.allowed(), before) and guided.drafted == b""


def test_a_model_whose_tokenizer_cannot_write_what_is_asked_still_obeys() -> None:
    pairs = [tiny.pair("llama", "wordpiece"), tiny.pair("gpt2", "unigram", seed=1)]
    fused = FusionEngine.from_models(pairs)
    result = fused.generate("Hello", constraint=Regex("数{3}\n\t🎉X"), max_new_tokens=200)
    assert result.text == "数数数\n\t🎉X"


def test_a_large_vocabulary_is_compiled_once() -> None:
    codec = TextCodec(tiny.tokenizer("bytelevel"))
    vocabulary = Vocabulary(codec, 128_000)
    grammar = grammar_of(JsonSchema(SCHEMA))
    assert grammar is not None
    first, second = (Guide(vocabulary, grammar, None) for _ in range(2))
    assert torch.equal(first.allowed(), second.allowed())
    assert first.allowed().shape == (128_000,)
    assert not first.allowed()[codec.vocabulary :].any()
    assert (len(vocabulary._tokenizers), len(vocabulary._compiled)) == (1, 1)
