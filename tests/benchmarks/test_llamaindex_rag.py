"""The retrieval benchmark: its corpus is consistent, and retrieval and grading work."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, CustomLLM
from llama_index.core.llms import LLMMetadata as Metadata
from llama_index.core.schema import MetadataMode
from pydantic import Field

from benchmarks.frameworks.corpus import COMPOSITE, SINGLE, Corpus, draw_corpus
from benchmarks.frameworks.hashed_words import HashedWords
from benchmarks.frameworks.huggingface_llm import MODELS
from benchmarks.frameworks.llamaindex_rag import (
    Answer,
    Setting,
    ask,
    best_alone,
    index_of,
    record,
    report,
)
from training.facts import RELATIONS, Fact
from training.splits import Split

SMALL = Setting(split=Split.VALIDATION, documents=120, single=20, composite=9)
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module", params=SEEDS)
def corpus(request: pytest.FixtureRequest) -> Corpus:
    """A corpus as large as those of the reported results."""
    return Setting().corpus(request.param)


def facts_of(corpus: Corpus) -> list[Fact]:
    return [fact for document in corpus.documents for fact in document.facts]


def test_a_corpus_has_as_many_documents_and_questions_as_asked_for(corpus: Corpus) -> None:
    assert len(corpus.documents) == 300
    assert len({document.subject for document in corpus.documents}) == 300
    assert Counter(question.kind for question in corpus.questions) == {SINGLE: 100, COMPOSITE: 50}
    assert len({question.text for question in corpus.questions}) > 140


def test_documents_say_their_facts_and_nothing_else(corpus: Corpus) -> None:
    for document in corpus.documents:
        said = document.text
        assert said.count(".") == len(document.facts) <= 3
        for fact in document.facts:
            assert fact.subject == document.subject
            assert any(fact.fill(text) in said for text in fact.relation.statements)


def contradictions(facts: list[Fact]) -> list[tuple[str, ...]]:
    """Return facts that contradict each other, or that a question cannot tell apart."""
    told = Counter((fact.relation.name, fact.subject, fact.thing) for fact in facts)
    whose = Counter(
        (fact.relation.name, fact.value) for fact in facts if fact.relation.ask_subject is not None
    )
    return [key for key, count in (*told.items(), *whose.items()) if count > 1]


def test_no_document_contradicts_another(corpus: Corpus) -> None:
    facts = facts_of(corpus)
    assert contradictions(facts) == []
    told_twice = [*facts, facts[0].with_value("another")]
    assert contradictions(told_twice) != []


def test_facts_are_held_out(corpus: Corpus) -> None:
    assert {fact.split for fact in facts_of(corpus)} == {Split.TEST}


def test_phrasings_are_held_out(corpus: Corpus) -> None:
    shown = {question.text for question in corpus.questions if question.kind == SINGLE}
    held = {
        fact.fill(text)
        for fact in facts_of(corpus)
        for phrasings in (fact.relation.ask_value, fact.relation.ask_subject)
        if phrasings is not None
        for text in phrasings.of(Split.TEST)
    }
    assert shown <= held


def test_every_answer_stands_in_the_documents_that_state_it(corpus: Corpus) -> None:
    stated = {
        statement: (document.subject, fact)
        for document in corpus.documents
        for fact, statement in zip(document.facts, document.statements, strict=True)
    }
    for question in corpus.questions:
        subjects = [stated[statement][0] for statement in question.statements]
        facts = [stated[statement][1].sentence() for statement in question.statements]
        sentences = [f"{part.rstrip('.')}." for part in question.answer.split(". ")]
        if question.kind == SINGLE:
            assert sentences == facts
            continue
        *extraction, working, result = sentences
        assert extraction == facts
        assert len(set(subjects)) == 2
        found = re.fullmatch(r"(\d+) \+ (\d+) = (\d+)\.", working)
        assert found is not None
        left, right, total = map(int, found.groups())
        assert left + right == total
        assert [left, right] == [int(re.findall(r"\d+", text)[0]) for text in extraction]
        assert result == f"The answer is {total}."
        assert all(re.search(rf"\b{name}\b", question.text) for name in subjects)


def test_a_corpus_depends_on_its_arguments_alone() -> None:
    fewer = replace(SMALL, composite=3)
    small = fewer.corpus(1)
    assert small == fewer.corpus(1)
    assert small != fewer.corpus(2)
    assert small != replace(fewer, split=Split.TEST).corpus(1)


def test_more_questions_than_there_are_answers_is_an_error() -> None:
    with pytest.raises(ValueError, match="not 5000"):
        draw_corpus(Split.TEST, 1, documents=40, single=5000, composite=1)


def test_every_relation_is_asked_about(corpus: Corpus) -> None:
    assert {fact.relation for fact in facts_of(corpus)} == set(RELATIONS)


# --- retrieval --------------------------------------------------------------------------------


def test_words_are_the_same_in_either_number_and_rare_ones_weigh_more() -> None:
    made = HashedWords.of(["The hall has lamps.", "The attic has books.", "The hall is red."])
    assert made.get_text_embedding("lamps") == made.get_query_embedding("Lamp?")
    assert made.weights["lamp"] > made.weights["hall"] > made.weights["the"] > 0
    assert not any(made.get_query_embedding("unheard-of"))


@pytest.mark.parametrize("nodes", ["documents", "sentences"])
def test_needed_statements_are_retrieved(nodes: str) -> None:
    setting = replace(Setting(), nodes=nodes)
    corpus = setting.corpus(1)
    retriever = index_of(corpus, setting).as_retriever(similarity_top_k=setting.top_k)
    asked = corpus.questions[::10]
    held = 0
    for question in asked:
        texts = " ".join(node.get_content() for node in retriever.retrieve(question.text))
        held += all(statement in texts for statement in question.statements)
    assert held / len(asked) > 0.9


def test_nodes_are_documents_or_sentences() -> None:
    small = SMALL.corpus(1)
    whole = index_of(small, SMALL).docstore.docs
    parts = index_of(small, replace(SMALL, nodes="sentences")).docstore.docs
    assert len(whole) == 120
    assert len(parts) == len(facts_of(small)) > 120


def test_retrieval_is_the_same_in_every_run() -> None:
    small = SMALL.corpus(1)

    def retrieved() -> list[list[str | None]]:
        retriever = index_of(small, SMALL).as_retriever(similarity_top_k=6)
        return [[n.node.ref_doc_id for n in retriever.retrieve(q.text)] for q in small.questions]

    assert retrieved() == retrieved()


def test_models_see_file_names_only_where_asked_to() -> None:
    small = SMALL.corpus(1)
    for file_names in (False, True):
        (node,) = (
            index_of(small, replace(SMALL, file_names=file_names))
            .as_retriever(similarity_top_k=1)
            .retrieve(small.questions[0].text)
        )
        shown = node.get_content(metadata_mode=MetadataMode.LLM)
        assert ("file_name: " in shown) is file_names


# --- grading ----------------------------------------------------------------------------------


class Oracle(CustomLLM):
    """Knows the answers, but gives wrong ones to some questions."""

    answers: dict[str, str]
    missed: set[str] = Field(default_factory=set)

    @property
    def metadata(self) -> Metadata:
        return Metadata(is_chat_model=True)

    def chat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        asked = messages[-1].content.rpartition("Query: ")[2].partition("\nAnswer:")[0]
        said = "The answer is blue." if asked in self.missed else self.answers[asked]
        return ChatResponse(message=ChatMessage(role="assistant", content=said))

    def complete(self, *arguments: Any, **kwargs: Any) -> CompletionResponse:
        raise NotImplementedError

    def stream_complete(self, *arguments: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


def oracle(seed: int, missed: int = 0) -> Oracle:
    questions = SMALL.corpus(seed).questions
    answers = {question.text: question.answer for question in questions}
    return Oracle(answers=answers, missed={question.text for question in questions[:missed]})


def test_who_knows_all_is_right_and_who_misses_is_not() -> None:
    knowing = list(ask("oracle", oracle(1), SMALL, 1))
    assert all(answer.right for answer in knowing)
    assert [answer.kind for answer in knowing] == [SINGLE] * 20 + [COMPOSITE] * 9
    missing = list(ask("oracle", oracle(1, missed=5), SMALL, 1))
    assert [answer.right for answer in missing] == [False] * 5 + [True] * 24


def test_documents_that_were_not_retrieved_are_told_from_wrong_answers() -> None:
    narrow = replace(SMALL, top_k=1)
    answers = list(ask("oracle", oracle(1), narrow, 1))
    # One document cannot be two.
    assert not any(answer.found for answer in answers if answer.kind == COMPOSITE)
    assert sum(answer.found for answer in answers if answer.kind == SINGLE) > 15
    assert all(answer.right for answer in answers)


def answers_of(row: str, right: list[bool], kind: str = SINGLE) -> list[Answer]:
    return [
        Answer(row, kind, 1 + place % 2, str(place), "yes", "", one, True)
        for place, one in enumerate(right)
    ]


def test_the_report_counts_by_row_and_kind() -> None:
    answers = [
        *answers_of("one", [True, True, False, True]),
        *answers_of("one", [True, False], COMPOSITE),
        *answers_of("two", [True, False, False, False]),
        *answers_of("two", [False, False], COMPOSITE),
    ]
    lines = list(report(answers, against="two"))
    (shares,) = [line for line in lines if line.startswith("| one | 75.0 (")]
    assert "| 50.0 (" in shares
    assert "| 66.7 (" in shares
    assert any(line.startswith("| one | +50.0 (") for line in lines)
    assert any(line.startswith("| every row | 100.0 (") for line in lines)
    assert any(line.startswith("| one | 50.0 to 100.0 |") for line in lines)
    told = json.loads(json.dumps(record(answers)))
    assert told["one"][SINGLE] == {"n": 4, "right": 3, "retrieved": 4}
    assert told["two"][COMPOSITE] == {"n": 2, "right": 0, "retrieved": 2}


def test_rows_of_other_questions_are_not_compared() -> None:
    ours = [*answers_of("one", [True]), *answers_of("one", [True], COMPOSITE)]
    theirs = [replace(answer, row="two", question="another") for answer in ours]
    with pytest.raises(ValueError, match="same questions"):
        list(report([*ours, *theirs], against="two"))


def test_the_best_alone_is_the_one_with_most_right_answers() -> None:
    names = list(MODELS)
    answers = [
        *answers_of("specem", [True] * 3),
        *answers_of(names[0], [True, False, False]),
        *answers_of(names[-1], [True, True, False]),
    ]
    assert best_alone(answers) == names[-1]
