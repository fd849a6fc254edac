"""Measures exact match of LlamaIndex's query engine over a few hundred documents.

Run: ``python -m benchmarks.frameworks.llamaindex_rag``. ``--quick`` asks a fifth of the questions.

    python -m benchmarks.frameworks.llamaindex_rag
    python -m benchmarks.frameworks.llamaindex_rag --split validation --top-k 4 --rows specem

For each seed, a corpus is drawn from the held-out part of the training data and indexed in a
``VectorStoreIndex`` with an embedding of hashed words. ``index.as_query_engine`` answers the
questions with LlamaIndex's own prompts. Single questions need one document; composite ones need two
and a sum. The rows are the bundled models in ``SpecFuseLLM``, fused by either method and each
alone, and the best single model in ``HuggingFaceLLM``, if llama-index-llms-huggingface is installed
(``pip install llama-index-llms-huggingface``). The best model is chosen on the questions of the
run, which favours it. Decoding is greedy.

Accuracies have 95 % Wilson intervals. The report also states how often all required statements were
retrieved, which is the upper bound of every row. The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.response.schema import Response
from llama_index.core.llms import LLM
from llama_index.core.node_parser import SentenceSplitter, SentenceWindowNodeParser
from llama_index.core.response_synthesizers import ResponseMode

from benchmarks.evaluation.intervals import Interval, paired, wilson
from benchmarks.frameworks.corpus import COMPOSITE, SINGLE, Corpus, draw_corpus
from benchmarks.frameworks.hashed_words import HashedWords
from benchmarks.frameworks.huggingface_llm import MISSING, MODELS, has_huggingface, huggingface
from llamaindex_specfuse import SpecFuseLLM
from training.sample import is_right
from training.splits import Split

__all__ = ["Answer", "Setting", "ask", "index_of", "main", "report"]

_DESCRIPTION = __doc__.splitlines()[0]
METHODS = ("specem", "specfuse")
HUGGINGFACE = "HuggingFaceLLM"
MAX_TOKENS = 160


@dataclass(frozen=True, slots=True)
class Setting:
    """The corpus and the retrieval, which are the same for all rows.

    Args:
        split: the split that facts and phrasings belong to.
        documents: number of documents in a corpus.
        single: number of questions per corpus that one document answers.
        composite: number of questions per corpus that need two documents and a sum.
        nodes: the unit that is embedded and retrieved, ``documents`` or ``sentences``.
        top_k: number of nodes to retrieve for a question.
        mode: mode of the response synthesizer.
        file_names: whether each document has a file name as metadata, which the models see.
    """

    split: Split = Split.TEST
    documents: int = 300
    single: int = 100
    composite: int = 50
    nodes: str = "documents"
    top_k: int = 4
    mode: str = ResponseMode.COMPACT.value
    file_names: bool = False

    def corpus(self, seed: int) -> Corpus:
        return draw_corpus(
            self.split,
            seed,
            documents=self.documents,
            single=self.single,
            composite=self.composite,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a row to a question.

    Args:
        row: name of the row.
        kind: kind of the question.
        seed: seed of the corpus.
        question: text of the question.
        expected: the correct answer.
        text: the generated answer.
        right: whether the generated answer is equivalent to the correct one.
        found: whether all statements that the answer needs were retrieved.
    """

    row: str
    kind: str
    seed: int
    question: str
    expected: str
    text: str
    right: bool
    found: bool


def index_of(corpus: Corpus, setting: Setting) -> VectorStoreIndex:
    """Create a vector store index of the documents."""
    documents = [
        Document(
            text=document.text,
            id_=document.subject,
            metadata={"file_name": f"{document.subject}.txt"} if setting.file_names else {},
            excluded_embed_metadata_keys=["file_name"],
        )
        for document in corpus.documents
    ]
    parser: Any = {
        "documents": SentenceSplitter,
        "sentences": SentenceWindowNodeParser,
    }[setting.nodes]
    return VectorStoreIndex.from_documents(
        documents,
        embed_model=HashedWords.of(document.text for document in corpus.documents),
        # Nodes of equal similarity are ranked by their ids, which are random by default.
        transformations=[parser(id_func=lambda place, whole: f"{whole.node_id}-{place}")],
    )


