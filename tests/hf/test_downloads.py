"""Missing weights are downloaded for all models at once, and the progress is shown."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from rich.console import Console

from specfuse_core import FusionEngine, ModelConfig
from specfuse_core.errors import ModelNotFoundError
from specfuse_core.hf import downloads, hub, loading
from specfuse_core.hf.downloads import is_cached
from specfuse_core.models import load
from specfuse_core.models.progress import LoadingScreen, Stopped


def keep(cache: Path, name: str, files: Path, *, skip: str = "") -> Path:
    """Put a saved model into the hub's cache, as a download does."""
    entry = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(
        files, entry / "snapshots" / "0123abc", ignore=shutil.ignore_patterns(skip or "nothing")
    )
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text("0123abc")
    return entry / "snapshots" / "0123abc"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to the terminal."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(load, "Console", lambda **options: console)
    return written


class Hub:
    """A hub whose two downloads wait for each other, and until they are shown."""

    def __init__(self, cache: Path, files: Path, screen: io.StringIO) -> None:
        self.cache, self.files, self.screen = cache, files, screen
        self.both = threading.Barrier(2, timeout=30)
        self.calls: list[tuple[str, str | None, list[str]]] = []

    def download(
        self,
        path: str,
        *,
        revision: str | None,
        token: str | None,
        allow_patterns: list[str],
        tqdm_class: Any,
    ) -> None:
        self.calls.append((path, token, allow_patterns))
        # As the hub's client does: two bars of bytes, and one of files.
        moved = tqdm_class(desc="Downloading", total=0, unit="B", unit_scale=True, name="x")
        written = tqdm_class(desc="Writing", total=0, unit="B", unit_scale=True)
        files = tqdm_class(desc="Fetching 1 files", total=1)
        for bar in (moved, written):
            bar.total += 4_000_000
            bar.refresh()
        moved.update(1_000_000)
        written.update(500_000)
        self.both.wait()
        end = time.monotonic() + 20
        while self.screen.getvalue().count("1.0/4.0 MB") < 2 and time.monotonic() < end:
            time.sleep(0.01)
        files.update(1)
        keep(self.cache, path, self.files)


def test_models_are_downloaded_at_the_same_time_with_bytes_and_rates(
    cache: Path, saved: Path, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Hub(cache, saved, screen)
    monkeypatch.setattr(load, "look_up", lambda config: None)
    monkeypatch.setattr(loading, "ask_hub", lambda *asked: None)
    monkeypatch.setattr(downloads, "snapshot_download", server.download)
    monkeypatch.setattr(
        downloads.HfApi,
        "list_repo_files",
        lambda self, path, *, revision, token: [
            "config.json",
            "model.safetensors",
            "model.fp16.bin",
        ],
    )
    fused = FusionEngine.from_pretrained([ModelConfig(path="org/one", token="hf_a"), "org/two"])
    fused.warm_up()
    assert sorted(server.calls) == [
        ("org/one", "hf_a", ["model.safetensors"]),
        ("org/two", None, ["model.safetensors"]),
    ]
    shown = screen.getvalue()
    for name in ("one", "two"):
        line = next(line for line in shown.splitlines() if f"{name} " in line and " MB" in line)
        assert "1.0/4.0 MB" in line
        assert "0.5/4.0" not in line
    assert "loading two" in shown
    assert all(backend.ready for backend in fused.backends)


def test_what_is_on_this_machine_is_not_downloaded(
    cache: Path, saved: Path, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(cache, "org/kept", saved)
    monkeypatch.setattr(loading, "ask_hub", lambda *asked: pytest.fail("the hub was asked"))
    fused = FusionEngine.from_pretrained([str(saved), "org/kept"])
    fused.warm_up()
    assert "MB" not in screen.getvalue()


def test_a_model_that_the_hub_does_not_have_is_refused_before_any_is_loaded(
    cache: Path, saved: Path, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(config: ModelConfig, *_: object) -> None:
        raise ModelNotFoundError(f"{config.path!r}: not there")

    monkeypatch.setattr(load, "look_up", lambda config: None)
    monkeypatch.setattr(loading, "ask_hub", refuse)
    fused = FusionEngine.from_pretrained([str(saved), "org/none"])
    with pytest.raises(ModelNotFoundError, match="'org/none': not there"):
        fused.warm_up()
    assert not fused.backends[0].ready  # type: ignore[attr-defined]


def test_a_download_ends_when_the_screen_is_closed() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    with LoadingScreen(console, 1) as shown:
        watcher = shown.watcher("a")
        watcher.advance(1, 10, None)
    with pytest.raises(Stopped):
        watcher.advance(1, 20, None)


@pytest.mark.parametrize(
    ("missing", "cached"),
    [
        ("", True),
        ("config.json", False),
        ("model.safetensors", False),
        ("tokenizer.json", True),
    ],
)
def test_weights_are_cached_if_no_file_of_them_is_missing(
    cache: Path, saved: Path, missing: str, cached: bool
) -> None:
    keep(cache, "org/a", saved, skip=missing)
    assert is_cached(ModelConfig(path="org/a")) is cached


def test_weights_in_several_files_are_cached_if_all_are_there(cache: Path, saved: Path) -> None:
    folder = keep(cache, "org/a", saved, skip="*.safetensors")
    parts = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    index = {"weight_map": {"a": parts[0], "b": parts[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for part in parts:
        assert not is_cached(ModelConfig(path="org/a"))
        (folder / part).touch()
    assert is_cached(ModelConfig(path="org/a"))


def test_gguf_weights_are_cached_if_their_file_is(cache: Path, saved: Path) -> None:
    folder = keep(cache, "org/a", saved)
    config = ModelConfig(path="org/a", gguf_file="a.gguf")
    assert not is_cached(config)
    (folder / "a.gguf").touch()
    assert is_cached(config)


def test_a_repository_of_gguf_files_needs_no_other_file(
    cache: Path, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(url: str, token: str | None) -> None:
        asked.append(url.rpartition("/")[2])
        raise ConnectionError

    monkeypatch.setattr(hub, "_ask", refuse)
    with pytest.raises(ModelNotFoundError, match="could not be reached"):
        FusionEngine.from_pretrained(["org/files/a.gguf"]).warm_up()
    assert asked == ["a.gguf"]
