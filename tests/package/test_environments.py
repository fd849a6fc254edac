"""What is shown runs in the environment that the text above it tells people to make."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from environments import OURS, ROOT, Environment
from packaging.requirements import Requirement

Make = Callable[..., Environment]

OUTPUTS = runpy.run_path(str(ROOT / "docs" / "outputs.py"))
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
#: Lines that belong together offer several installations; what follows needs the first.
_INSTALL = re.compile(
    r"^ *pip install ([^\n]+)(?:\n *pip install .+)*|`pip install ([^`\n]+)`", re.M
)


def requirements(command: str) -> tuple[str, ...]:
    """What ``pip install COMMAND`` in the root of the repository installs."""
    folders = {str(path.relative_to(ROOT)): name for name, path in OURS.items()}
    wanted = []
    for argument in shlex.split(command, comments=True):
        path, bracket, extras = argument.partition("[")
        name = folders.get(path.removeprefix("./") or ".", path)
        wanted.append(f"{name}{bracket}{extras}")
    return tuple(wanted)


def sections(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The parts of a text, each with what the text before it says to install."""
    installed: tuple[str, ...] = ("specfuse",)
    found = list(_INSTALL.finditer(text))
    bounds = [0, *(match.end() for match in found), len(text)]
    for match, (start, end) in zip([None, *found], pairwise(bounds), strict=True):
        if match is not None:
            wanted = requirements(match[1] or match[2])
            ours = any(Requirement(one).name in OURS for one in wanted)
            # Another package is added to what is there.
            installed = wanted if ours else (*installed, *wanted)
        yield installed, text[start:end]


def shown() -> dict[tuple[str, ...], tuple[list[str], list[str]]]:
    """By what is installed: the parts of pages that show programs, and the examples."""
    found: dict[tuple[str, ...], tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for page in OUTPUTS["PAGES"]:
        for installed, text in sections(page.read_text(encoding="utf-8")):
            if re.search(r"^```(?:python|console)$", text, re.MULTILINE):
                found[installed][0].append(text)
    for example in EXAMPLES:
        name = example.relative_to(ROOT).as_posix()
        said = ast.get_docstring(ast.parse(example.read_text(encoding="utf-8"))) or ""
        installed = list(sections(said))[-1][0]
        texts, examples = found[installed]
        if not any(f"\n$ python {name}\n" in text for text in texts):
            examples.append(name)
    return dict(found)


def test_what_is_installed_is_read_from_the_text_above() -> None:
    text = (
        "0\n\n    pip install .\n\n1\n\n```bash\npip install '.[a]'  # first\npip install '.[b]'\n"
        "```\n\n2\n\nand `pip install c d`. 3\n\n    pip install '.[a]' "
        "./packages/llama-index-llms-specfuse\n\n4\n"
    )
    core, extra = ("specfuse",), ("specfuse[a]",)
    found = [(installed, re.findall(r"\d", part)) for installed, part in sections(text)]
    assert found == [
        (core, ["0"]),
        (core, ["1"]),
        (extra, ["2"]),
        ((*extra, "c", "d"), ["3"]),
        ((*extra, "llama-index-llms-specfuse"), ["4"]),
    ]


def test_every_example_and_every_extra_for_users_is_among_what_is_shown() -> None:
    assert ("specfuse",) in shown()
    assert {("specfuse[langchain]",), ("specfuse[llamaindex]",), ("specfuse[examples]",)} < set(
        shown()
    )


@pytest.mark.parametrize("installed", shown(), ids=" ".join)
def test_what_is_shown_runs_and_prints_what_is_shown(
    installed: tuple[str, ...], environment: Make
) -> None:
    texts, examples = shown()[installed]
    script = str(ROOT / "tests" / "support" / "programs.py")
    asked = json.dumps({"texts": texts, "examples": examples})
    done = environment(*installed).run(script, given=asked)
    assert done.returncode == 0, done.stderr
    untimed = OUTPUTS["untimed"]
    for text, filled in zip(texts, json.loads(done.stdout), strict=True):
        assert untimed(filled) == untimed(text), "run: make outputs"


def test_a_warning_is_an_error_in_an_environment(environment: Make) -> None:
    done = environment("specfuse").run("-c", "import warnings; warnings.warn('old')")
    assert done.stderr.endswith("UserWarning: old\n")
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("specfuse", set()),
        ("specfuse[langchain]", {"langchain_core"}),
        ("specfuse[llamaindex]", {"llama_index"}),
    ],
)
def test_a_framework_is_there_only_with_its_extra(
    wanted: str, there: set[str], environment: Make
) -> None:
    code = (
        "from importlib.util import find_spec\n"
        "for name in ('langchain_core', 'llama_index'):\n"
        "    if find_spec(name) is not None: print(name)\n"
    )
    done = environment(wanted).run("-c", code)
    assert set(done.stdout.split()) == there, done.stderr


@pytest.mark.parametrize(
    ("module", "framework", "extra"),
    [
        ("langchain_specfuse", "langchain_core", "langchain"),
        ("langchain_specfuse.errors", "langchain_core", "langchain"),
        ("llamaindex_specfuse", "llama_index", "llamaindex"),
        ("llamaindex_specfuse.events", "llama_index", "llamaindex"),
    ],
)
def test_a_missing_framework_is_an_error_that_names_the_extra(
    module: str, framework: str, extra: str, environment: Make
) -> None:
    done = environment("specfuse").run("-c", f"import {module}")
    last = done.stderr.strip().splitlines()[-1]
    hint = f"install it with: pip install 'specfuse[{extra}]'"
    assert last == f"ModuleNotFoundError: {framework} is not installed; {hint}"
    assert done.stderr.count("Traceback") == 1


def test_the_import_path_of_llamaindex_names_the_extra_too(environment: Make) -> None:
    path = OURS["llama-index-llms-specfuse"]
    code = f"import sys; sys.path.append({str(path)!r}); import llama_index.llms.specfuse"
    done = environment("specfuse").run("-c", code)
    assert done.stderr.endswith("install it with: pip install 'specfuse[llamaindex]'\n")


def test_the_import_path_of_llamaindex_comes_with_its_own_distribution(environment: Make) -> None:
    code = "from llama_index.llms.specfuse import SpecFuseLLM; print(SpecFuseLLM.__module__)"
    done = environment("llama-index-llms-specfuse").run("-c", code)
    assert done.stdout == "llamaindex_specfuse.base\n", done.stderr