def ask(row: str, llm: LLM, setting: Setting, seed: int) -> Iterator[Answer]:
    """Let ``llm`` answer the questions about the corpus of ``seed``."""
    corpus = setting.corpus(seed)
    engine = index_of(corpus, setting).as_query_engine(
        llm=llm,
        similarity_top_k=setting.top_k,
        response_mode=ResponseMode(setting.mode),
    )
    for question in corpus.questions:
        response = engine.query(question.text)
        if not isinstance(response, Response):
            raise TypeError(f"expected a Response, got {type(response).__name__}.")
        text = response.response or ""
        retrieved = "\n".join(node.node.get_content() for node in response.source_nodes)
        yield Answer(
            row=row,
            kind=question.kind,
            seed=seed,
            question=question.text,
            expected=question.answer,
            text=text,
            right=is_right(text, question.answer),
            found=all(statement in retrieved for statement in question.statements),
        )


def model_of(row: str) -> LLM:
    """Return the LLM of a row: a method, a bundled model, or one in HuggingFaceLLM."""
    if row.startswith(HUGGINGFACE):
        return huggingface(row.removeprefix(f"{HUGGINGFACE} "), MAX_TOKENS)
    llm = SpecFuseLLM(method=row if row in METHODS else None, max_tokens=MAX_TOKENS)
    return llm if row in METHODS else llm.as_single(row)


Job = tuple[str, Setting, int]


def _work(job: Job) -> list[Answer]:
    row, setting, seed = job
    return list(ask(row, _model_of(row), setting, seed))


_model_of = cache(model_of)


def best_alone(answers: Sequence[Answer]) -> str:
    """Return the bundled model with the most correct answers alone; the earlier one of equals."""
    return max(MODELS, key=lambda name: sum(a.right for a in answers if a.row == name))


def _percent(interval: Interval, form: str = ".1f") -> str:
    value, low, high = (
        format(100 * share, form) for share in (interval.value, interval.low, interval.high)
    )
    return f"{value} ({low} to {high})"


def _share(answers: Sequence[Answer], of: Callable[[Answer], bool]) -> Interval:
    return wilson(sum(map(of, answers)), len(answers))


def report(answers: Sequence[Answer], against: str | None = None) -> Iterator[str]:
    """Yield the lines of the report as Markdown tables.

    Args:
        answers: the answers of all rows, with the questions in the same order in each row.
        against: name of the row to compare the others with; None for no comparison.
    """
    rows = list(dict.fromkeys(answer.row for answer in answers))
    columns: dict[str, tuple[str, ...]] = {
        SINGLE: (SINGLE,),
        COMPOSITE: (COMPOSITE,),
        "all": (SINGLE, COMPOSITE),
    }

    def cell(row: str, column: str) -> list[Answer]:
        return [a for a in answers if a.row == row and a.kind in columns[column]]

    def table(named: Sequence[str], show: Callable[[str, str], str]) -> Iterator[str]:
        yield f"| row | {' | '.join(columns)} |"
        yield "|---|" + "---|" * len(columns)
        for row in named:
            yield f"| {row} | {' | '.join(show(row, column) for column in columns)} |"

    yield "Exact answers in percent (95 % Wilson interval):\n"
    yield from table(rows, lambda row, kind: _percent(_share(cell(row, kind), lambda a: a.right)))
    yield "\nQuestions for which all required statements were retrieved, in percent:\n"
    found = table(rows[:1], lambda row, kind: _percent(_share(cell(row, kind), lambda a: a.found)))
    yield from (line.replace(f"| {rows[0]} ", "| every row ") for line in found)
    yield "\nLowest and highest share of exact answers of the seeds, in percent:\n"
    yield from table(rows, lambda row, kind: _seeds(cell(row, kind)))
    if against is not None:
        yield f"\nDifference to {against} on the same questions, in points (95 % interval):\n"
        yield from table(
            [row for row in rows if row != against],
            lambda row, kind: _percent(_gain(cell(row, kind), cell(against, kind)), "+.1f"),
        )


