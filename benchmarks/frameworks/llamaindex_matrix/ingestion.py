"""Checks of extractors in an ingestion pipeline."""

from __future__ import annotations

from typing import Any

from llama_index.core import Document
from llama_index.core.extractors import (
    KeywordExtractor,
    QuestionsAnsweredExtractor,
    SummaryExtractor,
    TitleExtractor,
)
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.llms import LLM
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.schema import TextNode

from benchmarks.frameworks.llamaindex_matrix.checks import Checks
from benchmarks.frameworks.llamaindex_matrix.common import (
    FACTS,
    counting,
)

CHECKS = Checks()


def _extractors(llm: LLM) -> list[Any]:
    options: dict[str, Any] = {"llm": llm, "show_progress": False, "num_workers": 1}
    return [
        TitleExtractor(nodes=1, **options),
        KeywordExtractor(keywords=3, **options),
        SummaryExtractor(summaries=["self"], **options),
        QuestionsAnsweredExtractor(questions=1, **options),
    ]


@CHECKS.add("ingestion")
async def _ingestion_with_extractors(llm: LLM, content: bool) -> None:
    splitter = TokenTextSplitter(chunk_size=40, chunk_overlap=0, tokenizer=str.split)
    pipeline = IngestionPipeline(transformations=[splitter, *_extractors(llm)], disable_cache=True)
    document = Document(text=" ".join(FACTS))
    for nodes in (
        pipeline.run(documents=[document]),
        await pipeline.arun(documents=[document]),
    ):
        (node,) = nodes
        for key in (
            "document_title",
            "excerpt_keywords",
            "section_summary",
            "questions_this_excerpt_can_answer",
        ):
            assert isinstance(node.metadata[key], str)


@CHECKS.add("ingestion")
def _a_cached_ingestion_asks_once(llm: LLM, content: bool) -> None:
    pipeline = IngestionPipeline(transformations=[_extractors(llm)[1]])
    with counting(llm) as counter:
        first = pipeline.run(nodes=[TextNode(text=FACTS[1], id_="1")])
        asked = len(counter.llm_token_counts)
        again = pipeline.run(nodes=[TextNode(text=FACTS[1], id_="1")])
        assert len(counter.llm_token_counts) == asked > 0
    assert [each.metadata for each in first] == [each.metadata for each in again]
