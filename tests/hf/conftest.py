"""What several tests of the backend with transformers need or change in it."""

from pathlib import Path

import pytest
import tiny

from specfuse_core.hf import linears, loading


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The directory of a tiny Llama and its tokenizer."""
    model, tokenizer = tiny.pair("llama", "bytelevel")
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the models whose weights were loaded, in that order."""
    paths: list[str] = []
    load = loading._weights
    monkeypatch.setattr(
        loading, "_weights", lambda config: paths.append(config.path) or load(config)
    )
    return paths


@pytest.fixture
def onednn_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use oneDNN for layers of every size, so that tiny models have it too."""
    monkeypatch.setattr(linears, "_LARGE", 0)
