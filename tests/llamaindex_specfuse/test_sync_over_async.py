"""LlamaIndex's synchronous calls that run coroutines raise the model's own error.

Its ``asyncio_run`` takes every RuntimeError for a nested event loop, and then raises one of its own
("Detected nested async").
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core import Document, SummaryIndex
from llama_index.core.evaluation import (
    BatchEvalRunner,
    CorrectnessEvaluator,
    FaithfulnessEvaluator,
    RelevancyEvaluator,
)
from llama_index.core.evaluation.batch_runner import eval_worker
from llama_index.core.extractors import (
    KeywordExtractor,
    QuestionsAnsweredExtractor,
    SummaryExtractor,
    TitleExtractor,
)
from llama_index.core.indices.property_graph import SimpleLLMPathExtractor
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode
from tenacity import wait_none

from llamaindex_specfuse import SpecFuseLLM
from llamaindex_specfuse.errors import LLMTimeoutError, ModelFailedError
from specfuse_core import FusionEngine
from specfuse_core.errors import PromptTooLongError
from specfuse_core.testing import ScriptedBackend

# Core's own BatchEvalRunner calls what core has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:asyncio_module:DeprecationWarning")

Call = Callable[[SpecFuseLLM], Any]

NODE = TextNode(text="The hall has 12 lamps.")
QUESTION, ANSWER, CONTEXTS = "How many lamps?", "12 lamps.", [NODE.text]


def synthesized(mode: ResponseMode) -> Call:
    def call(llm: SpecFuseLLM) -> Any:
        made = get_response_synthesizer(llm=llm, response_mode=mode, use_async=True)
        return made.synthesize(QUESTION, [NodeWithScore(node=NODE, score=1.0)] * 2)

    return call


CALLS: dict[str, Call] = {
    "faithfulness": lambda llm: FaithfulnessEvaluator(llm=llm).evaluate(
        response=ANSWER, contexts=CONTEXTS
    ),
    "relevancy": lambda llm: RelevancyEvaluator(llm=llm).evaluate(QUESTION, ANSWER, CONTEXTS),
    "correctness": lambda llm: CorrectnessEvaluator(llm=llm).evaluate(QUESTION, ANSWER),
    "batch": lambda llm: BatchEvalRunner(
        {"correctness": CorrectnessEvaluator(llm=llm)}
    ).evaluate_response_strs([QUESTION], [ANSWER], [CONTEXTS]),
    "keywords": lambda llm: KeywordExtractor(llm=llm)([NODE]),
    "questions": lambda llm: QuestionsAnsweredExtractor(llm=llm)([NODE]),
    "summaries": lambda llm: SummaryExtractor(llm=llm)([NODE]),
    "titles": lambda llm: TitleExtractor(llm=llm)([NODE]),
    "accumulate": synthesized(ResponseMode.ACCUMULATE),
    "compact_accumulate": synthesized(ResponseMode.COMPACT_ACCUMULATE),
    "tree_summarize": synthesized(ResponseMode.TREE_SUMMARIZE),
    "query_engine": lambda llm: (
        SummaryIndex.from_documents([Document(text=NODE.text)])
        .as_query_engine(llm=llm, response_mode="accumulate", use_async=True)
        .query(QUESTION)
    ),
}


def llm_of(script: Any, window: int = 4096, **options: Any) -> SpecFuseLLM:
    backend = ScriptedBackend("a", script, context_window=window)
    return SpecFuseLLM(engine=FusionEngine([backend]), **options)


def long(request: Any, response: str) -> str:
    return "one two three four " * 50


@pytest.fixture
def idle_loop() -> Iterator[None]:
    """A loop that is not running, closed at the end. Core would make one and leave it open."""
    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        yield


@pytest.fixture(params=CALLS)
def call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Call:
    # The batch runner repeats what fails after seconds.
    monkeypatch.setattr(eval_worker.retry, "wait", wait_none())  # type: ignore[attr-defined]
    return CALLS[request.param]


@pytest.mark.usefixtures("idle_loop")
def test_a_timeout_is_raised_as_itself(call: Call) -> None:
    with pytest.raises(LLMTimeoutError, match="timeout") as caught:
        call(llm_of(long, timeout=1e-9))
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.usefixtures("idle_loop")
def test_a_prompt_that_is_too_long_is_raised_as_itself(call: Call) -> None:
    llm = llm_of("Yes.", 1 << 20)
    # Only the session refuses: LlamaIndex cuts texts to the window that it is told.
    assert llm.engine is not None
    (backend,) = llm.engine.backends
    backend.start = refused  # type: ignore[method-assign]
    with pytest.raises(PromptTooLongError, match="the prompt has 9 tokens"):
        call(llm)


def refused(request: Any) -> Any:
    raise PromptTooLongError("the prompt has 9 tokens for 'a', whose context window is 8.")


@pytest.mark.usefixtures("idle_loop")
@pytest.mark.parametrize("kind", [RuntimeError, NotImplementedError, ValueError])
def test_what_a_model_raises_is_the_cause(call: Call, kind: type[Exception]) -> None:
    def broken(request: Any, response: str) -> str:
        raise kind("out of memory")

    with pytest.raises(ModelFailedError, match=f"{kind.__name__}: out of memory") as caught:
        call(llm_of(broken))
    assert isinstance(caught.value.__cause__, kind)


# Core closes the loop of its thread while other jobs of the same call still run.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_also_where_a_loop_is_running(call: Call) -> None:
    with pytest.raises(LLMTimeoutError, match="timeout"):
        call(llm_of(long, timeout=1e-9))
    # Those jobs are collected here, and not within another test.
    gc.collect()


@pytest.mark.usefixtures("idle_loop")
def test_path_extraction_raises_what_the_model_raised() -> None:
    with pytest.raises(LLMTimeoutError):
        SimpleLLMPathExtractor(llm=llm_of(long, timeout=1e-9))([NODE])
