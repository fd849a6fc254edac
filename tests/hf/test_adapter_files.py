"""The files of adapters: what is refused, and how they come from the hub and its cache."""

from __future__ import annotations

import gc
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adapters
import huggingface_hub
import pytest
import tiny
import torch
from adapters import Case, change, close, logits, runner_of
from checkpoints import keep
from safetensors.torch import load_file

from specfuse_core import FusionEngine, ModelConfig
from specfuse_core.errors import (
    AdapterBaseWarning,
    InvalidOptionError,
    ModelLoadError,
    ModelNotFoundError,
    NoWeightsError,
    PickleWeightsError,
)
from specfuse_core.hf import hub
from specfuse_core.models.declared import declared_window

# PEFT uses a name of transformers that is about to be dropped.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


def refusal(
    config: ModelConfig | str, kind: type[ModelLoadError] = ModelLoadError, *, load: bool = False
) -> str:
    with pytest.raises(kind) as caught:
        engine = FusionEngine.from_pretrained([config], progress=False)
        if load:
            engine.warm_up()
    assert type(caught.value) is kind
    return str(caught.value)


def test_an_adapter_for_a_base_of_another_size_is_refused(case: Case, tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    tiny.model("llama", 700, hidden_size=64).save_pretrained(wide)
    tiny.tokenizer("bytelevel").save_pretrained(wide)
    message = refusal(ModelConfig(path=str(wide), adapter=str(case.paths[0])), load=True)
    assert (
        f"the adapter {str(case.paths[0])!r} cannot be put on {str(wide)!r} (RuntimeErr" in message
    )
    assert "size mismatch for base_model.model.model.layers.0." in message
    assert message.endswith(f"); it was made for {str(case.base)!r}; use that model as path.")


def test_an_adapter_for_other_layers_is_refused(case: Case, tmp_path: Path) -> None:
    other = adapters.save_base(tmp_path / "gpt2", "gpt2")
    message = refusal(ModelConfig(path=str(other), adapter=str(case.paths[0])), load=True)
    assert "Error: Target modules" in message
    assert f"it was made for {str(case.base)!r}; use that model as path." in message


def test_an_adapter_for_another_architecture_of_the_same_shapes_is_refused(
    case: Case, tmp_path: Path
) -> None:
    other = adapters.save_base(tmp_path / "mistral", "mistral")
    message = refusal(ModelConfig(path=str(other), adapter=str(case.paths[0])), load=True)
    assert message.endswith(
        "(its base is of the type 'llama', not 'mistral'); it was made for "
        f"{str(case.base)!r}; use that model as path."
    )
    # If the base that it names is not on this machine, it is not known of which type that is.
    change(case.paths[0], base_model_name_or_path="./elsewhere")
    with pytest.warns(AdapterBaseWarning):
        FusionEngine.from_pretrained(
            [ModelConfig(path=str(other), adapter=str(case.paths[0]))], progress=False, warm_up=True
        )


@pytest.mark.parametrize("named", ["org/other-7b", "/models/other-7b/", "C:\\models\\other-7b"])
def test_an_adapter_that_names_another_base_is_noted(case: Case, named: str) -> None:
    change(case.paths[0], base_model_name_or_path=named)
    expected = (
        f"the adapter {str(case.paths[0])!r} was trained on {named!r} and is loaded on "
        f"{str(case.base)!r}; check that they are the same model."
    )
    engine = case.engine(case.config(0), case.config(0, name="again"), case.config(1))
    with pytest.warns(AdapterBaseWarning) as caught:
        first, again, second = engine.report()
    assert [str(each.message) for each in caught] == [expected]
    assert (first.adapter_base, again.adapter_base, second.adapter_base) == (named, named, None)
    note = expected.replace(f"adapter {str(case.paths[0])!r}", "adapter").removesuffix(".")
    assert [note in report.notes for report in (first, again, second)] == [True, True, False]
    assert first.fits


def test_a_base_with_another_path_and_the_same_name_is_the_same(
    case: Case, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "link").symlink_to(case.base)
    keep(cache, "org/Base", case.base)
    (snapshot,) = cache.glob("models--org--Base/snapshots/*")
    for named in ("org/base", "/elsewhere/Base/", "D:\\base", str(case.base), str(snapshot), None):
        for path in (case.base, tmp_path / "link", "org/Base", snapshot):
            change(case.paths[0], base_model_name_or_path=named)
            config = ModelConfig(path=path, adapter=str(case.paths[0]))
            FusionEngine.from_pretrained([config], progress=False, warm_up=True)
    # A copy says what it was made from.
    described = json.loads((case.base / "config.json").read_text())
    described["_name_or_path"] = "org/original"
    (case.base / "config.json").write_text(json.dumps(described))
    change(case.paths[0], base_model_name_or_path="org/original")
    case.engine(case.config(0), warm_up=True)


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        (1, "it has 6 weights for other layers, the first is base_model.model.model.layers.1."),
        (3, "it lacks 6 weights, the first is base_model.model.model.layers.2."),
    ],
)
def test_an_adapter_for_more_or_fewer_layers_is_refused(
    case: Case, tmp_path: Path, layers: int, problem: str
) -> None:
    tiny.model("llama", 700, num_hidden_layers=layers).save_pretrained(tmp_path / "other")
    config = ModelConfig(path=str(tmp_path / "other"), adapter=str(case.paths[0]))
    assert problem in refusal(config, load=True)


