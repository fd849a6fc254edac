"""Checks of response synthesizers and query engines."""

from __future__ import annotations

from functools import partial
from typing import Any

from llama_index.core import Document, SummaryIndex
from llama_index.core.llms import LLM
from llama_index.core.output_parsers.base import OutputParserException
from llama_index.core.query_engine import RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.selectors.utils import get_selector_from_llm
from llama_index.core.tools import QueryEngineTool

from benchmarks.frameworks.llamaindex_matrix.checks import Checks
from benchmarks.frameworks.llamaindex_matrix.common import (
    ANSWER,
    FACTS,
    PERSON,
    QUESTION,
    TOTAL,
    Person,
    fact_index,
    fact_nodes,
    joined,
    or_says_why,
    says,
)

CHECKS = Checks()


_MODES = (
    (ResponseMode.COMPACT, True),
    (ResponseMode.REFINE, True),
    (ResponseMode.TREE_SUMMARIZE, True),
    (ResponseMode.SIMPLE_SUMMARIZE, True),
    (ResponseMode.ACCUMULATE, True),
)


async def _synthesize(mode: ResponseMode, llm: LLM, content: bool) -> None:
    nodes = [NodeWithScore(node=node, score=1.0) for node in fact_nodes()[:2]]
    made = get_response_synthesizer(llm=llm, response_mode=mode)
    response = made.synthesize(QUESTION, nodes)
    says(str(response), ANSWER, content)
    assert len(response.source_nodes) == 2
    says(str(await made.asynthesize(QUESTION, nodes)), ANSWER, content)
    if mode == ResponseMode.ACCUMULATE:
        return  # this mode does not support streaming
    made = get_response_synthesizer(llm=llm, response_mode=mode, streaming=True)
    streamed: Any = made.synthesize(QUESTION, nodes)
    assert "".join(streamed.response_gen) == str(response)
    astreamed: Any = await made.asynthesize(QUESTION, nodes)
    assert await joined(astreamed.async_response_gen()) == str(response)


for _mode, _able in _MODES:
    CHECKS.add("response synthesizers", bundled=_able, name=f"synthesizer {_mode.value}")(
        partial(_synthesize, _mode)
    )


@CHECKS.add("response synthesizers", bundled=False)
async def _synthesizer_filtering_answers(llm: LLM, content: bool) -> None:
    nodes = [NodeWithScore(node=node, score=1.0) for node in fact_nodes()[:2]]
    for streaming in (False, True):
        made = get_response_synthesizer(
            llm=llm,
            response_mode=ResponseMode.REFINE,
            structured_answer_filtering=True,
            streaming=streaming,
        )
        done: Any = made.synthesize(QUESTION, nodes)
        # If no context satisfies the query, there is nothing to stream.
        pieces = getattr(done, "response_gen", None)
        said = str(done) if pieces is None else "".join(pieces)
        if content:
            says(said, ANSWER, content)


@CHECKS.add("query engines")
def _query_engine(llm: LLM, content: bool) -> None:
    response = fact_index().as_query_engine(llm=llm, similarity_top_k=2).query(QUESTION)
    assert response.source_nodes[0].get_content() == FACTS[1]
    says(str(response), ANSWER, content)


@CHECKS.add("query engines")
async def _query_engine_async(llm: LLM, content: bool) -> None:
    engine = fact_index().as_query_engine(llm=llm, similarity_top_k=2)
    response = await engine.aquery(QUESTION)
    assert response.source_nodes[0].get_content() == FACTS[1]
    says(str(response), ANSWER, content)


@CHECKS.add("query engines")
def _query_engine_streaming(llm: LLM, content: bool) -> None:
    engine = fact_index().as_query_engine(llm=llm, similarity_top_k=2, streaming=True)
    response: Any = engine.query(QUESTION)
    assert response.source_nodes[0].get_content() == FACTS[1]
    says("".join(response.response_gen), ANSWER, content)


@CHECKS.add("query engines")
async def _query_engine_streaming_async(llm: LLM, content: bool) -> None:
    engine = fact_index().as_query_engine(llm=llm, similarity_top_k=2, streaming=True)
    response: Any = await engine.aquery(QUESTION)
    says(await joined(response.async_response_gen()), ANSWER, content)


@CHECKS.add("query engines")
def _query_engine_over_a_list(llm: LLM, content: bool) -> None:
    index = SummaryIndex.from_documents([Document(text=fact) for fact in FACTS[:2]])
    says(str(index.as_query_engine(llm=llm).query(QUESTION)), ANSWER, content)


@CHECKS.add("query engines", bundled=False)
def _query_engine_with_an_output_class(llm: LLM, content: bool) -> None:
    index = SummaryIndex([TextNode(text=PERSON)])
    response: Any = index.as_query_engine(llm=llm, output_cls=Person).query(
        "Who is it? Give name, age and city."
    )
    assert isinstance(response.response, Person)
    if content:
        assert response.response == Person(name="Anna", age=31, city="Oslo")


def _routed(llm: LLM) -> RouterQueryEngine:
    lamps = SummaryIndex([TextNode(text=FACTS[1])]).as_query_engine(llm=llm)
    people = SummaryIndex([TextNode(text=FACTS[2])]).as_query_engine(llm=llm)
    return RouterQueryEngine(
        selector=get_selector_from_llm(llm),
        query_engine_tools=[
            QueryEngineTool.from_defaults(people, name="people", description="where people live"),
            QueryEngineTool.from_defaults(lamps, name="lamps", description="how many lamps"),
        ],
        llm=llm,
    )


@CHECKS.add("query engines", bundled=False)
async def _router_query_engine(llm: LLM, content: bool) -> None:
    # A weak model may not answer with the number of a choice.
    with or_says_why(content, IndexError):
        says(str(_routed(llm).query(QUESTION)), ANSWER, content)
    with or_says_why(content, IndexError):
        says(str(await _routed(llm).aquery(QUESTION)), ANSWER, content)


@CHECKS.add("query engines", bundled=False)
async def _sub_question_query_engine(llm: LLM, content: bool) -> None:
    index = SummaryIndex([TextNode(text=fact) for fact in FACTS[:2]])
    tool = QueryEngineTool.from_defaults(
        index.as_query_engine(llm=llm), name="lamps", description="how many lamps are where"
    )
    engine = SubQuestionQueryEngine.from_defaults(
        query_engine_tools=[tool],
        question_gen=LLMQuestionGenerator.from_defaults(llm=llm),
        llm=llm,
        use_async=False,
        verbose=False,
    )
    with or_says_why(content, OutputParserException, ValueError):
        says(str(engine.query(TOTAL)), "19", content)
    with or_says_why(content, OutputParserException, ValueError):
        says(str(await engine.aquery(TOTAL)), "19", content)
