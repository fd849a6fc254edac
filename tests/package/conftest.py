"""Our distributions, built and installed once for all tests, whichever process runs them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from environments import OURS, Environment, Index, build, unpack
from filelock import FileLock

Make = Callable[..., Environment]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run have in common."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def built(shared: Path) -> Path:
    """The folder ``built`` with the wheels, and beside it ``unpacked`` with what is in them."""
    folder = shared / "built"
    with FileLock(shared / "built.lock"):
        if not folder.exists():
            making = shared / "making"
            for name in OURS:
                unpack(build(name, "wheel", making), shared / "unpacked")
            making.rename(folder)
    return folder


@pytest.fixture(scope="session")
def environment(built: Path, shared: Path) -> Make:
    """Gives the environment that some requirements lead to."""
    index = Index(shared / "unpacked")

    def make(*requirements: str) -> Environment:
        folder = shared / " ".join(["environment", *sorted(requirements)])
        with FileLock(f"{folder}.lock"):
            if folder.exists():
                return Environment(folder)
            return index.environment(folder, *requirements)

    return make