def _seeds(answers: Sequence[Answer]) -> str:
    seeds = dict.fromkeys(answer.seed for answer in answers)
    shares = [
        _share([answer for answer in answers if answer.seed == seed], lambda a: a.right).value
        for seed in seeds
    ]
    return f"{100 * min(shares):.1f} to {100 * max(shares):.1f}"


def _gain(ours: Sequence[Answer], theirs: Sequence[Answer]) -> Interval:
    pairs = list(zip(ours, theirs, strict=True))
    if any(our.question != their.question for our, their in pairs):
        raise ValueError("rows can be compared only on the same questions in the same order.")
    gained = sum(our.right and not their.right for our, their in pairs)
    lost = sum(their.right and not our.right for our, their in pairs)
    return paired(gained, lost, len(pairs))


def record(answers: Sequence[Answer]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the counts of questions, correct answers and complete retrievals, by row and kind."""
    counts: dict[str, dict[str, dict[str, float]]] = {}
    for row in dict.fromkeys(answer.row for answer in answers):
        for kind in (SINGLE, COMPOSITE):
            cell = [answer for answer in answers if (answer.row, answer.kind) == (row, kind)]
            if cell:
                counts.setdefault(row, {})[kind] = {
                    "n": len(cell),
                    "right": sum(answer.right for answer in cell),
                    "retrieved": sum(answer.found for answer in cell),
                }
    return counts


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    usual = Setting()
    elsewhere = [f"{HUGGINGFACE} {name}" for name in MODELS]
    prog = "python -m benchmarks.frameworks.llamaindex_rag"
    parser = argparse.ArgumentParser(prog=prog, description=_DESCRIPTION)
    parser.add_argument("--quick", action="store_true", help="ask a fifth of the questions")
    parser.add_argument("--rows", nargs="+", choices=[*METHODS, *MODELS, *elsewhere])
    parser.add_argument("--split", choices=["test", "validation"], default=usual.split.value)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--nodes", choices=["documents", "sentences"], default=usual.nodes)
    parser.add_argument(
        "--top-k", type=int, default=usual.top_k, help="number of nodes to retrieve"
    )
    modes = [mode.value for mode in ResponseMode]
    parser.add_argument(
        "--mode", choices=modes, default=usual.mode, help="mode of the response synthesizer"
    )
    parser.add_argument(
        "--file-names", action="store_true", help="give documents a file name as metadata"
    )
    parser.add_argument("--jobs", type=int, default=2, help="number of worker processes")
    parser.add_argument(
        "--answers", type=Path, metavar="FILE", help="write all answers to this file"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    given: Any = _arguments(arguments)
    usual, share = Setting(), 5 if given.quick else 1
    setting = Setting(
        split=Split(given.split),
        single=usual.single // share,
        composite=usual.composite // share,
        nodes=given.nodes,
        top_k=given.top_k,
        mode=given.mode,
        file_names=given.file_names,
    )
    seeds = list(dict.fromkeys(given.seeds))
    against = None
    with ExitStack() as opened:
        # Spawned, because a forked process inherits locks that other threads hold.
        spawned = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(given.jobs, spawned, torch.set_num_threads, (1,))
        opened.enter_context(pool)

        def answered(rows: Sequence[str]) -> list[Answer]:
            jobs: list[Job] = [(row, setting, seed) for row in rows for seed in seeds]
            return [answer for part in pool.map(_work, jobs) for answer in part]

        answers = answered(given.rows or [*METHODS, *MODELS])
        if given.rows is None and has_huggingface():
            against = f"{HUGGINGFACE} {best_alone(answers)}"
            answers += answered([against])
    if given.answers:
        lines = (json.dumps(asdict(answer)) for answer in answers)
        given.answers.write_text("\n".join(lines) + "\n", encoding="utf-8")
    count = (setting.single + setting.composite) * len(seeds)
    print(f"{count} {setting.split} questions, seeds {seeds}, {setting.documents} documents each,")
    print(f"{setting.top_k} {setting.nodes} retrieved, mode {setting.mode}", end="")
    print(", with file names\n" if setting.file_names else "\n")
    for line in report(answers, against):
        print(line)
    if given.rows is None and against is None:
        print(f"\n{MISSING}")
    print(json.dumps(record(answers)))


if __name__ == "__main__":
    main()
