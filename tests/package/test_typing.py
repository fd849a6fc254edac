"""Users' code over the installed packages has types: ``mypy --strict``, without plugins."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from environments import ROOT, Environment

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


def test_an_application_over_all_three_packages_has_types(
    environment: Callable[..., Environment], tmp_path: Path
) -> None:
    installed = environment("llama-index-llms-specfuse", "specfuse[langchain]")
    cache = tmp_path / "cache"
    said = checked(APPLICATION, installed, cache)
    assert said == "Success: no issues found in 1 source file\n"
    # And the check sees what it should.
    bad = tmp_path / "bad.py"
    bad.write_text("from specfuse_core import ModelConfig\n\nModelConfig(name=1)\n", "utf-8")
    said = checked(bad, installed, cache)
    assert 'Missing named argument "path"' in said
    assert 'Argument "name" to "ModelConfig" has incompatible type "int"' in said