def test_an_adapter_without_weights_is_refused(case: Case) -> None:
    (case.paths[0] / "adapter_model.safetensors").unlink()
    expected = (
        f"{str(case.paths[0])!r}: the adapter has no weights (adapter_model.safetensors); copy or "
        "download them into its directory."
    )
    assert refusal(case.config(0), NoWeightsError) == expected
    assert refusal(str(case.paths[0]), NoWeightsError) == expected


def test_pickled_adapters_are_refused_unless_asked_for(case: Case) -> None:
    file = case.paths[0] / "adapter_model.safetensors"
    torch.save(load_file(file), case.paths[0] / "adapter_model.bin")
    file.unlink()
    message = refusal(case.config(0), PickleWeightsError)
    assert message.startswith(f"{str(case.paths[0])!r}: the weights are stored only as pickle")
    allowed = case.engine(case.config(0, allow_pickle=True))
    assert close(logits(runner_of(allowed)), logits(case.models[0]))


@pytest.mark.parametrize("task", ["SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "FEATURE_EXTRACTION"])
def test_an_adapter_for_another_task_is_refused(case: Case, task: str) -> None:
    change(case.paths[0], task_type=task)
    assert refusal(case.config(0)) == (
        f"{str(case.paths[0])!r}: the adapter was made for the task {task!r}; use an adapter for "
        "causal language models ('CAUSAL_LM')."
    )


def test_an_adapter_without_a_task_is_taken(case: Case) -> None:
    change(case.paths[0], task_type=None)
    assert close(logits(runner_of(case.engine(case.config(0)))), logits(case.models[0]))


def test_an_adapter_that_waits_for_tokens_is_refused(case: Case) -> None:
    change(case.paths[0], alora_invocation_tokens=[5, 9])
    assert "(alora_invocation_tokens), which specfuse does not support" in refusal(case.config(0))


@pytest.mark.parametrize("content", ["{not json", "[]", '{"peft_type": "NO_SUCH_KIND"}'])
def test_a_description_that_peft_cannot_read_is_refused(case: Case, content: str) -> None:
    (case.paths[0] / "adapter_config.json").write_text(content)
    assert str(case.paths[0]) in refusal(case.config(0), load=True)


def test_an_adapter_on_an_adapter_is_refused(case: Case) -> None:
    first, second = map(str, case.paths)
    assert refusal(ModelConfig(path=first, adapter=second)) == (
        f"{first!r} is an adapter, and the adapter {second!r} was given, too; give the base model "
        "as path, with one adapter."
    )
    change(case.paths[0], base_model_name_or_path=second)
    assert refusal(first) == (
        f"{first!r} is an adapter for {second!r}, which is an adapter, too; merge {second!r} into "
        "its base model first (merge_and_unload of PEFT)."
    )


def test_an_adapter_whose_base_is_not_there_is_refused(case: Case) -> None:
    path = str(case.paths[0])
    change(case.paths[0], base_model_name_or_path="/no/such/base")
    message = refusal(path, ModelNotFoundError)
    assert message.startswith(
        f"{path!r} is an adapter whose base model was not found. If you have the base model "
        f"elsewhere, use ModelConfig(path=..., adapter={path!r}). ['/no/such/base': there is no"
    )
    change(case.paths[0], base_model_name_or_path="nobody-at-all/no-such-model")
    assert "'nobody-at-all/no-such-model': not found" in refusal(path, ModelNotFoundError)
    change(case.paths[0], base_model_name_or_path=None)
    assert refusal(path) == (
        f"{path!r} is an adapter that does not name its base model; use "
        f"ModelConfig(path=..., adapter={path!r}) with the base model as path."
    )


def test_what_is_no_adapter_is_refused(case: Case, tmp_path: Path) -> None:
    base = str(case.base)
    assert refusal(ModelConfig(path=base, adapter=base)) == (
        f"{base!r} is a model, not an adapter; use ModelConfig(path={base!r})."
    )
    missing = str(tmp_path / "none")
    assert refusal(ModelConfig(path=base, adapter=missing), ModelNotFoundError) == (
        f"{missing!r}: there is no such directory; give a directory with adapter_config.json and "
        "the adapter's weights, or a hub id like 'org/name'."
    )
    (tmp_path / "none").mkdir()
    assert refusal(ModelConfig(path=base, adapter=missing), ModelNotFoundError) == (
        f"{missing!r}: the directory has no adapter_config.json; give the directory that "
        "save_pretrained of PEFT wrote."
    )
    # As PEFT writes several adapters.
    for path in case.paths:
        shutil.move(path, tmp_path / "none")
    message = refusal(ModelConfig(path=base, adapter=missing), ModelNotFoundError)
    assert message.endswith("; give one of its folders with adapters: first, second.")


def test_a_revision_without_an_adapter_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="adapter_revision was given without adapter; use"):
        ModelConfig(path="x", adapter_revision="v1")


def test_adapters_need_peft(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    message = refusal(case.config(0), load=True)
    assert message.endswith(
        f"{str(case.paths[0])!r} is an adapter, which needs PEFT; install it with: "
        "pip install 'specfuse[peft]'"
    )


def test_an_adapter_that_failed_leaves_the_base_as_it_was(case: Case, tmp_path: Path) -> None:
    engine = case.engine(str(case.base), warm_up=True)
    before = logits(runner_of(engine)).clone()
    change(case.paths[0], target_modules=["q_proj", "no_such_layer", "up_proj"])
    refusal(case.config(0), load=True)
    assert torch.equal(logits(runner_of(engine)), before)
    assert not any("lora" in name for name, _ in runner_of(engine).model.named_modules())


# The hub


def test_adapters_and_bases_in_the_cache_are_used_without_the_network(
    case: Case, cache: Path
) -> None:
    keep(cache, "org/base", case.base)
    keep(cache, "org/second", case.paths[1])
    change(case.paths[0], base_model_name_or_path="org/base")
    keep(cache, "org/first", case.paths[0])
    engine = case.engine("org/first", ModelConfig(path="org/base", adapter="org/second"))
    assert engine.models == ("first", "second")
    for index, model in enumerate(case.models):
        assert close(logits(runner_of(engine, index)), logits(model))
    assert declared_window(ModelConfig(path="org/first")) == 512


def test_an_adapter_that_is_not_cached_is_told_offline(case: Case, cache: Path) -> None:
    config = ModelConfig(path=str(case.base), adapter="org/absent")
    assert refusal(config, ModelNotFoundError).startswith("'org/absent': not found: there is no")


class Remote:
    """A hub whose repositories are directories."""

    def __init__(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = cache
        self.repositories: dict[str, Path] = {}
        self.asked: list[str] = []
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub, "_ask", self.ask)
        monkeypatch.setattr(hub, "snapshot_download", self.download)

    def ask(self, url: str, token: str | None) -> None:
        name, _, file = url.partition("/resolve/main/")
        name = "/".join(name.split("/")[-2:])
        self.asked.append(f"{name}/{file}")
        if not (self.repositories[name] / file).is_file():
            response: Any = type("Response", (), {"headers": {}, "request": None})()
            raise huggingface_hub.errors.RemoteEntryNotFoundError("404", response=response)

    def download(
        self, name: str, *, revision: str | None, allow_patterns: list[str], token: str | None
    ) -> str:
        target = self.cache / f"models--{name.replace('/', '--')}" / "snapshots" / "0123abc"
        for pattern in allow_patterns:
            for file in self.repositories[name].glob(pattern):
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
        refs = target.parents[1] / "refs"
        refs.mkdir(exist_ok=True)
        (refs / "main").write_text("0123abc")
        return str(target)


@pytest.fixture
def remote(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    yield Remote(cache, monkeypatch)


def test_an_adapter_is_downloaded_and_its_base_found(case: Case, remote: Remote) -> None:
    remote.repositories["org/tuned"] = case.paths[0]
    engine = case.engine("org/tuned", warm_up=True)
    assert engine.models == ("tuned",)
    assert close(logits(runner_of(engine)), logits(case.models[0]))
    asked = len(remote.asked)
    gc.collect()
    again = case.engine("org/tuned", ModelConfig(path=str(case.base), adapter="org/tuned"))
    again.warm_up()
    assert len(remote.asked) == asked


def test_pickled_adapters_of_the_hub_are_not_even_downloaded(case: Case, remote: Remote) -> None:
    (case.paths[0] / "adapter_model.safetensors").rename(case.paths[0] / "adapter_model.bin")
    remote.repositories["org/old"] = case.paths[0]
    config = ModelConfig(path=str(case.base), adapter="org/old")
    assert "only as pickle" in refusal(config, PickleWeightsError, load=True)
    assert not list(remote.cache.glob("**/adapter_model.bin"))
    remote.repositories["org/bare"] = case.paths[0]
    (case.paths[0] / "adapter_model.bin").unlink()
    message = refusal(
        ModelConfig(path=str(case.base), adapter="org/bare"), ModelNotFoundError, load=True
    )
    assert "'org/bare': the adapter could not be found" in message
