"""What is built: all files of the packages, metadata for a package page, and no more."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from environments import OURS, ROOT, Environment, build

import specfuse_core

PACKAGES = {
    "specfuse": ["specfuse_core", "langchain_specfuse", "llamaindex_specfuse"],
    "llama-index-llms-specfuse": ["llama_index"],
}


def files(root: Path, packages: list[str]) -> set[str]:
    """The files of some packages, as a wheel calls them."""
    return {
        path.relative_to(root).as_posix()
        for package in packages
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def content(wheel: Path) -> set[str]:
    """The files of a wheel, but for its metadata."""
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def wheel_of(name: str, built: Path) -> Path:
    (wheel,) = built.glob(f"{name.replace('-', '_')}-*.whl")
    return wheel


@pytest.fixture
def metadata(built: Path) -> dict[str, Distribution]:
    found = distributions(path=[str(built.parent / "unpacked")])
    return {distribution.name: distribution for distribution in found}


@pytest.mark.parametrize("name", OURS)
def test_a_wheel_has_all_files_of_its_packages_and_no_others(name: str, built: Path) -> None:
    assert content(wheel_of(name, built)) == files(OURS[name], PACKAGES[name])


def test_weights_templates_and_type_markers_are_in_the_wheels(built: Path) -> None:
    names = set().union(*(content(wheel_of(name, built)) for name in OURS))
    for model in ("clerk", "reader", "reckoner"):
        for file in ("model.safetensors", "tokenizer.json", "chat_template.jinja"):
            assert f"specfuse_core/bundled/{model}/{file}" in names
    for package in (*PACKAGES["specfuse"], "llama_index/llms/specfuse"):
        assert f"{package}/py.typed" in names


@pytest.mark.parametrize("name", OURS)
def test_the_source_distribution_makes_the_same_wheel(
    name: str, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = build(name, "sdist", tmp_path)
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    monkeypatch.setitem(OURS, name, tmp_path / "source" / source.name.removesuffix(".tar.gz"))
    wheel = build(name, "wheel", tmp_path)
    assert content(wheel) == content(wheel_of(name, built))
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", str(source), str(wheel)],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count("PASSED") == 2


def test_both_distributions_say_who_made_them_and_have_one_version(
    metadata: dict[str, Distribution],
) -> None:
    assert set(metadata) == set(OURS)
    for distribution in metadata.values():
        about = distribution.metadata
        assert about["Version"] == specfuse_core.__version__
        assert about["Author"] == "specfuse contributors"
        assert about["License-Expression"] == "Apache-2.0"
        assert about["Requires-Python"] == ">=3.11"
        assert about["Description-Content-Type"] == "text/markdown"
        assert "Typing :: Typed" in about.get_all("Classifier", [])
        # There is no public address yet.
        assert about.get_all("Project-URL") is None
    (required,) = metadata["llama-index-llms-specfuse"].requires or ()
    major, minor, _ = specfuse_core.__version__.split(".")
    assert required == (
        f"specfuse[llamaindex]<{major}.{int(minor) + 1},>={specfuse_core.__version__}"
    )


def test_the_extras_are_those_that_something_needs(metadata: dict[str, Distribution]) -> None:
    extras = set(metadata["specfuse"].metadata.get_all("Provides-Extra", []))
    frameworks = {"langchain", "llamaindex"}
    assert extras == {"all", "dev", "docs", "examples", "gguf", "peft", *frameworks}


def test_the_command_is_installed(environment: Callable[..., Environment]) -> None:
    code = (
        "from importlib.metadata import entry_points\n"
        "(command,) = entry_points(group='console_scripts', name='specfuse')\n"
        "command.load()(['--version'])"
    )
    done = environment("specfuse").run("-c", code)
    assert done.stdout == f"specfuse {specfuse_core.__version__}\n", done.stderr


def test_nothing_beside_the_packages_is_imported_from_the_repository(
    environment: Callable[..., Environment],
) -> None:
    code = "import specfuse_core, sys; print(specfuse_core.__file__, *sys.path, sep='\\n')"
    done = environment("specfuse").run("-c", code)
    assert str(ROOT) not in done.stdout
