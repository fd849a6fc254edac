"""Prompt shapes: how a question, with or without a context, becomes the first turns of a chat.

The forms of retrieval prompts: a context block, then the question. Knows nothing of the answers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from training.lexicon import ASIDES
from training.sample import Message
from training.splits import Phrasings, Split

_SYSTEMS = (
    "You are a helpful assistant.",
    "Answer briefly.",
    "You answer questions.",
    "Be exact.",
    "You are a careful assistant. Answer in full sentences.",
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
    "Context:\n{context}\n\nQuestion: {question}",
    "Context: {context}\n\nQuestion: {question}\nAnswer:",
    "{context}\n\nQuestion: {question}",
    "Text:\n{context}\n\n{question}",
    "Question: {question}\n\nContext:\n{context}",
    "---\n{context}\n---\n{question}",
    "Notes:\n{context}\n\nQuery: {question}\nAnswer:",
)
_IN_USER = Phrasings([head + body for head in _HEADS for body in _BODIES])
_IN_SYSTEM = Phrasings(
    [
        head + body
        for head in (*_HEADS, "You are a helpful assistant.\n\n")
        for body in ("{context}", "Context:\n{context}", "Context: {context}", "Notes:\n{context}")
    ]
)


def write_context(rng: random.Random, statements: Sequence[str]) -> str:
    """The statements in random order, some asides among them, as prose, lines, list or texts."""
    lines = list(statements)
    if rng.random() < 0.25:
        lines += rng.sample(ASIDES, rng.randint(1, 2))
    rng.shuffle(lines)
    form = rng.random()
    if form < 0.5:
        return " ".join(lines)
    if form < 0.7:
        return "\n".join(lines)
    if form < 0.85:
        return "\n".join(f"- {line}" for line in lines)
    half = (len(lines) + 1) // 2
    return "\n\n".join(" ".join(part) for part in (lines[:half], lines[half:]) if part)


def ask_over(rng: random.Random, split: Split, context: str, question: str) -> list[Message]:
    """The turns that put a context and a question about it."""
    if rng.random() < 0.25:
        system = _IN_SYSTEM.pick(rng, split).format(context=context)
        return [Message("system", system), Message("user", question)]
    user = _IN_USER.pick(rng, split).format(context=context, question=question)
    return [*_maybe_system(rng), Message("user", user)]


def ask_plain(rng: random.Random, question: str) -> list[Message]:
    """The turns that put a question which needs no context."""
    return [*_maybe_system(rng), Message("user", question)]


def _maybe_system(rng: random.Random) -> list[Message]:
    return [Message("system", rng.choice(_SYSTEMS))] if rng.random() < 0.3 else []
