"""Creates environments as pip would, from the installed distributions and without a download.

Each one is a virtual environment. It contains links to the distributions that its requirements
need, according to the metadata of the built wheel and of its dependencies, and nothing else. A
requirement that is not declared raises a ``ModuleNotFoundError`` there, as it does for a user.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
#: The distributions that this repository builds, by their folders.
OURS = {
    "specfuse": ROOT,
    "llama-index-llms-specfuse": ROOT / "packages" / "llama-index-llms-specfuse",
}
#: A warning is an error, but for those that it is not in the tests either.
WARNINGS = [
    f"-W{line}"
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "pytest"
    ]["ini_options"]["filterwarnings"]
]


def build(name: str, target: str, folder: Path) -> Path:
    """Build one of our distributions as a ``wheel`` or an ``sdist``."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)],
        cwd=OURS[name],
        check=True,
        capture_output=True,
    )
    ending = {"wheel": ".whl", "sdist": ".tar.gz"}[target]
    (built,) = folder.glob(f"{name.replace('-', '_')}-*{ending}")
    return built


def unpack(wheel: Path, folder: Path) -> None:
    """Install a wheel into a folder, without its dependencies."""
    options = ["--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(wheel)],
        check=True,
        capture_output=True,
    )


class Index:
    """The distributions that environments can contain.

    Args:
        unpacked: a folder with our own distributions. All others are from this environment.
    """

    def __init__(self, unpacked: Path) -> None:
        self._unpacked = unpacked

    @cached_property
    def _available(self) -> Mapping[str, Distribution]:
        folders = [str(self._unpacked), sysconfig.get_path("purelib")]
        found: dict[str, Distribution] = {}
        for distribution in distributions(path=folders):
            found.setdefault(canonicalize_name(distribution.name), distribution)
        return found

    def required(self, *requirements: str) -> dict[str, Distribution]:
        """Return the distributions that ``requirements`` need, by their names.

        Raises:
            LookupError: if no allowed version of one is installed.
        """
        waiting = [Requirement(requirement) for requirement in requirements]
        chosen: dict[str, Distribution] = {}
        done: set[tuple[str, str]] = set()
        while waiting:
            wanted = waiting.pop()
            name = canonicalize_name(wanted.name)
            distribution = self._available.get(name)
            if distribution is None or not wanted.specifier.contains(
                distribution.version, prereleases=True
            ):
                raise LookupError(f"{wanted} is not installed; install it in this environment.")
            chosen[name] = distribution
            for extra in {"", *wanted.extras} - {extra for one, extra in done if one == name}:
                done.add((name, extra))
                waiting += _required(distribution, extra)
        return chosen

    def environment(self, folder: Path, *requirements: str) -> Environment:
        """Create an environment with the distributions that ``requirements`` need."""
        venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
        environment = Environment(folder)
        for distribution in self.required(*requirements).values():
            for owned in _owned(distribution):
                link = environment.packages / owned
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(str(distribution.locate_file(owned)))
        return environment


class Environment:
    """A virtual environment.

    Args:
        folder: folder of the environment.
    """

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.packages = folder / "lib" / version / "site-packages"

    def run(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run the Python of the environment in the root of the repository.

        It does not import the packages of the repository.
        """
        return subprocess.run(
            [str(self.python), "-I", *WARNINGS, *arguments],
            cwd=ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            input=given,
            capture_output=True,
            text=True,
        )


def _required(distribution: Distribution, extra: str) -> Iterator[Requirement]:
    for line in distribution.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


@cache
def _owned(distribution: Distribution) -> set[Path]:
    """Return the outermost packages of a distribution, and its files outside of packages.

    Namespace packages are left out, because other distributions share them.
    """
    files = [Path(file) for file in distribution.files or () if ".." not in file.parts]
    packages = {file.parent for file in files if file.name == "__init__.py"}
    return {
        next((folder for folder in reversed(file.parents) if folder in packages), file)
        for file in files
        if file.suffix != ".pyc"
    }
