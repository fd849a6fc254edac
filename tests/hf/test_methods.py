"""The method of a model appears in a warning if it is slow, and in usage, traces and tables."""

from __future__ import annotations

import io
import json
import warnings
from typing import Any

import pytest
import tiny
import transformers

from specfuse_core import FusionEngine, Generation
from specfuse_core.command.console import Screen
from specfuse_core.errors import SlowMethodWarning
from specfuse_core.hf import probe
from specfuse_core.hf.backend import LocalBackend
from specfuse_core.testing import ScriptedBackend
from specfuse_core.trace import answer_summary, json_lines

SLOWER = ("packed-full", "cropped", "snapshot", "stepwise")


def engine_of(*architectures: str) -> FusionEngine:
    pairs = [tiny.pair(architecture, "bytelevel") for architecture in architectures]
    return FusionEngine.from_models(pairs, names=architectures, progress=False)


def answered(engine: FusionEngine) -> Generation:
    return engine.generate("How many lamps?", max_new_tokens=4, seed=1)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every model refuse every method."""

    def refuse(*_: object) -> float:
        raise RuntimeError("no such cache\nand more lines")

    monkeypatch.setattr(probe, "deviation", refuse)


@pytest.mark.usefixtures("refused")
def test_a_slow_method_is_warned_of_once_per_model_with_each_reason() -> None:
    pair = tiny.pair("llama", "bytelevel")
    engine = FusionEngine.from_models([pair, pair], progress=False)
    with pytest.warns(SlowMethodWarning) as caught:
        answered(engine)
    reasons = "; ".join(f"{name}: RuntimeError: no such cache" for name in SLOWER)
    assert [str(one.message) for one in caught] == [
        "LlamaForCausalLM runs with the method 'reread', which is slower than a model of its kind "
        f"needs, because the faster methods failed ({reasons}). Try another attn_implementation or "
        f"dtype, or report the model with the version of transformers ({transformers.__version__})."
    ]
    # Not again, neither by this engine nor by another over the same object.
    answered(engine)
    answered(FusionEngine.from_models([pair], progress=False))


@pytest.mark.usefixtures("refused")
def test_the_reasons_are_kept() -> None:
    engine = engine_of("llama")
    with pytest.warns(SlowMethodWarning):
        engine.warm_up()
    (backend,) = engine.backends
    assert isinstance(backend, LocalBackend)
    assert backend.model.failures == dict.fromkeys(SLOWER, "RuntimeError: no such cache")


@pytest.mark.usefixtures("refused")
def test_the_warning_can_be_ignored_by_its_category() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowMethodWarning)
        assert answered(engine_of("llama")).usage.models[0].method == "reread"


def test_usage_and_traces_have_the_method_of_each_model() -> None:
    # Warnings are errors here: what these models need is no reason for one.
    engine = engine_of("llama", "bloom", "mamba2")
    expected = {"llama": "packed-full", "bloom": "cropped", "mamba2": "snapshot"}
    assert {backend.method for backend in engine.backends} == {None}
    generation = answered(engine)
    assert {backend.name: backend.method for backend in engine.backends} == expected
    usage = generation.usage
    assert {model.name: model.method for model in usage.models} == expected
    end = json.loads([*json_lines(generation)][-1])
    assert {model["name"]: model["method"] for model in end["usage"]["models"]} == expected
    summary: dict[str, Any] = answer_summary("stop", usage)["models"]
    assert {name: model["method"] for name, model in summary.items()} == expected


def test_a_backend_that_keeps_nothing_has_no_method() -> None:
    generation = answered(FusionEngine([ScriptedBackend("a", "One.")]))
    assert [model.method for model in generation.usage.models] == [None]


def summary_of(generation: Generation, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    screen = io.StringIO()
    Screen(screen, [model.name for model in generation.usage.models]).summary(generation, 1.0)
    return screen.getvalue()


def test_the_summary_groups_the_models_by_method(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = summary_of(answered(engine_of("llama", "bloom", "qwen3")), monkeypatch)
    assert shown.splitlines()[-1] == "cache method packed-full: llama, qwen3 \u00b7 cropped: bloom"


def test_the_summary_names_no_method_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    generation = answered(FusionEngine([ScriptedBackend("a", "One.")]))
    assert "cache method" not in summary_of(generation, monkeypatch)
