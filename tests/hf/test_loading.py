"""Engines from directories and loaded models, and the errors if that fails."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import tiny
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._http import default_client_factory
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from specfuse_core import FusionConfig, FusionEngine, Message, ModelConfig, Request
from specfuse_core.errors import (
    DuplicateNameError,
    EmptyEnsembleError,
    InvalidOptionError,
    ModelLoadError,
    ModelNotFoundError,
    NoEndTokenError,
    NoWeightsError,
    PickleWeightsError,
    PromptTooLongError,
    TemplateError,
    UnknownOptionError,
)
from specfuse_core.hf import Runner, loading
from specfuse_core.hf import hub as hf_hub
from specfuse_core.hf import loaded as hf_loaded
from specfuse_core.hf.probe import MethodChoice

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save a tiny model with its tokenizer and return the directory."""

    def saved(name: str = "tiny-llama", architecture: str = "llama", seed: int = 0, **kind: object):
        model, tokenizer = tiny.pair(architecture, str(kind.pop("family", "bytelevel")), seed=seed)
        if (dtype := kind.pop("dtype", None)) is not None:
            model = model.to(dtype)
        model.save_pretrained(tmp_path / name, **kind)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return saved


def engine(*models_: object, **options: object) -> FusionEngine:
    options = {"progress": False, **options}
    return FusionEngine.from_pretrained(list(models_), **options)


def weights(fused: FusionEngine, index: int = 0) -> torch.nn.Module:
    return fused.backends[index].model.runner.model


# What works


def test_directories_answer_as_the_models_that_were_saved_in_them(save: Save) -> None:
    paths = [save("a", "llama", 0), save("b", "gemma3", 1, family="metaspace")]
    pairs = [tiny.pair("llama", "bytelevel", seed=0), tiny.pair("gemma3", "metaspace", seed=1)]
    config = FusionConfig(method="specem", segment_tokens=6)
    request = Request.of("How many lamps?", seed=3, temperature=0.8, max_new_tokens=30)
    loaded = engine(*map(str, paths), config=config)
    given = FusionEngine.from_models(pairs, config, names=["a", "b"], progress=False)
    assert loaded.models == given.models == ("a", "b")
    mine, theirs = loaded.generate(request), given.generate(request)
    assert mine.text == theirs.text
    assert [r.candidates for r in mine.rounds] == [r.candidates for r in theirs.rounds]
    for played, other in zip(mine.rounds, theirs.rounds, strict=True):
        assert played.votes == pytest.approx(other.votes, abs=1e-4)


def test_parallel_gives_what_sequential_gives(save: Save) -> None:
    paths = [str(save("a", "llama", 0)), str(save("b", "gpt2", 1, family="unigram"))]
    answers = [
        engine(*paths, parallel=parallel).generate(
            "How many?", seed=1, temperature=0.8, max_new_tokens=30
        )
        for parallel in (False, True)
    ]
    assert answers[0].text == answers[1].text
    for played, other in zip(answers[0].rounds, answers[1].rounds, strict=True):
        assert played.candidates == other.candidates
        assert played.votes == pytest.approx(other.votes, abs=1e-4)


def test_nothing_is_loaded_before_the_first_request_and_everything_once(
    save: Save, loads: list[str]
) -> None:
    path = str(save())
    fused = engine(path)
    assert not fused.backends[0].ready
    assert loads == []
    fused.generate("a", max_new_tokens=3)
    fused.generate("b", max_new_tokens=3)
    assert loads == [path]
    assert fused.backends[0].ready


def test_warming_up_loads_at_once(save: Save) -> None:
    assert engine(str(save()), warm_up=True).backends[0].ready
    fused = engine(str(save()))
    fused.warm_up()
    assert fused.backends[0].ready


