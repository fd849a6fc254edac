"""Runs LangChain's standard tests on ChatSpecFuse and on ChatHuggingFace, with the same weights.

Run: ``python -m benchmarks.frameworks.langchain_standard``

It runs the unit and integration suites of langchain-tests on the bundled models: fused by
``ChatSpecFuse``, and each alone in ``ChatHuggingFace(llm=HuggingFacePipeline(...))``. The latter
needs langchain-huggingface (``pip install langchain-huggingface``), which may require another
version of huggingface-hub, so use a separate environment. It prints a table, and the counts as one
line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_specfuse import ChatSpecFuse
from specfuse_core.bundled import bundled_models

ROOT = Path(__file__).parents[2]
OUTCOMES = ("passed", "failed", "skipped")
_SUBJECT = "SPECFUSE_BENCHMARK_SUBJECT"


@cache
def pipeline(name: str) -> Any:
    """Create a transformers pipeline with a bundled model and greedy decoding."""
    from langchain_huggingface import HuggingFacePipeline
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    (path,) = [path for path in bundled_models() if path.name == name]
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path)
    made = pipeline(
        "text-generation",
        model=model,
        tokenizer=tokenizer,
        max_new_tokens=128,
        do_sample=False,
    )
    return HuggingFacePipeline(pipeline=made)


class _Subject:
    """The model under test: ``fused``, or the name of a bundled model."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        if os.environ[_SUBJECT] == "fused":
            return ChatSpecFuse
        from langchain_huggingface import ChatHuggingFace

        return ChatHuggingFace

    @property
    def chat_model_params(self) -> dict[str, Any]:
        subject = os.environ[_SUBJECT]
        if subject != "fused":
            return {"llm": pipeline(subject)}
        # The bundled models do not end an answer about a world that they do not know.
        return {"max_tokens": 128, "on_limit": "close"}

    @property
    def supports_json_mode(self) -> bool:
        return True


class TestUnit(_Subject, ChatModelUnitTests):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        subject = os.environ[_SUBJECT]
        return {} if subject == "fused" else {"llm": pipeline(subject)}


class TestIntegration(_Subject, ChatModelIntegrationTests):
    pass


class Counts:
    """A pytest plugin that counts outcomes."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(OUTCOMES, 0)
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A failing fixture counts as a failing test.
        if report.when == "call" or report.outcome != "passed":
            if report.when == "teardown":
                return
            self.counts[report.outcome] += 1
            if report.failed:
                self.failed.append(report.nodeid.rpartition("::")[2])


def measured(subject: str) -> Counts:
    """Run both suites on one model and count the outcomes."""
    os.environ[_SUBJECT] = subject
    counts = Counts()
    options = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-W", "ignore"]
    options += ["-o", "filterwarnings=", "--benchmark-disable", "--rootdir", str(ROOT)]
    pytest.main([*options, __file__], plugins=[counts])
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = ["fused", *(path.name for path in bundled_models())]
    parser.add_argument(
        "subjects",
        nargs="*",
        default=names,
        help=f"models to test: {', '.join(names)}; all by default",
    )
    subjects = parser.parse_args().subjects
    results = {subject: measured(subject) for subject in subjects}
    print(f"\n{'':>24} {'passed':>7} {'failed':>7} {'skipped':>8}")
    for subject, result in results.items():
        name = "ChatSpecFuse" if subject == "fused" else f"ChatHuggingFace {subject}"
        passed, failed, skipped = (result.counts[outcome] for outcome in OUTCOMES)
        print(f"{name:>24} {passed:>7} {failed:>7} {skipped:>8}")
    line = {name: {**result.counts, "failures": result.failed} for name, result in results.items()}
    print(json.dumps(line))


if __name__ == "__main__":
    # pytest imports this file by its own name, which needs the root on the path.
    sys.path.insert(0, str(ROOT))
    main()
