"""What several tests of the backend with transformers change in it."""

import pytest

from specfuse_core.hf import linears


@pytest.fixture
def onednn_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use oneDNN for layers of every size, so that tiny models have it too."""
    monkeypatch.setattr(linears, "_LARGE", 0)
