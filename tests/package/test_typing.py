"""Users' code over the installed packages has types: ``mypy --strict``, without plugins."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType

import pytest
from environments import ROOT, Environment

PACKAGES = ["specfuse_core", "langchain_specfuse", "llamaindex_specfuse"]
APPLICATION = ROOT / "tests" / "package" / "application.py"


def checked(program: Path, environment: Environment, cache: Path) -> str:
    """What mypy says of a program, with what ``make test`` let it find of others' packages."""
    found = ROOT / ".mypy_cache"
    if found.exists() and not cache.exists():
        shutil.copytree(found, cache)
    # The options that are in pyproject.toml too, or nothing that was found would be of use.
    options = ["--strict", "--config-file=", "--untyped-calls-exclude=transformers"]
    options += [f"--python-executable={environment.python}", f"--cache-dir={cache}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(program)],
        cwd=program.parent,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def mypy(
    built: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], str]:
    folder = tmp_path_factory.mktemp("mypy")
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    installed = Environment(folder)
    # Others' packages are where ``make test`` found them, or its cache would be of no use.
    places = [str(shared / "unpacked"), sysconfig.get_path("purelib")]
    (installed.packages / "places.pth").write_text("\n".join(places), encoding="utf-8")
    return lambda program: checked(program, installed, folder / "cache")


def test_an_application_over_all_three_packages_has_types(mypy: Callable[[Path], str]) -> None:
    assert mypy(APPLICATION) == "Success: no issues found in 1 source file\n"


def members(owner: type) -> Iterator[str]:
    """The public methods and properties of a class that are defined in our packages."""
    for base in owner.__mro__:
        if base.__module__.split(".")[0] in PACKAGES:
            for name, member in vars(base).items():
                kinds = (classmethod, staticmethod, property, FunctionType)
                if not name.startswith("_") and isinstance(member, kinds):
                    yield name


def test_no_method_and_no_property_is_any(mypy: Callable[[Path], str], tmp_path: Path) -> None:
    asked, lines = [], [f"import {package}" for package in PACKAGES]
    for package in PACKAGES:
        exported = vars(importlib.import_module(package))
        for name in exported["__all__"]:
            if isinstance(exported[name], type):
                for member in sorted(set(members(exported[name]))):
                    asked.append(f"{package}.{name}.{member}")
                    lines.append(f"def f{len(asked)}(it: {package}.{name}) -> None:")
                    lines.append(f"    reveal_type(it.{member})")
    program = tmp_path / "members.py"
    # And the check sees what it should.
    bad = ["ModelConfig = specfuse_core.ModelConfig", "ModelConfig(name=1)"]
    program.write_text("\n".join([*lines, *bad]), encoding="utf-8")
    said = mypy(program)
    revealed = re.findall(r'note: Revealed type is "(.*)"$', said, re.MULTILINE)
    found = dict(zip(asked, revealed, strict=True))
    assert found["specfuse_core.FusionEngine.models"] == "tuple[str, ...]"
    assert {name for name, kind in found.items() if re.search(r"(^|-> )Any$", kind)} == set()
    assert 'Missing named argument "path" for "ModelConfig"' in said
    assert 'Argument "name" to "ModelConfig" has incompatible type "int"' in said
    assert said.endswith("Found 2 errors in 1 file (checked 1 source file)\n")
