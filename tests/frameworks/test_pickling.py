"""Models in other processes and in dictionaries: their fields are restored, an engine never is."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from langchain_core.load import dumps

from langchain_specfuse import ChatSpecFuse
from llamaindex_specfuse import SpecFuseLLM
from specfuse_core import FusionConfig, FusionEngine, ModelConfig
from specfuse_core.bundled import bundled_models
from specfuse_core.errors import FusionError, NotPicklableError
from specfuse_core.frameworks.fields import EngineFields
from specfuse_core.frameworks.registry import description, release_engines
from specfuse_core.testing import ScriptedBackend

BUNDLED = {path.name: str(path) for path in bundled_models()}
READER, CLERK = BUNDLED["reader"], BUNDLED["clerk"]

CLASSES: list[type[Any]] = [ChatSpecFuse, SpecFuseLLM]

RECIPES: list[dict[str, Any]] = [
    {},
    {"models": [READER], "temperature": 0.5, "stop": ["\n"], "call_segment_tokens": None},
    {"models": [Path(READER), ModelConfig(path=CLERK, name="x", weight=2.0)], "drafters": ["x"]},
    {"models": [{"path": "org/name", "token": "hf_secret", "max_memory": {0: "1GiB", "cpu": 5}}]},
    {"model": "clerk,reader", "method": "specfuse", "seed": 3, "timeout": 5.5, "parallel": True},
]


def fields_of(model: EngineFields) -> dict[str, Any]:
    return {name: getattr(model, name) for name in EngineFields.model_fields}


def made_of_engine(kind: type[Any]) -> Any:
    return kind(engine=FusionEngine([ScriptedBackend("a", "Hello.")]))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", CLASSES)
def test_copies_and_pickles_have_the_same_fields(kind: type[Any], recipe: dict[str, Any]) -> None:
    model = kind(**recipe)
    copies = [copy.copy(model), copy.deepcopy(model)]
    copies += [pickle.loads(pickle.dumps(model, protocol)) for protocol in range(2, 6)]
    copies.append(pickle.loads(cloudpickle.dumps(model)))
    for other in copies:
        assert type(other) is kind
        assert fields_of(other) == fields_of(model)
        assert other.model_fields_set == model.model_fields_set
        assert other.model_name == model.model_name


@pytest.mark.parametrize("kind", CLASSES)
def test_a_pickle_shares_the_models_that_are_loaded_and_keeps_one_model(kind: type[Any]) -> None:
    model = kind(models=[READER, CLERK])
    again = pickle.loads(pickle.dumps(model))
    assert again._base() is model._base()
    alone = pickle.loads(pickle.dumps(model.as_single("clerk")))
    assert alone.model_name == "clerk"
    assert alone._base().backends == (model._base().backends[1],)


@pytest.mark.parametrize("kind", CLASSES)
def test_another_process_loads_a_pickled_model_when_it_answers(
    kind: type[Any], tmp_path: Path
) -> None:
    (tmp_path / "model").write_bytes(pickle.dumps(kind(models=[READER], max_tokens=2)))
    code = (
        "import pickle, sys\n"
        f"model = pickle.loads(open({str(tmp_path / 'model')!r}, 'rb').read())\n"
        "print(model.model_name, model.max_tokens, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["reader", "2", "False"]


@pytest.mark.parametrize("kind", CLASSES)
def test_a_model_of_an_engine_is_refused_where_it_is_pickled(kind: type[Any]) -> None:
    model = made_of_engine(kind)
    for dumps_ in (pickle.dumps, cloudpickle.dumps, multiprocessing.reduction.ForkingPickler.dumps):
        for deep in (model, [{"deep": (model,)}]):
            with pytest.raises(
                NotPicklableError,
                match=rf"^a {kind.__name__} with engine= cannot be pickled.*with models=",
            ) as caught:
                dumps_(deep)
            assert isinstance(caught.value, pickle.PicklingError) is (kind is SpecFuseLLM)
    with pytest.raises(NotPicklableError, match=r"^a FusionEngine cannot be pickled"):
        pickle.dumps(model.engine)
    for copied in (copy.copy(model), copy.deepcopy(model), model.model_copy(deep=True)):
        assert copied.engine is model.engine
    other = copy.copy(model.engine)
    assert other.backends == model.engine.backends
    assert other.generate("Hi").text == "Hello."


@pytest.mark.parametrize("kind", CLASSES)
def test_the_fields_of_a_model_of_an_engine_do_not_become_another_model(kind: type[Any]) -> None:
    model = made_of_engine(kind)
    for written in (model.model_dump(), model.as_single("a").model_dump()):
        written.pop("class_name", None)
        with pytest.raises(
            NotPicklableError, match=r"the engine .FusionEngine\(a, mark=.*Give an engine"
        ):
            kind(**written)
        again = kind(**{**written, "engine": model.engine})
        assert again._base().generate("Hi").text == "Hello."


@pytest.mark.parametrize("recipe", RECIPES)
def test_dictionaries_restore_every_field(recipe: dict[str, Any]) -> None:
    model = SpecFuseLLM(
        **recipe, system_prompt="Be brief.", is_function_calling_model=False, context_window=500
    )
    written = model.to_dict()
    assert "hf_secret" not in repr(written)
    for again in (SpecFuseLLM.from_dict(written), SpecFuseLLM.from_json(model.to_json())):
        wanted, got = fields_of(model), fields_of(again)
        assert configs(got.pop("models")) == configs(wanted.pop("models"))
        assert got == wanted
        assert again.system_prompt == "Be brief."
        assert again.is_function_calling_model is False
        assert again.to_dict() == written


def configs(models: Any) -> Any:
    # Tokens of the hub are not written.
    return models and [ModelConfig.of(model).replace(token=None) for model in models]


def test_a_dictionary_of_a_model_of_an_engine_is_refused_unless_it_gets_an_engine() -> None:
    model = made_of_engine(SpecFuseLLM)
    for read in (
        lambda: SpecFuseLLM.from_dict(model.to_dict()),
        lambda: SpecFuseLLM.from_json(model.to_json()),
        lambda: SpecFuseLLM.from_dict(model.as_single("a").to_dict()),
    ):
        with pytest.raises(FusionError, match="cannot be restored"):
            read()
    given = SpecFuseLLM.from_dict(model.to_dict(), engine=model.engine)
    assert given.complete("Hi").text == "Hello."


def test_configurations_of_quantization_are_written_as_dictionaries() -> None:
    class Quantization:
        def to_dict(self) -> dict[str, Any]:
            return {"quant_method": "odd", "bits": 4}

    model = SpecFuseLLM(models=[ModelConfig(path="org/a", quantization_config=Quantization())])
    (config,) = SpecFuseLLM.from_json(model.to_json()).models or []
    assert isinstance(config, ModelConfig)
    assert config.quantization_config == {"quant_method": "odd", "bits": 4}


def test_keys_of_caches_are_the_same_in_every_process() -> None:
    code = (
        "from specfuse_core import FusionEngine, ModelConfig\n"
        "from langchain_specfuse import ChatSpecFuse\n"
        f"models = [{READER!r}, ModelConfig(path={CLERK!r}, token='hf_secret', weight=2.0)]\n"
        "engine = FusionEngine.from_pretrained(models, drafters=['reader'])\n"
        "key = ChatSpecFuse(engine=engine, stop='x')._get_llm_string()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}print(key)"], capture_output=True, text=True, check=True
    )
    here: dict[str, Any] = {}
    exec(code, here)
    assert done.stdout.strip() == here["key"]
    assert "hf_secret" not in here["key"]


def test_descriptions_tell_engines_apart() -> None:
    release_engines()
    models = [READER, CLERK]
    scripted = [ScriptedBackend("a", "x")]
    engines = [
        FusionEngine.from_pretrained(models),
        FusionEngine.from_pretrained(models[:1]),
        FusionEngine.from_pretrained(models[::-1]),
        FusionEngine.from_pretrained(models, drafters=["reader"]),
        FusionEngine.from_pretrained(models, verifiers=["reader"]),
        FusionEngine.from_pretrained([READER, ModelConfig(path=CLERK, weight=2.0)]),
        FusionEngine.from_pretrained([READER, ModelConfig(path=CLERK, dtype="bfloat16")]),
        FusionEngine(scripted),
        FusionEngine(scripted, FusionConfig(method="specfuse")),
        FusionEngine([ScriptedBackend("a", "y")]),
    ]
    told = [description(engine) for engine in engines]
    assert len(set(told)) == len(told)
    assert told == [description(engine) for engine in engines]
    assert told[0] == description(FusionEngine.from_pretrained(models))


def test_langchain_writes_models_without_their_weights() -> None:
    assert "not_implemented" in dumps(made_of_engine(ChatSpecFuse))
