"""The checks of LlamaIndex applications pass on SpecFuseLLM, with scripted and bundled models."""

from __future__ import annotations

from collections.abc import Iterator

import llama_index.core
import pydantic
import pytest
from packaging.version import Version
from wellread import well_read

from benchmarks.frameworks.llamaindex_matrix import CHECKS, Check, perform
from llamaindex_specfuse import SpecFuseLLM
from specfuse_core import FusionEngine
from specfuse_core.testing import ScriptedBackend

pytestmark = pytest.mark.usefixtures("own_loop")

#: Beyond the bundled models, which know neither ReAct's form nor Python nor how to judge answers.
BEYOND = {
    "synthesizer filtering answers",
    "query engine with an output class",
    "router query engine",
    "sub question query engine",
    "handoff",
    "react agent",
    "code act agent",
    "structured predict of nested classes",
    "faithfulness and relevancy",
    "correctness",
    "pairwise comparison",
    "guideline",
}


#: With an older pydantic, LlamaIndex keeps a second run's messages in a copy of the memory that the
#: application gave to its agent, whatever the LLM.
COPIES_MEMORY = Version(pydantic.VERSION) < Version("2.14")


@pytest.fixture(autouse=True)
def global_tokenizer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # The core sets it where nobody has.
    monkeypatch.setattr(llama_index.core, "global_tokenizer", str.split)
    yield


def named(check: Check) -> str:
    return check.name.replace(" ", "-")


def skip_if_broken(check: Check) -> None:
    """Skip a check that no LLM passes with these releases."""
    if COPIES_MEMORY and check.name == "function agent with memory":
        pytest.skip("with this pydantic, LlamaIndex copies the memory")


def test_every_check_has_its_own_name() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS) > 60
    assert {check.name for check in CHECKS if not check.bundled} == BEYOND


@pytest.mark.parametrize("check", CHECKS, ids=named)
def test_models_that_are_good_enough_are_right_throughout(check: Check) -> None:
    skip_if_broken(check)
    engine = FusionEngine([ScriptedBackend(name, well_read) for name in "ab"])
    perform(check, SpecFuseLLM(engine=engine), content=True)


@pytest.mark.parametrize("check", CHECKS, ids=named)
def test_the_bundled_models_go_through_it_too(check: Check) -> None:
    skip_if_broken(check)
    perform(check, SpecFuseLLM(max_tokens=96), content=check.bundled)
