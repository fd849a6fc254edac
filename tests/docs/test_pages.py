"""What the README and the pages show is true: commands, links, names of files.

That programs print what is shown is tested in ``tests/package``, in the environments that the pages
tell people to make.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import runpy
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

import specfuse_core
from specfuse_core.command.cli import app

pytestmark = pytest.mark.usefixtures("own_loop")

ROOT = Path(specfuse_core.__file__).parents[1]
OUTPUTS = runpy.run_path(str(ROOT / "docs" / "outputs.py"))
PAGES: list[Path] = OUTPUTS["PAGES"]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return re.findall(r"^ *```(.*)\n((?:(?! *```).*\n)*) *```$", text_of(page), re.MULTILINE)


def test_all_pages_are_looked_at() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/index.md"} < set(NAMES)
    assert {"docs/api/core.md", "docs/langchain.md"} < set(NAMES)


@pytest.mark.parametrize(
    ("page", "filled"),
    [
        (
            "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n",
            "```python\nprint(1 + 1)\n```\n\n```text\n2\n```\n",
        ),
        (
            "```python\nprint('a')\n```\n\nText.\n",
            "```python\nprint('a')\n```\n\n```text\na\n```\n\nText.\n",
        ),
        (
            "```python\n2 + 2\n```\n\n```text\n4\n```\n",
            "```python\n2 + 2\n```\n",
        ),
        (
            "<!-- not run: needs a model from the hub -->\n```python\n1 / 0\n```\n",
            "<!-- not run: needs a model from the hub -->\n```python\n1 / 0\n```\n",
        ),
        (
            "```console\n$ specfuse --version\nspecfuse 7\n$ specfuse --version\n```\n",
            f"```console\n$ specfuse --version\nspecfuse {specfuse_core.__version__}\n"
            f"$ specfuse --version\nspecfuse {specfuse_core.__version__}\n```\n",
        ),
        ("```bash\nspecfuse\n```\n", "```bash\nspecfuse\n```\n"),
    ],
)
def test_outputs_are_filled_in(page: str, filled: str) -> None:
    assert OUTPUTS["filled"](page) == filled


def test_a_program_without_a_reason_not_to_run_runs() -> None:
    with pytest.raises(ZeroDivisionError):
        OUTPUTS["filled"]("<!-- a comment -->\n```python\n1 / 0\n```\n")


def test_a_command_of_a_console_that_cannot_run_is_refused() -> None:
    with pytest.raises(ValueError, match="'make test' runs neither specfuse nor an example"):
        OUTPUTS["filled"]("```console\n$ make test\nall good\n```\n")


@pytest.mark.parametrize("page", NAMES)
def test_every_block_is_of_a_kind_that_is_checked(page: str) -> None:
    shown = text_of(page)
    assert {language for language, _ in blocks(page)} <= {"", "python", "text", "console", "bash"}
    for language, content in blocks(page):
        if language in ("python", "console"):
            # Indented ones would not be seen.
            assert f"\n```{language}\n{content}```\n" in shown
        assert language != "console" or content.startswith("$ ")


def commands() -> list[tuple[str, str]]:
    """Page and text of each command that is shown without its output."""
    found = []
    # The changelog may name what is gone.
    for page in sorted(set(NAMES) - {"CHANGELOG.md"}):
        lines = [
            line
            for language, content in blocks(page)
            if language == "bash"
            for line in content.splitlines()
        ]
        outside = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
        lines += re.findall(r"^    ((?:make|pip|specfuse|python) .*)$", outside, re.MULTILINE)
        lines += re.findall(r"`((?:make|python -m|specfuse) [^`]+)`", outside)
        found += [(page, line.strip()) for line in lines if line.strip()]
    return found


def check_specfuse(arguments: list[str]) -> None:
    group: Any = typer.main.get_command(app)
    if not arguments or arguments[-1] == "--help":
        return
    name = arguments.pop(0) if arguments[0] in group.commands else "run"
    group.commands[name].make_context(name, [*arguments], resilient_parsing=False)


def check_module(name: str) -> None:
    assert importlib.util.find_spec(name) is not None


def check_make(target: str) -> None:
    assert re.search(rf"^(?:[\w ]+ )?{target}(?: [\w ]+)?:", MAKEFILE, re.MULTILINE)


def check_install(wanted: str) -> None:
    if extra := re.fullmatch(r"\.\[(\w+)\]", wanted):
        assert extra[1] in PYPROJECT["project"]["optional-dependencies"]
    else:
        assert wanted in (".", "langchain") or (ROOT / wanted / "pyproject.toml").exists()


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_that_is_shown_exists(page: str, command: str) -> None:
    for part in command.split("#")[0].split(" | "):
        program, *arguments = shlex.split(part)
        match (Path(program).name, arguments):
            case ("specfuse", _):
                check_specfuse(arguments)
            case ("python", ["-m", module, *_]):
                check_module(module)
            case ("make", [target]):
                check_make(target)
            case ("pip", ["install", *wanted]):
                for one in wanted:
                    check_install(one)
            case ("HF_HUB_OFFLINE=1", [_, "-q", *rest]):
                assert all((ROOT / path).exists() for path in rest if path.startswith("tests/"))
            case ("git", ["diff"]):
                pass
            case (_, []) if "=" in program:
                pass
            case _:
                pytest.fail(f"{page}: {command!r} is not known to this test")


@pytest.mark.parametrize("page", NAMES)
def test_every_link_in_the_documentation_leads_somewhere(page: str) -> None:
    prose = re.sub(r"^```.*?^```|`[^`\n]+`", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
        # These two are made from the files of that name in the root (docs/hooks.py).
        made = target in ("contributing.md", "changelog.md")
        assert (
            target.startswith("https://") or made or (ROOT / page).parent.joinpath(target).exists()
        )


@pytest.mark.parametrize("page", NAMES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    folders = ("specfuse_core", "tests", "docs", "benchmarks", "training", "examples")
    files = {f"/{path.name}" for path in ROOT.iterdir()}
    for folder in folders:
        files |= {f"/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / folder).rglob("*.*")}
    for name in re.findall(r"`([\w/-]+\.(?:py|md|svg))`", text_of(page)):
        assert any(path.endswith(f"/{name}") for path in files), name


def test_every_test_that_contributing_names_exists() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for name in re.findall(r"`(test_\w+)`", CONTRIBUTING):
        assert f"def {name}(" in tests


def test_the_readme_can_be_read_in_three_minutes() -> None:
    assert len(README.splitlines()) <= 200
    assert README.index("## Limits") < README.index("## Python") < README.index("## Results")
    program = README.split("```python\n")[1].split("```")[0]
    assert len(program.splitlines()) == 10


def test_the_readme_needs_no_repository_around_it() -> None:
    assert "![" not in README
    assert "<img" not in README
    assert all(target.startswith("https://") for target in re.findall(r"\]\(([^)]+)\)", README))


def test_the_tree_in_contributing_is_the_tree() -> None:
    tree = CONTRIBUTING.split("## The parts")[1].split("```")[1]
    core = tree.split("langchain_specfuse/")[0]
    assert set(re.findall(r"^  (\S+)", core, re.MULTILINE)) == parts()
    for folder in re.findall(r"^(\w+/)", tree, re.MULTILINE):
        assert (ROOT / folder).is_dir()


def test_the_picture_of_the_parts_has_them_all() -> None:
    picture = (ROOT / "docs" / "house.svg").read_text(encoding="utf-8")
    boxes = {
        name
        for text in re.findall(r'class="name"[^>]*>([^<]+)<', picture)
        for name in text.split(", ")
    }
    assert boxes == parts() | {"langchain_specfuse/", "llamaindex_specfuse/"}


def parts() -> set[str]:
    """The files and folders of the core."""
    package = ROOT / "specfuse_core"
    files = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    return files | {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}


@pytest.mark.parametrize(
    ("module", "page"),
    [
        ("specfuse_core", "core"),
        ("specfuse_core.backend", "extending"),
        ("specfuse_core.testing", "extending"),
        ("langchain_specfuse", "langchain"),
        ("llamaindex_specfuse", "llamaindex"),
    ],
)
def test_every_public_name_is_in_the_api_reference(module: str, page: str) -> None:
    listed = set(re.findall(r"^::: (\S+)$", text_of(f"docs/api/{page}.md"), re.MULTILINE))
    public = {f"{module}.{name}" for name in importlib.import_module(module).__all__}
    assert public - listed <= {"specfuse_core.FusionError"}