def test_threads_that_ask_at_once_load_once(save: Save, loads: list[str]) -> None:
    path = str(save())
    fused, other = engine(path), engine(path)
    start = threading.Barrier(4)

    def ask(asked: FusionEngine) -> str:
        start.wait()
        return asked.generate("a", max_new_tokens=4).text

    with ThreadPoolExecutor(4) as pool:
        texts = {job.result() for job in [pool.submit(ask, e) for e in (fused, other) * 2]}
    assert len(texts) == 1
    assert loads == [path]
    assert weights(fused) is weights(other)


def test_a_model_listed_twice_is_loaded_once_and_draws_twice(save: Save) -> None:
    path = str(save("one"))
    fused = engine(path, path, config=FusionConfig(method="specem", segment_tokens=6))
    assert fused.models == ("one", "one#2")
    answer = fused.generate("How many?", temperature=0.8, seed=1, max_new_tokens=30)
    assert fused.backends[0].model is fused.backends[1].model
    assert any(len(set(played.candidates)) == 2 for played in answer.rounds)
    greedy = fused.generate("How many?", max_new_tokens=20)
    assert all(len(set(played.candidates)) == 1 for played in greedy.rounds)


def test_a_model_loaded_in_two_ways_is_two_models(save: Save) -> None:
    path = str(save("one"))
    fused = engine(path, ModelConfig(path=path, name="half", dtype="bfloat16"))
    fused.warm_up()
    assert weights(fused, 0).dtype == torch.float32
    assert weights(fused, 1).dtype == torch.bfloat16


def test_weights_that_nobody_uses_are_let_go(save: Save) -> None:
    fused = engine(str(save()), warm_up=True)
    assert len(loading._in_use) >= 1
    before = len(loading._in_use)
    del fused
    gc.collect()
    assert len(loading._in_use) < before


def test_prior_weights_reach_the_vote(save: Save) -> None:
    a, b = str(save("a", seed=0)), str(save("b", seed=1))
    configs = [ModelConfig(path=a, weight=3.0), ModelConfig(path=b, weight=1.0)]
    answer = engine(*configs).generate("How many?", max_new_tokens=10)
    assert answer.rounds[0].weights == (0.75, 0.25)


def test_options_of_a_model_reach_it(save: Save) -> None:
    config = ModelConfig(
        path=str(save()),
        name="mine",
        dtype="bfloat16",
        device="cpu",
        attn_implementation="eager",
        chat_template="{{ greeting }} {{ messages[-1].content }}:",
        chat_template_kwargs={"greeting": "Hello"},
    )
    fused = engine(config, warm_up=True)
    assert fused.models == ("mine",)
    assert weights(fused).dtype == torch.bfloat16
    assert weights(fused).config._attn_implementation == "eager"
    ids = fused.backends[0].template.prompt([Message("user", "you")]).ids
    assert tiny.tokenizer("bytelevel").decode(ids) == "Hello you:"


def test_weights_are_ready_to_run_and_not_to_train(save: Save) -> None:
    model = weights(engine(str(save())))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("saved", "asked", "expected"),
    [
        (torch.float32, "auto", torch.float32),
        (torch.bfloat16, "auto", torch.bfloat16),
        (torch.float16, "auto", torch.float32),
        (torch.float16, "float16", torch.float16),
        (torch.float32, "torch.bfloat16", torch.bfloat16),
    ],
)
def test_dtypes_are_those_of_the_file_or_those_asked_for(
    save: Save, saved: torch.dtype, asked: str, expected: torch.dtype
) -> None:
    """float16 becomes float32 on a CPU unless it is requested."""
    path = save(dtype=saved)
    fused = engine(ModelConfig(path=str(path), dtype=asked, device="cpu"))
    assert weights(fused).dtype == expected


