"""Reads the prompts of LangChain and LlamaIndex from the installed libraries.

These are LangChain's retrieval prompts and LlamaIndex's question-answering and refine prompts. Each
is a list of messages with the slots `{context}`, `{question}` and, for refining, `{answer}`.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

from training.sample import Message, Role

Shape = tuple[Message, ...]

_ROLES: dict[str, Role] = {"human": "user", "user": "user", "system": "system"}


@cache
def question_shapes() -> tuple[Shape, ...]:
    """Return the prompts of retrieval chains and query engines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_classic.chains.question_answering import stuff_prompt
        from langchain_classic.chains.retrieval_qa import prompt as retrieval
        from llama_index.core.prompts import chat_prompts, default_prompts

    return (
        _of_langchain(retrieval.PROMPT),
        _of_langchain(stuff_prompt.CHAT_PROMPT),
        _of_llama_index(default_prompts.DEFAULT_TEXT_QA_PROMPT),
        _of_llama_index(chat_prompts.CHAT_TEXT_QA_PROMPT),
    )


@cache
def refine_shapes() -> tuple[Shape, ...]:
    """Return the prompts that refine an answer with more context."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from llama_index.core.prompts import chat_prompts, default_prompts

    return (
        _of_llama_index(default_prompts.DEFAULT_REFINE_PROMPT),
        _of_llama_index(chat_prompts.CHAT_REFINE_PROMPT),
    )


def fill(shape: Shape, **slots: str) -> list[Message]:
    """Fill the slots of a prompt."""
    turns = []
    for turn in shape:
        text = turn.content
        for name, value in slots.items():
            text = text.replace(f"{{{name}}}", value)
        turns.append(Message(turn.role, text))
    return turns


def _of_langchain(prompt: Any) -> Shape:
    turns = prompt.format_prompt(context="{context}", question="{question}").to_messages()
    return tuple(Message(_ROLES[turn.type], turn.content) for turn in turns)


def _of_llama_index(prompt: Any) -> Shape:
    slots = {
        "context_str": "{context}",
        "context_msg": "{context}",
        "query_str": "{question}",
        "existing_answer": "{answer}",
    }
    turns = prompt.format_messages(**{name: slots[name] for name in prompt.template_vars})
    return tuple(Message(_ROLES[turn.role.value], turn.content) for turn in turns)
