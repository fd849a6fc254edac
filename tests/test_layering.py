"""Each file imports only from files above it, and only ``hf/`` touches a model runtime."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import specfuse_core

ROOT = Path(specfuse_core.__file__).parents[1]

# From the top, which imports nothing of ours, to the bottom. "hf" and "bundled" are packages;
# "__init__" stands where the public names are complete.
ORDER = [
    "errors",
    "config",
    "naming",
    "text",
    "calls",
    "tools",
    "constraints",
    "providers",
    "request",
    "types",
    "channels",
    "matching",
    "closing",
    "follower",
    "scoring",
    "voting",
    "exits",
    "budget",
    "outlet",
    "backend",
    "member",
    "round",
    "deadline",
    "aliases",
    "fusion",
    "__init__",
    "trace",
    "testing",
    "hf",
    "bundled",
    "declared",
    "registry",
    "arguments",
    "fields",
    "load",
    "lines",
    "options",
    "console",
    "chat",
    "cli",
]

RUNTIMES = {"torch", "transformers", "tokenizers", "safetensors", "accelerate", "huggingface_hub"}
OURS = {"specfuse_core", "langchain_specfuse", "llamaindex_specfuse"}
# For annotations only.
TYPED_BY_RUNTIME = {"specfuse_core/fusion.py", "specfuse_core/load.py"}
# FusionEngine.from_pretrained, from_models and bundled, since load stands below fusion.
DEFERRED = {"specfuse_core/fusion.py": {"from_pretrained", "from_models", "bundled"}}


@dataclass(frozen=True)
class Import:
    """One imported module, and where the import stands in its file."""

    module: str
    function: str | None = None
    for_types: bool = False


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every import of a file, however deep; ``from p import m`` counts as both p and p.m."""

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
    """The imports of a core file that do not come from above it."""
    own = layer(module_of(source))
    deferred = DEFERRED.get(source, set())
    bad = []
    for one in found:
        if one.module.split(".")[0] != "specfuse_core":
            continue
        above = ORDER.index(layer(one.module)) < ORDER.index(own)
        within = own in ("hf", "bundled") and layer(one.module) == own
        allowed = one.module == "specfuse_core.load" and one.function in deferred
        if not (above or within or allowed):
            bad.append(one.module)
    return bad


CORE = sources("specfuse_core")
ALL = [source for package in sorted(OURS) for source in sources(package)]


def test_every_file_of_the_core_has_its_place() -> None:
    assert {layer(module_of(source)) for source in CORE} <= set(ORDER)
    for name in ("errors", "config", "types", "fusion", "testing"):
        assert f"specfuse_core/{name}.py" in CORE


@pytest.mark.parametrize("source", CORE)
def test_a_file_imports_only_from_files_above_it(source: str) -> None:
    assert offences(source, parsed(source)) == []


def test_the_deferred_imports_are_exactly_the_documented_ones() -> None:
    for source in CORE:
        inside = {
            one.function
            for one in parsed(source)
            if one.function and one.module.split(".")[0] == "specfuse_core"
        }
        assert inside == DEFERRED.get(source, set()), source


def test_the_files_of_hf_import_each_other_in_no_circle() -> None:
    graph = {
        module_of(source): {
            one.module for one in parsed(source) if one.module.startswith("specfuse_core.hf.")
        }
        for source in CORE
        if source.startswith("specfuse_core/hf/")
    }
    done: set[str] = set()
    while ready := {name for name, needs in graph.items() if name not in done and needs <= done}:
        done |= ready
    assert done == set(graph)


@pytest.mark.parametrize("source", [source for source in ALL if "/hf/" not in source])
def test_only_hf_imports_a_model_runtime(source: str) -> None:
    allowed = source in TYPED_BY_RUNTIME
    bad = [
        one.module
        for one in parsed(source)
        if one.module.split(".")[0] in RUNTIMES and not (one.for_types and allowed)
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
        hidden = ("specfuse_core.hf", "specfuse_core.load", "specfuse_core.cli")
        assert not one.module.startswith(hidden), one.module


@pytest.mark.parametrize("source", CORE)
def test_the_core_knows_no_framework(source: str) -> None:
    others = {"langchain_core", "langchain_specfuse", "llama_index", "llamaindex_specfuse"}
    assert not {one.module.split(".")[0] for one in parsed(source)} & others


@pytest.mark.parametrize(
    ("source", "code", "found"),
    [
        ("specfuse_core/text.py", "import specfuse_core.round", ["specfuse_core.round"]),
        ("specfuse_core/text.py", "from specfuse_core import FusionEngine", ["specfuse_core"]),
        ("specfuse_core/text.py", "from specfuse_core import fusion", ["specfuse_core.fusion"]),
        (
            "specfuse_core/text.py",
            "def f():\n    from specfuse_core.round import Ensemble",
            ["specfuse_core.round"],
        ),
        ("specfuse_core/fusion.py", "from specfuse_core import load", ["specfuse_core.load"]),
        (
            "specfuse_core/fusion.py",
            "def stream():\n    from specfuse_core import load",
            ["specfuse_core.load"],
        ),
        ("specfuse_core/fusion.py", "def bundled():\n    from specfuse_core import load", []),
        ("specfuse_core/cli.py", "from specfuse_core import __version__", []),
        ("specfuse_core/round.py", "import math\nfrom specfuse_core.types import Round", []),
    ],
)
def test_the_rule_sees_what_it_should(source: str, code: str, found: list[str]) -> None:
    if found and not is_module(found[0]):
        pytest.fail(f"{found[0]} is gone; this example needs another")
    assert offences(source, list(imports(ast.parse(code)))) == found
