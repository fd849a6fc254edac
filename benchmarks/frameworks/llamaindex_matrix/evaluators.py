"""Checks of evaluators, which judge answers with an LLM."""

from __future__ import annotations

from llama_index.core.evaluation import (
    CorrectnessEvaluator,
    FaithfulnessEvaluator,
    GuidelineEvaluator,
    PairwiseComparisonEvaluator,
    RelevancyEvaluator,
)
from llama_index.core.llms import LLM
from llama_index.core.output_parsers.base import OutputParserException

from benchmarks.frameworks.llamaindex_matrix.checks import Checks
from benchmarks.frameworks.llamaindex_matrix.common import (
    FACTS,
    QUESTION,
    or_says_why,
)

CHECKS = Checks()


@CHECKS.add("evaluators", bundled=False)
async def _faithfulness_and_relevancy(llm: LLM, content: bool) -> None:
    for made in (FaithfulnessEvaluator(llm=llm), RelevancyEvaluator(llm=llm)):
        for found in (
            made.evaluate(query=QUESTION, response=FACTS[1], contexts=[FACTS[1]]),
            await made.aevaluate(query=QUESTION, response=FACTS[1], contexts=[FACTS[1]]),
        ):
            assert isinstance(found.passing, bool)
            assert found.feedback
            if content:
                assert found.passing


@CHECKS.add("evaluators", bundled=False)
async def _correctness(llm: LLM, content: bool) -> None:
    made = CorrectnessEvaluator(llm=llm)
    with or_says_why(content, ValueError):
        found = await made.aevaluate(query=QUESTION, response=FACTS[1], reference=FACTS[1])
        assert isinstance(found.score, float)
        if content:
            assert found.passing


@CHECKS.add("evaluators", bundled=False)
async def _pairwise_comparison(llm: LLM, content: bool) -> None:
    made = PairwiseComparisonEvaluator(llm=llm, enforce_consensus=False)
    found = await made.aevaluate(query=QUESTION, response=FACTS[1], second_response="No idea.")
    assert found.invalid_result or found.score is not None or found.passing is None
    if content:
        assert found.score == 1.0


@CHECKS.add("evaluators", bundled=False)
async def _guideline(llm: LLM, content: bool) -> None:
    made = GuidelineEvaluator(llm=llm)
    with or_says_why(content, OutputParserException, ValueError):
        found = await made.aevaluate(query=QUESTION, response=FACTS[1])
        assert isinstance(found.passing, bool)
        if content:
            assert found.passing
