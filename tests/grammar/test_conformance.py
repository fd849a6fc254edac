"""Random-weight ensembles with three tokenizers follow every constraint at high temperature.

The temperature is 1.5, and token limits range from barely enough to large ones.
"""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemas import Schema, agent_schema, draw_root

from specfuse_core import FusionConfig, FusionEngine, JsonSchema, Request, Tool
from specfuse_core.answer.follower import follow

ENSEMBLES = {
    "one": [("llama", "bytelevel"), ("gpt_neox", "metaspace"), ("qwen3", "unigram")],
    "two": [("gemma2", "sentencepiece"), ("gpt2", "wordpiece"), ("lfm2", "bytelevel")],
}


@cache
def engine(name: str) -> FusionEngine:
    pairs = [tiny.pair(*member, seed=i) for i, member in enumerate(ENSEMBLES[name])]
    return FusionEngine.from_models(pairs)


def least_tokens(fused: FusionEngine, **options: Any) -> int:
    """Tokens of the shortest answer, for the model that counts."""
    follower = follow(Request.of("Hello", **options))
    assert follower is not None
    fused.warm_up()
    return fused.backends[0].count_tokens(follower.closing(shortest=True) or "")


def draw(seed: int) -> Schema:
    rng = random.Random(seed)
    return agent_schema(rng, rng.randint(5, 20)) if seed % 12 == 0 else draw_root(rng, seed % 4)


@pytest.mark.parametrize("name", list(ENSEMBLES))
@pytest.mark.parametrize("first", range(0, 120, 20))
def test_every_answer_is_valid(name: str, first: int) -> None:
    for seed in range(first, first + 20):
        schema, rng = draw(seed), random.Random(seed + 1)
        if name != list(ENSEMBLES)[seed % 2]:
            continue
        config = FusionConfig(segment_tokens=rng.choice((1, 3, 10)))
        fused, constraint = engine(name).with_config(config), JsonSchema(schema)
        least = least_tokens(fused, constraint=constraint)
        result = fused.generate(
            "Give me the data.",
            constraint=constraint,
            max_new_tokens=least + rng.choice((0, 1, 7, 40, 100)),
            temperature=1.5,
            seed=seed,
        )
        Draft202012Validator(schema).validate(json.loads(result.text))


@pytest.mark.parametrize("name", list(ENSEMBLES))
@pytest.mark.parametrize("choice", ["auto", "required", "second"])
def test_every_call_is_valid(name: str, choice: str) -> None:
    for seed in range(6):
        rng = random.Random(seed)
        # The windows of the tiny models are small, and tools stand in the prompt.
        schemas = {"first": draw_object(rng), "second": draw_object(rng)}
        tools = [Tool(key, "A tool.", schema) for key, schema in schemas.items()]
        result = engine(name).generate(
            "Do something.",
            tools=tools,
            tool_choice=choice,
            max_new_tokens=rng.choice((60, 250)),
            temperature=1.5,
            seed=seed,
        )
        for call in result.tool_calls:
            Draft202012Validator(schemas[call.name]).validate(call.arguments)
            assert choice in ("auto", "required", call.name)
        assert "<tool_call>" not in result.text


def draw_object(rng: random.Random) -> Schema:
    schema = draw_root(rng, 2)
    while schema.get("type") != "object" or len(str(schema)) > 150:
        schema = draw_root(rng, 2)
    return schema


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(list(ENSEMBLES)),
    st.integers(1, 14),
    st.booleans(),
    st.integers(0, 60),
)
def test_any_schema_any_segments_any_exits(
    seed: int, name: str, segment: int, exits: bool, more: int
) -> None:
    schema = draw_root(random.Random(seed), 2)
    config = FusionConfig(
        segment_tokens=segment, model_exit=exits, exit_warmup=0, exit_temperature=0.02
    )
    fused, constraint = engine(name).with_config(config), JsonSchema(schema)
    limit = least_tokens(fused, constraint=constraint) + more
    result = fused.generate(
        "Hello", constraint=constraint, max_new_tokens=limit, temperature=1.5, seed=seed
    )
    Draft202012Validator(schema).validate(json.loads(result.text))
