"""Engines that a process shares, what is known of models before they load, and time limits."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from specfuse_core import FusionConfig, FusionEngine, ModelConfig
from specfuse_core.answer.deadline import Deadline
from specfuse_core.bundled import bundled_models
from specfuse_core.errors import (
    AnswerTimeoutError,
    DuplicateNameError,
    EmptyEnsembleError,
    InvalidLimitError,
)
from specfuse_core.frameworks.registry import (
    model_configs,
    model_names,
    release_engines,
    shared_engine,
)
from specfuse_core.hf import LocalBackend
from specfuse_core.models.declared import declared_window
from specfuse_core.request import Message
from specfuse_core.testing import ScriptedBackend

READER = next(path for path in bundled_models() if path.name == "reader")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    release_engines()
    yield
    release_engines()


def test_the_same_models_are_one_engine_however_they_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(READER.parent)
    one = shared_engine([str(READER)])
    assert shared_engine([READER]) is one
    assert shared_engine("reader") is one
    assert shared_engine([{"path": "./reader/"}]) is one
    assert shared_engine([ModelConfig(path=str(READER), name="other")]) is not one
    assert shared_engine([str(READER)], parallel=True) is not one
    assert shared_engine() is shared_engine(None)


def test_names_are_those_of_the_engine() -> None:
    models = [str(READER), READER, ModelConfig(path=str(READER), name="third")]
    assert model_names(models) == shared_engine(models).models == ("reader", "reader#2", "third")
    with pytest.raises(DuplicateNameError):
        model_names([ModelConfig(path="a", name="x"), ModelConfig(path="b", name="x")])


def test_released_engines_are_made_anew() -> None:
    one = shared_engine([READER])
    release_engines()
    assert shared_engine([READER]) is not one


def test_no_models_are_refused_and_none_named_are_the_bundled_ones() -> None:
    with pytest.raises(EmptyEnsembleError, match="bundled"):
        shared_engine([])
    assert [Path(config.path).name for config in model_configs(None)] == [
        path.name for path in bundled_models()
    ]


def test_an_engine_tells_its_window_before_it_loads() -> None:
    engine = shared_engine([READER])
    (backend,) = engine.backends
    assert isinstance(backend, LocalBackend)
    assert engine.declared_window == 2048
    assert not backend.ready
    assert engine.declared_window == engine.context_window
    assert backend.ready


def test_engines_of_other_knobs_and_deep_copies_load_nothing_again() -> None:
    engine = shared_engine([READER])
    other = copy.deepcopy(engine.with_config(FusionConfig(method="specfuse")))
    assert other.backends == engine.backends
    other.warm_up()
    (backend,) = engine.backends
    assert isinstance(backend, LocalBackend)
    assert backend.ready


def test_what_a_model_declares_is_read_without_torch() -> None:
    code = (
        "import sys; from specfuse_core.frameworks.registry import model_configs;"
        "from specfuse_core.models.declared import declared_window;"
        "print([declared_window(c) for c in model_configs(None)], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[2048, 2048, 2048] False"
    loaded = FusionEngine.from_pretrained([READER])
    assert declared_window(ModelConfig(path=str(READER))) == loaded.context_window


@pytest.mark.parametrize(
    ("declared", "window"),
    [
        ({"n_positions": 512}, 512),
        ({"text_config": {"max_position_embeddings": 99}, "max_position_embeddings": 5}, 99),
        ({"model_type": "mamba"}, None),
    ],
)
def test_windows_by_their_many_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: dict[str, object], window: int | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(declared), encoding="utf-8")
    assert declared_window(ModelConfig(path=str(tmp_path))) == window
    cached = tmp_path / "hub" / "models--org--name" / "snapshots" / "abc"
    cached.mkdir(parents=True)
    (cached / "config.json").write_text(json.dumps(declared), encoding="utf-8")
    refs = cached.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc", encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert declared_window(ModelConfig(path="org/name")) == window
    assert declared_window(ModelConfig(path="org/other")) is None


@pytest.mark.parametrize("broken", ["{not json", "[]", "\xff"])
def test_a_broken_config_declares_nothing(tmp_path: Path, broken: str) -> None:
    (tmp_path / "config.json").write_text(broken, encoding="latin-1")
    assert declared_window(ModelConfig(path=str(tmp_path))) is None


def test_prompts_are_counted_as_they_are_read() -> None:
    engine = shared_engine([READER])
    turns = [Message("user", "How many lamps are in the hall?")]
    assert engine.count_prompt_tokens(turns) == engine.generate(turns).usage.prompt_tokens
    tools = [{"name": "order_lamps", "description": "Order lamps."}]
    with_tools = engine.generate(turns, tools=tools, max_new_tokens=30).usage.prompt_tokens
    assert engine.count_prompt_tokens(turns, tools) == with_tools
    long = [Message("user", "lamp " * 9000)]
    assert engine.count_prompt_tokens(long) > engine.context_window
    assert engine.count_prompt_tokens([]) == 0


def test_a_deadline_stops_an_answer_between_rounds() -> None:
    now = Deadline(1e-9)
    engine = FusionEngine([ScriptedBackend("a", "One two three four five. " * 9)])
    answer = engine.generate("Hello", cancel=now)
    assert answer.finish_reason == "cancelled"
    with pytest.raises(AnswerTimeoutError, match="timeout=1e-09"):
        now.check()


def test_a_deadline_that_is_not_over_changes_nothing() -> None:
    for seconds in (None, 1000.0):
        deadline = Deadline(seconds)
        engine = FusionEngine([ScriptedBackend("a", "One two three.")])
        assert engine.generate("Hello", cancel=deadline).finish_reason == "stop"
        deadline.check()
    deadline.set()
    assert deadline.is_set()
    deadline.check()
    with pytest.raises(InvalidLimitError):
        Deadline(0)
