"""Adapters by name: several over one set of weights, each as if it were merged into a copy."""

from __future__ import annotations

import copy
import gc
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import adapters
import peft
import pytest
import tiny
import torch
from adapters import IDS, QUESTION, Case, close, logits, runner_of, same
from peft import PeftModel

from specfuse_core import FusionEngine, Message, ModelConfig
from specfuse_core.errors import SlowMethodWarning
from specfuse_core.hf import loading
from specfuse_core.hf.adapters import with_adapter
from specfuse_core.hf.linears import OneDnnLinear
from specfuse_core.models.bases import with_base
from specfuse_core.models.declared import declared_window

# PEFT uses a name of transformers that is about to be dropped.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning"),
    pytest.mark.usefixtures("onednn_everywhere"),
]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    # Tracebacks of other tests can keep weights until they are collected.
    gc.collect()
    return Case(tmp_path)


def test_each_adapter_answers_as_when_it_is_merged(case: Case) -> None:
    ours, whole = case.engine(), case.whole()
    assert ours.models == ("base", "first", "second")
    answer = ours.generate(QUESTION, max_new_tokens=12)
    same(answer, whole.generate(QUESTION, max_new_tokens=12))
    assert any(len(set(played.candidates)) == 3 for played in answer.rounds)
    methods = [backend.method for backend in ours.backends]
    assert methods == [backend.method for backend in whole.backends]
    assert all(method.startswith("packed") for method in methods if method)


@pytest.mark.parametrize(
    ("architecture", "method"),
    [
        ("gpt2", "packed-full"),
        ("gemma3", "packed-both"),
        ("bloom", "cropped"),
        ("mamba2", "snapshot"),
    ],
)
def test_adapters_are_run_with_the_method_of_their_base(
    tmp_path: Path, architecture: str, method: str
) -> None:
    case = Case(tmp_path, architecture)
    engine = case.engine(case.config(0), case.config(1))
    for index, model in enumerate(case.models):
        assert close(logits(runner_of(engine, index)), logits(adapters.merged(model)))
    assert [backend.method for backend in engine.backends] == [method] * 2


def test_the_weights_of_the_base_are_there_once(case: Case, loads: list[str]) -> None:
    engine = case.engine(warm_up=True)
    assert loads == [str(case.base)]
    base, *others = (dict(runner_of(engine, i).model.named_parameters()) for i in range(3))
    places = {weight.data_ptr() for weight in base.values()}
    for weights in others:
        shared = {name: weight for name, weight in weights.items() if "lora" not in name}
        assert {weight.data_ptr() for weight in shared.values()} == places
    # The layers that are run as well, besides those of the adapters.
    for index in range(3):
        run = runner_of(engine, index)._tree.named_parameters()
        assert {w.data_ptr() for name, w in run if "lora" not in name} == places


def test_threads_do_not_change_the_answer(case: Case) -> None:
    engine, threads = case.engine(), case.engine(parallel=True)
    alone = engine.generate(QUESTION, max_new_tokens=12)
    same(threads.generate(QUESTION, max_new_tokens=12), alone)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(threads.generate, QUESTION, max_new_tokens=12) for _ in range(2)]
        for job in jobs:
            same(job.result(), alone)


def test_adapters_run_with_onednn_on_a_cpu(case: Case) -> None:
    runner = runner_of(case.engine(case.config(0)))
    assert {type(m) for m in runner._tree.modules() if isinstance(m, torch.nn.Linear)} == {
        OneDnnLinear
    }


def loaded(base: Path) -> list[Any]:
    """The weights in memory that were loaded from a directory. Other tests may keep others."""
    return [model for key, model in loading._bases.items() if str(base) in key]


def test_the_base_is_let_go_with_its_last_adapter(case: Case) -> None:
    engine = case.engine(case.config(0), warm_up=True)
    (base,) = loaded(case.base)
    other = case.engine(case.config(1), warm_up=True)
    assert runner_of(other)._tree is not runner_of(engine)._tree
    assert [model is base for model in loaded(case.base)] == [True]
    del engine, other, base
    gc.collect()
    assert loaded(case.base) == []


def test_an_adapter_listed_twice_is_one_model_that_draws_twice(case: Case) -> None:
    engine = case.engine(case.config(0), case.config(0))
    assert engine.models == ("first", "first#2")
    answer = engine.generate(QUESTION, temperature=0.8, seed=1, max_new_tokens=12)
    assert engine.backends[0].model is engine.backends[1].model
    assert any(len(set(played.candidates)) == 2 for played in answer.rounds)


def test_an_adapter_given_as_a_model_loads_its_base(case: Case) -> None:
    engine = case.engine(str(case.base), *map(str, case.paths))
    assert engine.models == ("base", "first", "second")
    for index, model in enumerate(case.models, start=1):
        assert close(logits(runner_of(engine, index)), logits(model))
    assert len(loaded(case.base)) == 1
    assert declared_window(ModelConfig(path=str(case.paths[0]))) == 512


def test_training_may_leave_a_config_beside_the_adapter(case: Case) -> None:
    shutil.copy(case.base / "config.json", case.paths[0])
    engine = case.engine(str(case.paths[0]))
    assert close(logits(runner_of(engine)), logits(case.models[0]))


