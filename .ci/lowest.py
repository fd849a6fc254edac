"""Prints the lowest version of each package that specfuse declares, as a constraints file for pip.

Only what users install counts: the dependencies, the extra ``all`` and what builds the package.
torch is left out: see the Makefile.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def lowest(declared: Mapping[str, Any], extra: str) -> dict[str, str]:
    """The lowest versions that a pyproject.toml declares for users of an extra, by name.

    Raises:
        ValueError: for a requirement without a lower bound.
    """
    found = {}
    building = map(Requirement, declared["build-system"]["requires"])
    for requirement in (*building, *_required(declared["project"], extra)):
        bounds = [each.version for each in requirement.specifier if each.operator in (">=", "==")]
        if len(bounds) != 1:
            raise ValueError(f"{requirement} must have one lower bound (>=)")
        found[requirement.name] = bounds[0]
    return dict(sorted(found.items()))


def _required(project: Mapping[str, Any], extra: str) -> Iterator[Requirement]:
    waiting, done = [*project["dependencies"]], {extra}
    waiting += project["optional-dependencies"][extra]
    while waiting:
        requirement = Requirement(waiting.pop(0))
        if requirement.name != project["name"]:
            yield requirement
        for other in requirement.extras - done if requirement.name == project["name"] else ():
            done.add(other)
            waiting += project["optional-dependencies"][other]


if __name__ == "__main__":
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name, version in lowest(declared, "all").items():
        if name != "torch":
            print(f"{name}=={version}")
