"""Position encodings that depend on the length: cached answers are those of full passes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from ensembles import engine
from naive import assert_same_answer, never_ending
from packaging.version import Version

from specfuse_core import FusionConfig, FusionEngine, Message, ModelConfig
from specfuse_core.errors import SlowMethodWarning
from specfuse_core.hf import Runner, probe
from specfuse_core.hf.probe import METHODS, choose_method, deviation
from specfuse_core.models.declared import declared_window

QUESTION = "How many lamps are in the <|im_end|> hall?"
#: In transformers 5.16, generate goes on with the frequencies of the shorter text, and longrope for
#: some layers only raises an UnboundLocalError. Releases between these two were not tried.
_RECENT = pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.24"), reason="transformers has a fault there"
)
#: What is plainly wrong, not just rounded.
WRONG = 0.02


def long_prompt(fused: FusionEngine, index: int = 0) -> int:
    return fused.backends[index].count_prompt_tokens([Message("user", QUESTION)])


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("segment_tokens", [3, 14])
def test_an_answer_across_the_boundary_equals_the_naive_engines(
    temperature: float, segment_tokens: int
) -> None:
    members = [("phi3", "bytelevel"), ("phi3", "unigram"), ("llama", "metaspace")]
    fused = never_ending(
        engine(members, FusionConfig(method="specem", segment_tokens=segment_tokens))
    )
    prompts = [long_prompt(fused, index) for index in (0, 1)]
    assert max(prompts) < 64
    answer = assert_same_answer(fused, QUESTION, temperature=temperature, seed=3, max_new_tokens=64)
    assert min(prompts) + answer.usage.completion_tokens > 70
    # Some candidates of others cross the boundary, and not all of them win.
    assert len({played.author for played in answer.rounds}) > 1


@pytest.mark.parametrize("question", [QUESTION, QUESTION * 4])
def test_an_answer_with_dynamic_scaling_equals_the_naive_engines(question: str) -> None:
    tokenizer = tiny.tokenizer("bytelevel")
    model = tiny.model("llama", len(tokenizer), **tiny.dynamic(64))
    other = tiny.pair("gpt_neox", "unigram", seed=1)
    fused = FusionEngine.from_models(
        [(model, tokenizer), other], FusionConfig(segment_tokens=5), progress=False
    )
    assert fused.backends[0].context_window == 256
    fused.warm_up()
    with pytest.warns(SlowMethodWarning) as caught:
        answer = assert_same_answer(never_ending(fused), question, max_new_tokens=50)
    assert long_prompt(fused) + answer.usage.completion_tokens > 64
    (warning,) = caught
    assert str(warning.message) == (
        "LlamaForCausalLM is slow beyond 64 tokens, because its position encodings change with the "
        "length, so that it reads the whole text again for each token; shorten the conversation or "
        "the answer."
    )


@_RECENT
def test_one_model_alone_writes_what_its_own_generate_writes_across_the_boundary() -> None:
    tokenizer = tiny.characters()
    model = tiny.model("phi3", len(tokenizer), seed=7)
    config = FusionConfig(segment_tokens=7)
    fused = FusionEngine.from_models([(model, tokenizer)], config, progress=False)
    prompt = fused.backends[0].template.prompt([Message("user", "How many lamps?")]).ids
    control = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>"]
    with torch.inference_mode():
        whole = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=90,
            min_new_tokens=90,
            do_sample=False,
            suppress_tokens=tokenizer.convert_tokens_to_ids(control),
            pad_token_id=tokenizer.pad_token_id,
        )
    expected = whole[0, len(prompt) :].tolist()
    answer = never_ending(fused).generate("How many lamps?", max_new_tokens=90)
    assert len(prompt) < 60
    assert fused.backends[0].template.codec.encode(answer.text).ids == expected
    # A single pass reads the line again: the number of passes stays that of the tokens.
    assert answer.usage.models[0].cost.forward_passes == 90


def test_requests_on_both_sides_of_the_boundary_do_not_disturb_each_other() -> None:
    members = [("phi3", "bytelevel"), ("phi3", "bytelevel")]
    fused = engine(members, FusionConfig(segment_tokens=4))
    ask = partial(fused.generate, max_new_tokens=24, seed=1, temperature=0.8)
    questions = ["How?", QUESTION * 4] * 3
    alone = [ask(question) for question in questions[:2]]
    with ThreadPoolExecutor(4) as pool:
        beside = [*pool.map(ask, questions)]
    for index, answer in enumerate(beside):
        expected = alone[index % 2]
        assert answer.text == expected.text
        for played, other in zip(answer.rounds, expected.rounds, strict=True):
            assert played.votes == pytest.approx(other.votes, abs=1e-4)


# The probe


def far(kind: str) -> Runner:
    """A model whose boundary is far beyond the test sequence of the probe."""
    if kind == "dynamic":
        return Runner(tiny.model("llama", **tiny.dynamic(4096, 40.0)))
    return Runner(tiny.model("phi3", original_max_position_embeddings=4096, **PHI[kind]))


PHI: dict[str, dict[str, Any]] = {
    "longrope": {"max_position_embeddings": 8192},
    "window": {"max_position_embeddings": 8192, "sliding_window": 2048},
}


@pytest.mark.parametrize("kind", ["longrope", "window", "dynamic"])
def test_the_probe_plays_its_scene_across_the_boundary(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = far(kind)
    before = runner.model.config.to_dict()
    choice = choose_method(runner)
    assert choice.method == ("packed-window" if kind == "window" else "packed-full")
    assert not choice.slow
    assert deviation(runner, METHODS[choice.method]) < 5e-4
    # Without a second context, each method with a cache is wrong, and the probe sees it.
    monkeypatch.setattr(probe, "CrossingContext", lambda make, *given: make(*given[:2]))
    for method in ("packed-full", "cropped", "snapshot"):
        assert deviation(runner, METHODS[method]) > WRONG
    assert (runner.rope.boundary, runner.rope.many) == (4096, kind == "dynamic")
    assert runner.model.config.to_dict() == before


@pytest.mark.parametrize("method", ["snapshot", "stepwise"])
def test_a_method_that_steps_through_the_beginning_of_a_line_is_measured_as_wrong(
    method: str,
) -> None:
    assert deviation(far("longrope"), METHODS[method]) > WRONG


def test_half_precision_takes_the_same_method() -> None:
    runner = Runner(tiny.model("phi3").bfloat16())
    assert choose_method(runner).method == "packed-full"


@_RECENT
def test_boundaries_that_differ_by_layer_are_read_again_for_each_token() -> None:
    longrope = tiny.ARCHITECTURES["phi3"][1]["rope_parameters"]
    runner = Runner(
        tiny.model(
            "gemma3",
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
                "full_attention": {**longrope, "original_max_position_embeddings": 64},
            },
        )
    )
    assert (runner.rope.boundary, runner.rope.many) == (64, False)
    choice = choose_method(runner)
    assert choice.method == "packed-both"


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, 1024),
        ({"type": "dynamic", "factor": 4}, 2048),
        ({"type": "dynamic", "factor": 2.0, "alpha": 1000.0}, 512),
        ({"rope_type": "linear", "factor": 2.0}, 512),
        ({"rope_type": "longrope", "original_max_position_embeddings": 64}, 512),
        ("dynamic", 512),
    ],
)
def test_dynamic_scaling_extends_the_declared_window(
    scaling: Any, expected: int, tmp_path: Path
) -> None:
    config = {"max_position_embeddings": 512, "rope_scaling": scaling}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert declared_window(ModelConfig(path=str(tmp_path))) == expected


def test_the_declared_window_is_that_of_the_loaded_model(tmp_path: Path) -> None:
    model = tiny.model("llama", **tiny.dynamic(64, 2.0))
    model.save_pretrained(tmp_path)
    assert declared_window(ModelConfig(path=str(tmp_path))) == Runner(model).context_window == 128