def test_revisions_of_the_adapter_and_of_its_base_are_kept_apart(case: Case) -> None:
    file = case.paths[0] / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "revision": "v7"}))
    based = with_base(ModelConfig(path=str(case.paths[0]), revision="v2", dtype="float32"))
    assert based == ModelConfig(
        path=str(case.base),
        revision="v7",
        adapter=str(case.paths[0]),
        adapter_revision="v2",
        dtype="float32",
    )


def test_the_tokenizer_of_an_adapter_is_used(case: Case) -> None:
    shape = "{% for m in messages %}{{ m.content }} !{% endfor %}"
    tiny.tokenizer("bytelevel", shape).save_pretrained(case.paths[1])
    engine = case.engine(case.config(0), case.config(1))
    first, second = (backend.template for backend in engine.backends)
    message = [Message("user", "Hello")]
    assert tiny.tokenizer("bytelevel").decode(second.prompt(message).ids) == "Hello !"
    assert "<|im_start|>" in tiny.tokenizer("bytelevel").decode(first.prompt(message).ids)


@pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings=True.:UserWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"modules_to_save": ["lm_head"]},
        {"bias": "lora_only"},
    ],
    ids=str,
)
def test_all_kinds_of_lora_are_as_peft_runs_them_and_leave_the_base_alone(
    case: Case, tmp_path: Path, options: dict[str, Any]
) -> None:
    adapters.save_adapter(tmp_path / "kind", case.base, 1, **options)
    base = tiny.pair("llama", "bytelevel")[0]
    plain = logits(base)
    weights = {weight.data_ptr() for weight in base.parameters()}
    expected = PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path / "kind")).eval()
    config = ModelConfig(path="base", adapter=str(tmp_path / "kind"))
    model = with_adapter(base, config, ModelConfig(path=str(tmp_path / "kind")))
    assert close(logits(model), logits(expected))
    assert not close(logits(model), plain)
    assert torch.equal(logits(base), plain)
    # Only PiSSA and OLoRA change weights of the base model: those with an adapter.
    changed = 3 * base.config.num_hidden_layers if "init_lora_weights" in options else 0
    shared = weights & {weight.data_ptr() for weight in model.parameters()}
    assert len(shared) == len(weights) - changed


def test_an_adapter_that_is_not_lora_shares_the_weights_too(case: Case, tmp_path: Path) -> None:
    model = tiny.pair("llama", "bytelevel")[0]
    model.name_or_path = str(case.base)
    config = peft.IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[]
    )
    made = adapters.adapted(model, config, 3)
    made.save_pretrained(tmp_path / "ia3")
    engine = case.engine(
        str(case.base), ModelConfig(path=str(case.base), adapter=str(tmp_path / "ia3"))
    )
    assert close(logits(runner_of(engine, 1)), logits(made))
    places = {weight.data_ptr() for weight in runner_of(engine).model.parameters()}
    weights = runner_of(engine, 1).model.parameters()
    assert places <= {weight.data_ptr() for weight in weights}


def test_tokens_that_were_added_in_training_come_with_their_rows(tmp_path: Path) -> None:
    base = adapters.save_base(tmp_path / "base")
    model, tokenizer = tiny.pair("llama", "bytelevel")
    before = len(tokenizer)
    tokenizer.add_tokens(["<mark>"])
    model.resize_token_embeddings(before + 1, mean_resizing=False)
    made = adapters.adapted(model, adapters.lora(["q_proj"]), 1)
    made.save_pretrained(tmp_path / "grown", save_embedding_layers=True)
    tokenizer.save_pretrained(tmp_path / "grown")
    engine = FusionEngine.from_pretrained(
        [str(base), ModelConfig(path=str(base), adapter=str(tmp_path / "grown"))], progress=False
    )
    assert logits(runner_of(engine)).shape[-1] == before
    assert close(logits(runner_of(engine, 1), [*IDS, before]), logits(made, [*IDS, before]))
    assert runner_of(engine, 0).config.vocab_size == before
    assert runner_of(engine, 1).config.vocab_size == before + 1
    assert engine.generate("<mark>", max_new_tokens=8).finish_reason


@pytest.mark.filterwarnings("ignore:Position ids are not supported")
@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_virtual_tokens_are_exact_and_slow(tmp_path: Path, kind: str) -> None:
    base = adapters.save_base(tmp_path / "base")
    made = {"prompt": peft.PromptTuningConfig, "prefix": peft.PrefixTuningConfig}[kind]
    plain = tiny.pair("llama", "bytelevel")[0]
    plain.name_or_path = str(base)
    model = adapters.adapted(plain, made(task_type="CAUSAL_LM", num_virtual_tokens=3), seed=1)
    model.save_pretrained(tmp_path / kind)
    engine = FusionEngine.from_pretrained(
        [ModelConfig(path=str(base), adapter=str(tmp_path / kind))], progress=False
    )
    with pytest.warns(SlowMethodWarning, match="runs with the method 'reread'"):
        answer = engine.generate(QUESTION, max_new_tokens=12)
    context = engine.backends[0].model.context(0)
    context.extend(IDS)
    assert close(context.logits_after(len(IDS) - 1), logits(model)[-1])
    assert answer.finish_reason


def test_a_device_map_and_an_adapter_work_together(case: Case) -> None:
    whole: Any = {"": "cpu"}
    engine = case.engine(case.config(0, device_map=whole), case.config(1, device_map="cpu"))
    for index, model in enumerate(case.models):
        assert close(logits(runner_of(engine, index)), logits(model))
