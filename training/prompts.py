"""Builds the first messages of a conversation from a question, with or without a context.

The prompts have the forms of retrieval prompts. This module knows nothing of answers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from training.frameworks import fill, question_shapes, refine_shapes
from training.lexicon import ASIDES, NAMES, PLACES, THINGS
from training.sample import Message
from training.splits import Phrasings, Split

_SYSTEMS = (
    "You are a helpful assistant.",
    "Answer briefly.",
    "You answer questions.",
    "Be exact.",
    "You are a careful assistant. Answer in full sentences.",
)

# Metadata of a document, which stands before its text.
_METADATA = (
    "page_label: {number}\n\n",
    "page_label: {number}\nfile_name: notes.txt\n\n",
    "file_name: {word}.txt\n\n",
    "file_path: notes/{word}.txt\n\n",
    "source: note {number}\n\n",
    "title: {word}\n\n",
)
_HEADS = (
    "",
    "Answer the question from the context.\n\n",
    "Use the context to answer the question.\n\n",
    "Read this and answer.\n\n",
    "Here is what we know.\n\n",
    "Use only what is said here.\n\n",
)
_BODIES = (
    "{context}\n\n{question}",
    "{context}\n{question}",
    "{context} {question}",
    "Context:\n{context}\n\nQuestion: {question}",
    "Context: {context}\n\nQuestion: {question}\nAnswer:",
    "{context}\n\nQuestion: {question}",
    "Text:\n{context}\n\n{question}",
    "Question: {question}\n\nContext:\n{context}",
    "---\n{context}\n---\n{question}",
    "Notes:\n{context}\n\nQuery: {question}\nAnswer:",
)
# Share of the prompts that come from LangChain or LlamaIndex.
_FRAMEWORKS = 0.3
_IN_USER = Phrasings([head + body for head in _HEADS for body in _BODIES])
_IN_SYSTEM = Phrasings(
    [
        head + body
        for head in (*_HEADS, "You are a helpful assistant.\n\n")
        for body in ("{context}", "Context:\n{context}", "Context: {context}", "Notes:\n{context}")
    ]
)


def write_context(rng: random.Random, statements: Sequence[str]) -> str:
    """Join the statements in random order, sometimes with irrelevant sentences, to a context.

    The context is prose, lines, a list or several texts. Texts look like documents of a retriever:
    separated by an empty line, sometimes with metadata.
    """
    lines = list(statements)
    if rng.random() < 0.25:
        lines += rng.sample(ASIDES, rng.randint(1, 2))
    rng.shuffle(lines)
    form = rng.random()
    if form < 0.45:
        return _metadata(rng, 0.1) + " ".join(lines)
    if form < 0.6:
        return _metadata(rng, 0.1) + "\n".join(lines)
    if form < 0.75:
        return _metadata(rng, 0.1) + "\n".join(f"- {line}" for line in lines)
    if form < 0.8:
        # LlamaIndex's simple_summarize inserts a printed list.
        return str(["\n".join(lines)])
    size, share = rng.randint(1, max(1, len(lines) // 2)), rng.choice((0.0, 0.0, 1.0))
    parts = [lines[start : start + size] for start in range(0, len(lines), size)]
    return "\n\n".join(_metadata(rng, share) + " ".join(part) for part in parts)


def _metadata(rng: random.Random, share: float) -> str:
    if rng.random() >= share:
        return ""
    word = rng.choice((*PLACES, *THINGS, *NAMES))
    return rng.choice(_METADATA).format(number=rng.randint(1, 99), word=word)


def ask_over(rng: random.Random, split: Split, context: str, question: str) -> list[Message]:
    """Return messages with a context and a question about it."""
    if rng.random() < _FRAMEWORKS:
        return fill(rng.choice(question_shapes()), context=context, question=question)
    if rng.random() < 0.25:
        system = _IN_SYSTEM.pick(rng, split).format(context=context)
        return [Message("system", system), Message("user", question)]
    user = _IN_USER.pick(rng, split).format(context=context, question=question)
    return [*_maybe_system(rng), Message("user", user)]


def ask_to_refine(rng: random.Random, context: str, question: str, answer: str) -> list[Message]:
    """Return messages that ask to refine an answer with another context."""
    return fill(rng.choice(refine_shapes()), context=context, question=question, answer=answer)


def ask_plain(rng: random.Random, question: str) -> list[Message]:
    """Return messages with a question that needs no context."""
    return [*_maybe_system(rng), Message("user", question)]


def _maybe_system(rng: random.Random) -> list[Message]:
    return [Message("system", rng.choice(_SYSTEMS))] if rng.random() < 0.3 else []
