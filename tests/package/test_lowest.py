"""The environment of ``make test-lowest`` has the lowest versions that are declared."""

from __future__ import annotations

import runpy
import subprocess
import sys
import tomllib
from typing import Any

import pytest
from environments import ROOT
from packaging.requirements import Requirement

SCRIPT = ROOT / ".ci" / "lowest.py"
lowest = runpy.run_path(str(SCRIPT))["lowest"]


def declared(*dependencies: str, **extras: list[str]) -> dict[str, Any]:
    project = {"name": "ours", "dependencies": [*dependencies], "optional-dependencies": extras}
    return {"build-system": {"requires": ["z>=7"]}, "project": project}


def test_extras_are_followed_to_their_ends() -> None:
    ours = declared(
        "b>=2,<3",
        "a[x]>=1.10",
        all=["ours[one,two]", "c==4"],
        one=["ours[two]", "d>=0.1.2"],
        two=["ours[one]", 'e>=5; python_version > "3"'],
        dev=["f>=6"],
    )
    found = {"a": "1.10", "b": "2", "c": "4", "d": "0.1.2", "e": "5", "z": "7"}
    assert lowest(ours, "all") == found
    assert [*lowest(ours, "all")] == [*found]
    assert lowest(ours, "dev") == {"a": "1.10", "b": "2", "f": "6", "z": "7"}


@pytest.mark.parametrize("requirement", ["a", "a<2", "a!=1", "a~=1.0"])
def test_a_requirement_without_a_lower_bound_is_refused(requirement: str) -> None:
    with pytest.raises(ValueError, match=r"^a.* must have one lower bound"):
        lowest(declared(requirement, all=[]), "all")


def test_the_file_has_what_users_install_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True)
    names = [Requirement(line).name for line in done.stdout.splitlines()]
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    direct = {Requirement(line).name for line in ours["project"]["dependencies"]}
    assert direct - {"torch"} < {*names}
    assert {"langchain-core", "llama-index-core", "langchain", "langgraph", "hatchling"} <= {*names}
    assert not {"torch", "pytest", "specfuse"} & {*names}