def test_loaded_models_are_named_after_where_they_came_from(save: Save) -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel")
    fused = FusionEngine.from_models([(model, tokenizer), (model, tokenizer)], progress=False)
    assert fused.models == ("llama", "llama#2")
    model.config.name_or_path = "org/Nice-Model"
    assert FusionEngine.from_models([(model, tokenizer)]).models == ("Nice-Model",)
    named = FusionEngine.from_models([(model, tokenizer)] * 2, names=["x", "y"])
    assert named.models == ("x", "y")


def test_loaded_models_are_put_in_eval_mode_and_measured_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel")
    model.train()
    fused = FusionEngine.from_models([(model, tokenizer)] * 3, warm_up=True, progress=False)
    assert not model.training
    assert len({id(backend.model) for backend in fused.backends}) == 1


def test_a_path_may_be_relative_or_have_a_slash_at_its_end(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save("here")
    monkeypatch.chdir(path.parent)
    assert engine("./here/", warm_up=True).models == ("here",)
    assert engine("here", warm_up=True).models == ("here",)


def test_loading_is_silent_where_there_is_no_terminal(
    save: Save, capfd: pytest.CaptureFixture[str]
) -> None:
    path = str(save())
    capfd.readouterr()
    engine(path, progress=True).warm_up()
    assert capfd.readouterr() == ("", "")


# What is refused, and what is said


NOBODY = "nobody-at-all/no-such-model"


def test_a_hub_name_that_is_not_cached_is_not_found_offline() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        engine(NOBODY)
    assert str(caught.value) == (
        f"'{NOBODY}': not found: there is no directory of that name, the hub's cache "
        f"({huggingface_hub.constants.HF_HUB_CACHE}) does not have it, and offline mode is on "
        "(HF_HUB_OFFLINE). Unset HF_HUB_OFFLINE and download the model first "
        f"(`hf download {NOBODY}`), or give a local directory."
    )
    with pytest.raises(ModelNotFoundError, match=f"`hf download {NOBODY} --revision v1`"):
        engine(ModelConfig(path=NOBODY, revision="v1"))


@pytest.mark.parametrize(
    "ask",
    [
        "from specfuse_core import FusionEngine\n"
        f"try: FusionEngine.from_pretrained(['{NOBODY}'])\n"
        "except Exception as error: print(error)",
        "from specfuse_core.command.cli import main\n"
        f"sys.argv = ['specfuse', '--model', '{NOBODY}', 'question']\n"
        "sys.stderr = sys.stdout\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code)",
    ],
    ids=["engine", "command"],
)
def test_offline_that_needs_no_network_and_no_heavy_import(ask: str, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "asked = []\n"
        "sys.addaudithook(lambda event, _: asked.append(event) if 'socket.' in event else None)\n"
        f"{ask}\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'numpy', 'httpx', 'httpx2'}\n"
        "print(asked, sorted(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"the hub's cache ({tmp_path}) does not have it" in " ".join(done.stdout.split())
    assert done.stdout.endswith("\n[] []\n")


class Hub:
    """A hub that cannot be reached, which records requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        self.cache = cache
        self.asked: list[tuple[str, float | None]] = []
        # Of whichever library this version of the hub's client is built on.
        client = type(huggingface_hub.get_session()).__module__.partition(".")[0]
        self.down = sys.modules[client].ConnectError("[Errno -2] Name or service not known")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        if find_spec("huggingface_hub.utils._detect_agent"):
            # As in a new process on a new machine, which has not asked for this day's telemetry
            # yet. Older releases have none.
            monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None)
            registry = str(cache / "harnesses.json")
            monkeypatch.setattr(huggingface_hub.constants, "AGENT_HARNESSES_PATH", registry)
        monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"slept {seconds} s"))

    def request(self, *, url: str, timeout: float | None = None, **options: object) -> None:
        self.asked.append((url, timeout))
        raise self.down

    def get(self, url: str, **options: object) -> None:
        self.request(url=url)

    def close(self) -> None:
        """Do nothing."""

    def keep(self, name: str, directory: Path) -> None:
        """Put a saved model into the cache, as a download does."""
        entry = self.cache / f"models--{name.replace('/', '--')}"
        shutil.copytree(directory, entry / "snapshots" / "0123abc")
        (entry / "refs").mkdir()
        (entry / "refs" / "main").write_text("0123abc")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    down = Hub(monkeypatch, tmp_path / "hub")
    huggingface_hub.set_client_factory(lambda: down)  # type: ignore[arg-type, return-value]
    yield down
    huggingface_hub.set_client_factory(default_client_factory)


def test_a_hub_that_cannot_be_reached_is_asked_once_and_told_in_one_error(
    hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    fused = engine(NOBODY)
    with pytest.raises(ModelNotFoundError) as caught:
        fused.warm_up()
    message = str(caught.value)
    assert f"in the hub's cache ({hub.cache})" in message
    assert "'nobody-at-all/no-such-model': the weights could not be found: looked for" in message
    assert "on the hub, which could not be reached" in message
    assert "give a local directory. [[Errno -2] Name or service not known]" in message
    ((url, timeout),) = hub.asked
    assert url.endswith("nobody-at-all/no-such-model/resolve/main/config.json")
    assert timeout is not None
    assert timeout <= 5
    assert capfd.readouterr() == ("", "")


def test_a_tokenizer_of_its_own_is_asked_for_by_a_file_of_tokenizers(hub: Hub, save: Save) -> None:
    config = ModelConfig(path=str(save("saved")), tokenizer="org/words")
    with pytest.raises(ModelNotFoundError, match="'org/words': the tokenizer could not be found"):
        engine(config, warm_up=True)
    assert [url.rsplit("/", 1)[1] for url, _ in hub.asked] == ["tokenizer_config.json"]


def test_a_hub_that_never_answers_is_asked_once_and_not_waited_for(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address lookup may hang, and the client's own time limit does not include it."""
    end = threading.Event()

    def hang(*, url: str, **options: object) -> None:
        hub.asked.append((url, None))
        end.wait()

    monkeypatch.setattr(hub, "request", hang)
    monkeypatch.setattr(hf_hub, "_PATIENCE", 0.05)
    with pytest.raises(ModelNotFoundError, match=r"not be reached.*\[no answer within 0\.05 s\]"):
        engine(NOBODY, warm_up=True)
    assert len(hub.asked) == 1
    end.set()


def test_a_cached_model_without_its_weights_is_told_offline_without_a_question(
    hub: Hub, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save("saved")
    (path / "model.safetensors").unlink()
    hub.keep("org/bare", path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.set_client_factory(default_client_factory)
    with pytest.raises(ModelNotFoundError) as caught:
        engine("org/bare", warm_up=True)
    assert "which was not asked, because offline mode is on (HF_HUB_OFFLINE)" in str(caught.value)


def test_a_cached_model_is_loaded_without_the_network(
    hub: Hub, save: Save, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.keep("org/cached", save("saved"))
    capfd.readouterr()
    fused = engine("org/cached", warm_up=True)
    assert repr(fused) == "FusionEngine(models='cached', method='specem', device='cpu')"
    assert fused.generate("a", max_new_tokens=3).text
    assert hub.asked == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("cached", [False, True])
def test_settings_of_the_process_are_as_before_after_loading(
    hub: Hub, save: Save, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    monkeypatch.delenv("DISABLE_SAFETENSORS_CONVERSION", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", False)
    if cached:
        hub.keep("org/set", save("saved"))
        engine("org/set", warm_up=True)
    else:
        with pytest.raises(ModelNotFoundError):
            engine("org/set", warm_up=True)
    assert "DISABLE_SAFETENSORS_CONVERSION" not in os.environ
    assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY is False
    assert logging.is_progress_bar_enabled()


def test_a_cached_model_that_lacks_its_weights_is_told_in_one_error(hub: Hub, save: Save) -> None:
    path = save("saved")
    (path / "model.safetensors").unlink()
    hub.keep("org/bare", path)
    with pytest.raises(ModelNotFoundError, match="'org/bare': the weights could not be found"):
        engine("org/bare", warm_up=True)
    assert len(hub.asked) == 1


def test_a_cached_model_that_lacks_its_tokenizer_is_looked_for_on_the_hub(
    hub: Hub, save: Save
) -> None:
    """As in the middle of a download: the configuration and the weights come first."""
    path = save("saved")
    for file in path.glob("token*"):
        file.unlink()
    hub.keep("org/mute", path)
    with pytest.raises(ModelLoadError, match=r"'org/mute': the tokenizer could not be loaded"):
        engine("org/mute", warm_up=True)
    assert [url.rpartition("/org/")[2] for url, _ in hub.asked] == ["mute/resolve/main/config.json"]


def test_a_cached_model_with_pickled_weights_is_refused_unless_asked_for(
    hub: Hub, save: Save
) -> None:
    path = save("saved")
    _pickled(path)
    hub.keep("org/pickled", path)
    with pytest.raises(PickleWeightsError, match=r"org/pickled'.*allow_pickle=True"):
        engine("org/pickled", warm_up=True)
    assert len(hub.asked) == 1
    config = ModelConfig(path="org/pickled", allow_pickle=True)
    assert engine(config).generate("a", max_new_tokens=3).finish_reason
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (
            RepositoryNotFoundError,
            "which has no such model or shows it only after `hf auth login` or with a token",
        ),
        (RevisionNotFoundError, "which has no such model"),
        (RemoteEntryNotFoundError, "which has no such model"),
        (
            GatedRepoError,
            "which restricts access to it (request access on its page, then run `hf auth login` or "
            "give a token)",
        ),
        (HfHubHTTPError, "which could not be reached"),
    ],
)
def test_what_the_hub_answers_is_told(
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[HfHubHTTPError],
    answer: str,
) -> None:
    response = SimpleNamespace(headers={}, request=None, status_code=404)

    def refuse(url: str, timeout: float, token: str | None) -> None:
        raise kind("404 Client Error.\nIt says more.", response=response)  # type: ignore[arg-type]

    monkeypatch.setattr(hf_hub, "get_hf_file_metadata", refuse)
    with pytest.raises(ModelNotFoundError) as caught:
        engine("org/none", warm_up=True)
    assert answer in str(caught.value)
    assert str(caught.value).endswith("[404 Client Error]")


def test_a_name_that_no_model_can_have_is_not_found(hub: Hub) -> None:
    with pytest.raises(ModelNotFoundError, match=r"'no such name'.*has no such model"):
        engine("no such name", warm_up=True)
    assert hub.asked == []


@pytest.mark.parametrize("path", ["./missing", "/no/such/place", "~/no/such", "a/b/c"])
def test_a_directory_that_is_not_there_is_refused_before_loading(path: str) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no such directory; give a dir") as error:
        engine(path)
    assert repr(path) in str(error.value)


def test_a_directory_of_a_tokenizer_that_is_not_there_is_refused_before_loading(save: Save) -> None:
    with pytest.raises(ModelNotFoundError) as error:
        engine(ModelConfig(path=str(save()), tokenizer="./missing"))
    assert str(error.value) == (
        "'./missing': there is no such directory; give a directory with the files of a tokenizer, "
        "or a hub id like 'org/name'."
    )


def test_a_file_in_place_of_a_directory_is_refused(save: Save) -> None:
    path = str(save() / "config.json")
    with pytest.raises(ModelNotFoundError) as error:
        engine(path)
    assert str(error.value) == (
        f"{path!r}: this is a file; give the directory that contains it, or a GGUF file."
    )


def test_a_directory_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"has no config\.json; give the directory"):
        engine(str(tmp_path))


def test_a_directory_without_weights_is_refused(save: Save) -> None:
    path = save("bare")
    (path / "model.safetensors").unlink()
    with pytest.raises(NoWeightsError, match=r"bare'.*no weights \(\*\.safetensors\); copy or"):
        engine(str(path))


def test_weights_of_which_some_are_missing_are_refused(save: Save) -> None:
    """For example the weights of an encoder, or of an incomplete download."""
    from safetensors.torch import load_file, save_file

    path = save("part")
    kept = {
        name: tensor
        for name, tensor in load_file(path / "model.safetensors").items()
        if name != "lm_head.weight"
    }
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NoWeightsError, match=r"part': 1 weights.*'lm_head\.weight'; check that"):
        engine(str(path), warm_up=True)


@pytest.mark.parametrize("architecture", ["gpt2", "gemma3", "mamba", "bloom", "lfm2"])
def test_weights_that_are_shared_within_the_model_are_not_missing(
    save: Save, architecture: str
) -> None:
    assert engine(str(save("tied", architecture)), warm_up=True).backends[0].ready


def _pickled(path: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()


def test_pickled_weights_are_refused_unless_asked_for(save: Save) -> None:
    path = save("pickled")
    expected = engine(str(path)).generate("a", max_new_tokens=5).text
    gc.collect()
    _pickled(path)
    with pytest.raises(PickleWeightsError, match=r"pickled'.*allow_pickle=True"):
        engine(str(path))
    allowed = engine(ModelConfig(path=str(path), allow_pickle=True))
    assert allowed.generate("a", max_new_tokens=5).text == expected


@pytest.mark.parametrize("dtype", ["float33", "int8", "nn", ""])
def test_a_dtype_that_weights_cannot_have_is_refused(save: Save, dtype: str) -> None:
    fused = engine(ModelConfig(path=str(save("odd")), dtype=dtype))
    with pytest.raises(ModelLoadError, match=rf"odd'.*dtype '{dtype}'; use 'auto', 'float32'"):
        fused.warm_up()


@pytest.mark.parametrize("device", ["gpu7", "cuda:99", "vulkan"])
def test_a_device_that_this_machine_lacks_is_refused(save: Save, device: str) -> None:
    fused = engine(ModelConfig(path=str(save("odd")), device=device))
    with pytest.raises(ModelLoadError) as caught:
        fused.warm_up()
    message = str(caught.value)
    assert f"odd': the device {device!r} is not available; use one of: cpu" in message
    assert "Error" not in message


def test_a_device_is_checked_before_the_weights_are_read(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = engine(ModelConfig(path=str(save("odd")), device="cuda:99"))

    def fetch(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(loading, "fetch", fetch)
    with pytest.raises(ModelLoadError, match="the device 'cuda:99' is not available"):
        fused.warm_up()


def test_a_model_with_its_own_code_needs_to_be_trusted(save: Save) -> None:
    path = save("custom")
    config = json.loads((path / "config.json").read_text())
    config |= {
        "model_type": "my_own_kind",
        "auto_map": {
            "AutoConfig": "own.OwnConfig",
            "AutoModelForCausalLM": "own.OwnModel",
        },
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "own.py").write_text("raise SystemExit('this code must not run')\n")
    with pytest.raises(ModelLoadError, match=r"custom'.*read that code.*trust_remote_code=True"):
        engine(str(path), warm_up=True)


def test_a_kind_of_model_that_transformers_does_not_know_is_refused(save: Save) -> None:
    path = save("alien")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_type": "alien"}))
    with pytest.raises(ModelLoadError, match=r"alien': the weights could not be loaded"):
        engine(str(path), warm_up=True)


def test_a_directory_without_tokenizer_is_refused(save: Save) -> None:
    path = save("mute")
    for file in path.glob("token*"):
        file.unlink()
    with pytest.raises(ModelLoadError, match=r"mute'.*tokenizer"):
        engine(str(path), warm_up=True)


def test_a_tokenizer_that_is_not_fast_is_refused() -> None:
    from transformers import ByT5Tokenizer

    model = tiny.model("llama", 400)
    fused = FusionEngine.from_models([(model, ByT5Tokenizer())], names=["slow"], progress=False)
    with pytest.raises(ModelLoadError, match=r"'slow'.*not a fast tokenizer.*tokenizer\.json"):
        fused.warm_up()


def test_a_tokenizer_without_an_end_token_is_refused(save: Save) -> None:
    path = save("endless")
    bare = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE({"a": 0, "b": 1}, [])), chat_template="{{ 'a' }}"
    )
    for file in path.glob("token*"):
        file.unlink()
    (path / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((path / "config.json").read_text())
    config.pop("eos_token_id", None)
    (path / "config.json").write_text(json.dumps(config))
    bare.save_pretrained(path)
    with pytest.raises(NoEndTokenError, match=r"endless.*set tokenizer\.eos_token or"):
        engine(str(path), warm_up=True)


def test_an_empty_list_of_models_is_refused() -> None:
    with pytest.raises(EmptyEnsembleError, match="no base model was given; name at least one"):
        engine()
    with pytest.raises(EmptyEnsembleError, match="no base model was given; name at least one"):
        FusionEngine.from_models([])


def test_a_model_listed_with_an_unknown_option_is_refused() -> None:
    with pytest.raises(UnknownOptionError, match=r"ModelConfig has no option 'dtyp'.*'dtype'"):
        ModelConfig(path="x", dtyp="float32")
    with pytest.raises(
        InvalidOptionError, match="a model must be a hub id, a path or a ModelConfig, got 42"
    ):
        engine(42)


def test_a_loaded_model_in_place_of_a_name_is_refused_in_one_line() -> None:
    with pytest.raises(InvalidOptionError) as error:
        engine(tiny.model("llama", 300))
    assert str(error.value) == (
        "a model must be a hub id, a path or a ModelConfig, got an object of the type "
        "LlamaForCausalLM. Give models that are already loaded to FusionEngine.from_models."
    )


def test_two_models_of_one_name_are_refused(save: Save) -> None:
    path = str(save())
    with pytest.raises(DuplicateNameError, match=r"named 'x'; give each its own"):
        engine(ModelConfig(path=path, name="x"), ModelConfig(path=path, name="x"))


def test_a_default_name_gives_way_to_one_that_was_given(save: Save) -> None:
    path = str(save("x"))
    assert engine(path, ModelConfig(path=path, name="x")).models == ("x#2", "x")


def test_names_and_models_must_be_as_many() -> None:
    pair = tiny.pair("llama", "bytelevel")
    with pytest.raises(InvalidOptionError, match="1 models were given, but 2 names; give one name"):
        FusionEngine.from_models([pair], names=["a", "b"])


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("model", ""),
        ("./directory", "from_pretrained"),
        ((), ""),
        (("model", "tokenizer", "more"), ""),
        (("tokenizer", "model"), ""),
        (("model", None), ""),
        (("model", "./directory"), ""),
        (None, ""),
    ],
)
def test_what_is_no_pair_of_model_and_tokenizer_is_told_by_its_place(given: Any, hint: str) -> None:
    parts = dict(zip(("model", "tokenizer"), tiny.pair("llama", "bytelevel"), strict=True))

    def real(value: Any) -> Any:
        return tuple(map(real, value)) if isinstance(value, tuple) else parts.get(value, value)

    pair = (parts["model"], parts["tokenizer"])
    with pytest.raises(InvalidOptionError, match=f"model 2 of from_models.*{hint}"):
        FusionEngine.from_models([pair, real(given)])


def test_a_failed_load_can_be_tried_again(save: Save) -> None:
    path = save("later", family="metaspace")
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(b"")
    fused = engine(str(path))
    with pytest.raises(ModelLoadError, match="later"):
        fused.generate("a")
    (path / "model.safetensors").write_bytes(data)
    assert fused.generate("a", max_new_tokens=3).finish_reason


# The context window


def test_a_prompt_that_is_too_long_is_refused_before_any_model_runs() -> None:
    small = (tiny.model("gpt2", 700, n_positions=64), tiny.tokenizer("bytelevel"))
    large = tiny.pair("llama", "bytelevel")
    fused = FusionEngine.from_models([large, small], names=["large", "small"], progress=False)
    fused.warm_up()
    assert fused.context_window == 64
    runs: list[str] = []
    for backend in fused.backends:
        run = backend.model.runner.run
        backend.model.runner.run = lambda *a, run=run, **k: runs.append("") or run(*a, **k)
    question = "How many lamps are in the hall? " * 8
    length = len(fused.backends[1].template.prompt([Message("user", question)]).ids)
    with pytest.raises(PromptTooLongError) as caught:
        fused.stream(question)
    message = str(caught.value)
    assert f"{length} tokens for 'small', whose context window is 64; shorten it" in message
    assert runs == []
    assert fused.generate("How many?", max_new_tokens=3).text


def test_a_prompt_that_leaves_room_for_one_token_is_answered_with_one() -> None:
    pair = (tiny.model("gpt2", 102, n_positions=64), tiny.characters("{{ messages[-1].content }}"))
    fused = FusionEngine.from_models([pair], progress=False)
    with pytest.raises(PromptTooLongError, match="64 tokens for"):
        fused.stream("x" * 64)
    answer = fused.generate("x" * 63, max_new_tokens=9)
    assert answer.finish_reason in ("context", "stop")
    assert len(answer.text) <= 1


def test_an_answer_ends_where_the_smallest_window_does() -> None:
    small = (tiny.model("gpt2", 102, n_positions=64), tiny.characters())
    large = (tiny.model("llama", 102, seed=1), tiny.characters())
    fused = FusionEngine.from_models(
        [large, small], FusionConfig(method="specem"), names=["large", "small"], progress=False
    )
    reasons = set()
    for seed in range(6):
        answer = fused.generate("x", temperature=1.0, seed=seed, max_new_tokens=400)
        reasons.add(answer.finish_reason)
        prompt = len(fused.backends[1].template.prompt([Message("user", "x")]).ids)
        assert prompt + len(answer.text) <= 64
        if answer.finish_reason == "context":
            assert prompt + len(answer.text) == 64
    assert "context" in reasons


def test_a_template_error_of_a_request_leaves_the_engine_whole() -> None:
    shape = (
        "{% if messages[0].content|length > 99 %}{{ raise_exception('too long') }}{% endif %}"
        "{{ messages[0].content }}"
    )
    model, tokenizer = tiny.pair("llama", "bytelevel", template=shape)
    fused = FusionEngine.from_models([(model, tokenizer)], names=["picky"], progress=False)
    with pytest.raises(TemplateError, match=r"picky.*too long.*chat_template"):
        fused.generate("a" * 100)
    assert fused.generate("a", max_new_tokens=3).text


def test_a_tokenizer_that_is_not_the_models_is_refused_before_it_runs() -> None:
    small = tiny.model("llama", 16)
    engine = FusionEngine.from_models([(small, tiny.tokenizer("bytelevel"))], names=["odd"])
    with pytest.raises(ModelLoadError, match=r"'odd'.*vocabulary has only 16 ids; load the t"):
        engine.stream("hello")


def test_a_model_object_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def choose(runner: Runner) -> MethodChoice:
        measured.append(runner.model)
        return MethodChoice("packed-window", {}, slow=False)

    monkeypatch.setattr(hf_loaded, "choose_method", choose)
    pair = tiny.pair("mistral", "bytelevel")
    for _ in range(2):
        FusionEngine.from_models([pair, pair], warm_up=True)
    assert measured == [pair[0]]
