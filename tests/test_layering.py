"""Folders and files import only downwards, and only ``hf/`` touches a model runtime."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import specfuse_core

ROOT = Path(specfuse_core.__file__).parents[1]

#: From the top to the bottom (DESIGN section 5). Each folder, and each file outside of folders,
#: imports only from what stands below it; "__init__" stands where the public names are complete.
ORDER = [
    "command",
    "frameworks",
    "trace",
    "__init__",
    "fusion",
    "models",
    "testing",
    "hf",
    "prompts",
    "algorithm",
    "answer",
    "backend",
    "model_report",
    "types",
    "request",
    "message",
    "grammar",
    "config",
    "checkpoint",
    "values",
    "errors",
    "bundled",
]

#: "prompts" reads tokenizers; neither loads torch.
RUNTIMES = {
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "accelerate",
    "peft",
    "huggingface_hub",
}
TOKENIZING = {"tokenizers", "transformers"}
OURS = {"specfuse_core", "langchain_specfuse", "llamaindex_specfuse"}
#: Reads where the hub's cache is and whether offline mode is on; that module loads nothing else.
CACHED = {"specfuse_core/models/location.py": {"huggingface_hub"}}
#: For annotations only.
TYPED_BY_RUNTIME = {"specfuse_core/models/constructors.py", "specfuse_core/models/load.py"}
#: Imports within functions, so that `import specfuse_core` does not load torch.
DEFERRED = {"specfuse_core/models/constructors.py": {"from_pretrained", "from_models"}}


@dataclass(frozen=True)
class Import:
    """One imported module, and where the import stands in its file."""

    module: str
    function: str | None = None
    for_types: bool = False


def imports(tree: ast.Module) -> Iterator[Import]:
    """Return every import of a file, at any depth; ``from p import m`` counts as p and as p.m."""

    def walk(node: ast.AST, function: str | None, for_types: bool) -> Iterator[Import]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                yield from walk(child, function, True)
            for child in node.orelse:
                yield from walk(child, function, for_types)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, function, for_types)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield Import(inner if is_module(inner) else node.module, function, for_types)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function, for_types)

    yield from walk(tree, None, False)


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def sources(package: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(f"{package}/**/*.py"))


def parsed(source: str) -> list[Import]:
    return list(imports(ast.parse((ROOT / source).read_text(encoding="utf-8"))))


def layer(module: str) -> str:
    """The entry of ORDER that a module of the core belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def module_of(source: str) -> str:
    parts = list(Path(source).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def offences(source: str, found: list[Import]) -> list[str]:
    """Return the imports of a core file from modules that are not below it or in its folder."""
    own = layer(module_of(source))
    in_folder = source.count("/") > 1
    bad = []
    for one in found:
        if one.module.split(".")[0] != "specfuse_core":
            continue
        other = layer(one.module)
        if not (ORDER.index(other) > ORDER.index(own) or (in_folder and other == own)):
            bad.append(one.module)
    return bad


CORE = sources("specfuse_core")
ALL = [source for package in sorted(OURS) for source in sources(package)]
FOLDERS = sorted({source.split("/")[1] for source in CORE if source.count("/") > 1})


def test_every_file_and_folder_of_the_core_has_its_place() -> None:
    assert {layer(module_of(source)) for source in CORE} == set(ORDER)


def test_few_files_stand_outside_of_folders() -> None:
    outside = {Path(source).stem for source in CORE if source.count("/") == 1}
    assert outside == set(ORDER) - set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_says_what_belongs_in_it(folder: str) -> None:
    tree = ast.parse((ROOT / "specfuse_core" / folder / "__init__.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("source", CORE)
def test_a_file_imports_only_from_below(source: str) -> None:
    assert offences(source, parsed(source)) == []


def test_the_deferred_imports_are_exactly_the_documented_ones() -> None:
    for source in CORE:
        inside = {
            one.function
            for one in parsed(source)
            if one.function and one.module.split(".")[0] == "specfuse_core"
        }
        assert inside == DEFERRED.get(source, set()), source


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_files_of_a_folder_import_each_other_in_no_circle(folder: str) -> None:
    package = f"specfuse_core.{folder}"
    graph = {
        module_of(source): {
            one.module for one in parsed(source) if one.module.startswith(f"{package}.")
        }
        for source in CORE
        if source.startswith(f"specfuse_core/{folder}/")
    }
    done: set[str] = set()
    while ready := {name for name, needs in graph.items() if name not in done and needs <= done}:
        done |= ready
    assert done == set(graph)


@pytest.mark.parametrize("source", [source for source in ALL if "/hf/" not in source])
def test_only_hf_imports_a_model_runtime(source: str) -> None:
    allowed = TOKENIZING if "/prompts/" in source else CACHED.get(source, set())
    bad = [
        one.module
        for one in parsed(source)
        if one.module.split(".")[0] in RUNTIMES - allowed
        and not (one.for_types and source in TYPED_BY_RUNTIME)
    ]
    assert bad == []


@pytest.mark.parametrize("source", [source for source in ALL if source not in CORE])
def test_the_integrations_know_only_the_core(source: str) -> None:
    own = source.split("/")[0]
    frameworks = {"langchain_core", "llama_index"}
    allowed_framework = "langchain_core" if own == "langchain_specfuse" else "llama_index"
    for one in parsed(source):
        top = one.module.split(".")[0]
        assert top not in OURS - {"specfuse_core", own}, one.module
        assert top not in frameworks - {allowed_framework}, one.module
        hidden = ("specfuse_core.hf", "specfuse_core.models", "specfuse_core.command")
        assert not one.module.startswith(hidden), one.module


@pytest.mark.parametrize("source", CORE)
def test_the_core_knows_no_framework(source: str) -> None:
    others = {"langchain_core", "langchain_specfuse", "llama_index", "llamaindex_specfuse"}
    assert not {one.module.split(".")[0] for one in parsed(source)} & others


@pytest.mark.parametrize(
    ("source", "code", "found"),
    [
        ("answer/budget.py", "import specfuse_core.fusion", ["specfuse_core.fusion"]),
        ("answer/budget.py", "from specfuse_core import FusionEngine", ["specfuse_core"]),
        ("answer/budget.py", "from specfuse_core import fusion", ["specfuse_core.fusion"]),
        (
            "grammar/calls.py",
            "def f():\n    from specfuse_core.algorithm.round import Ensemble",
            ["specfuse_core.algorithm.round"],
        ),
        ("grammar/calls.py", "from specfuse_core.grammar import boundaries", []),
        ("fusion.py", "from specfuse_core.models import load", []),
        (
            "models/load.py",
            "from specfuse_core.fusion import FusionEngine",
            ["specfuse_core.fusion"],
        ),
        ("types.py", "from specfuse_core.types import Round", ["specfuse_core.types"]),
        ("command/cli.py", "from specfuse_core import __version__", []),
        ("algorithm/round.py", "import math\nfrom specfuse_core.types import Round", []),
    ],
)
def test_the_rule_sees_what_it_should(source: str, code: str, found: list[str]) -> None:
    if found and not is_module(found[0]):
        pytest.fail(f"{found[0]} is gone; this example needs another")
    assert offences(f"specfuse_core/{source}", list(imports(ast.parse(code)))) == found
