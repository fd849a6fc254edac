"""What the packages export, what importing them loads, and the tree of errors."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import specfuse_core
from specfuse_core import errors

ROOT = Path(specfuse_core.__file__).parents[1]

CORE = [
    "CallDelta",
    "Candidate",
    "Choice",
    "ConversationReport",
    "FusionConfig",
    "FusionEngine",
    "FusionError",
    "Generation",
    "Grammar",
    "JsonObject",
    "JsonSchema",
    "Message",
    "ModelConfig",
    "ModelReport",
    "Regex",
    "Request",
    "Round",
    "SamplingParams",
    "Segment",
    "TemplateReport",
    "TokenizerReport",
    "Tool",
    "ToolCall",
    "Usage",
    "Verification",
    "WeightsReport",
]
PACKAGES = ["specfuse_core", "langchain_specfuse", "llamaindex_specfuse"]
EXPORTS = {
    "specfuse_core": CORE,
    "specfuse_core.testing": ["ScriptedBackend", "ScriptedSession"],
    "specfuse_core.backend": ["Backend", "Session"],
    "langchain_specfuse": ["ChatSpecFuse"],
    "langchain_specfuse.errors": ["ChatTimeoutError", "PromptOverflowError", "both_names"],
    "llamaindex_specfuse": [
        "ConservativeTokenizer",
        "FusionRoundEvent",
        "FusionTraceHandler",
        "SpecFuseLLM",
        "capture",
    ],
    "llamaindex_specfuse.errors": [
        "LLMTimeoutError",
        "ModelFailedError",
        "NotPicklableError",
        "StructuredAnswerError",
        "ToolCallError",
        "surfacing",
    ],
    "llama_index.llms.specfuse": [
        "FusionRoundEvent",
        "FusionTraceHandler",
        "SpecFuseLLM",
        "capture",
    ],
    "llama_index.llms.specfuse.base": ["SpecFuseLLM"],
}


@pytest.mark.parametrize("package", EXPORTS)
def test_all_is_what_users_may_rely_on(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__ == EXPORTS[package]
    for name in module.__all__:
        assert getattr(module, name) is not None


def sources() -> list[str]:
    paths = [path for package in PACKAGES for path in ROOT.glob(f"{package}/**/*.py")]
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


@pytest.mark.parametrize("source", sources())
def test_every_module_states_its_boundary_and_its_exports(source: str) -> None:
    tree = ast.parse((ROOT / source).read_text(encoding="utf-8"))
    assert (ast.get_docstring(tree) or "").strip()
    (exported,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and ast.unparse(node).startswith("__all__")
        and node.value is not None
    ]
    names = ast.literal_eval(exported)
    assert len(names) == len(set(names))
    defined = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    assert not [node.name for node in defined if node.name in names and not ast.get_docstring(node)]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True
    )


HEAVY = ("torch", "transformers", "tokenizers", "numpy", "langchain_core", "llama_index")


@pytest.mark.parametrize(
    "module",
    ["specfuse_core", "specfuse_core.testing", "specfuse_core.trace", "specfuse_core.command.cli"],
)
def test_importing_the_core_loads_no_runtime(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        f"print(sorted(name for name in sys.modules if name.split('.')[0] in {HEAVY!r}))"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_version_is_a_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\w*", specfuse_core.__version__)


def error_classes(root: type[Exception] = errors.FusionError) -> dict[str, type[Exception]]:
    return {
        name: thing
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and issubclass(thing, root)
    }


def drawn_tree() -> dict[str, str]:
    """Return each error in the docstring's tree, and the one it is indented under."""
    tree, above = {}, []
    for line in (errors.__doc__ or "").splitlines():
        if drawn := re.match(r"( {4,})(\w+Error)\b", line):
            depth = len(drawn[1]) // 4 - 1
            above = above[:depth]
            assert len(above) == depth, line
            tree[drawn[2]] = above[-1] if above else "Exception"
            above.append(drawn[2])
    return tree


def test_the_drawn_tree_is_the_real_tree() -> None:
    real = {name: thing.__base__.__name__ for name, thing in error_classes().items()}  # type: ignore[union-attr]
    assert drawn_tree() == real
    assert all(len(thing.__bases__) == 1 for thing in error_classes().values())


def test_every_error_is_exported_and_explained() -> None:
    assert errors.__all__ == sorted(error_classes(Exception))
    assert error_classes(Exception) == error_classes() | error_classes(UserWarning)
    for thing in error_classes(Exception).values():
        assert thing.__doc__
        assert f" {thing.__name__} " in (errors.__doc__ or "")


def test_no_error_can_be_taken_for_bad_parsing() -> None:
    for thing in error_classes().values():
        assert not issubclass(thing, (ValueError, TypeError, RuntimeError, LookupError, OSError))


def test_every_error_is_raised_somewhere() -> None:
    source = "\n".join(path.read_text() for path in ROOT.glob("specfuse_core/**/*.py"))
    parents = {thing.__base__ for thing in error_classes().values()}
    for name, thing in error_classes().items():
        if thing not in parents:
            assert re.search(rf"\b{name}\(\s*[\"f(]|\b{name}\($", source, re.MULTILINE), name
