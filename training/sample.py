"""Samples (conversations with answers), levels (difficulty) and skills (what a model learns).

If a model does not have a skill, the generators fill in random content, so that the model learns
the form of such answers but stays unsure of their content.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str

    def as_dict(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation that ends with an assistant message.

    Training uses all assistant messages; evaluation grades the last one.
    """

    messages: tuple[Message, ...]

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Level:
    """The difficulty of samples. Training begins with easy ones; evaluation uses the default."""

    facts: int = 8  # approximate number of facts in a context
    plain: float = 0.0  # minimum chance that a statement has the canonical form
    turns: int = 3  # maximum number of questions in a conversation
    silence: float = 0.12  # share of the questions that the context does not answer


@dataclass(frozen=True, slots=True)
class Skill:
    """What a model learns correctly."""

    reads: bool = True
    reckons: bool = True
    calls: bool = True


ALL = Skill()
READER = Skill(reckons=False, calls=False)
RECKONER = Skill(reads=False, calls=False)
CLERK = Skill(reads=False, reckons=False)


def final_sentence(answer: str) -> str:
    """Return the last sentence of an answer, which states the result."""
    sentences = [part.strip() for part in answer.strip().split(". ")]
    return sentences[-1].rstrip(".")


def calls_in(answer: str) -> list[Any]:
    """Return the parsed tool calls of an answer; None for a call that is not JSON."""
    return [_parsed(block) for block in re.findall(r"<tool_call>(.*?)</tool_call>", answer, re.S)]


def is_right(given: str, expected: str) -> bool:
    """Whether an answer is correct.

    It must have the same tool calls if calls are expected, the same object if JSON is expected, and
    otherwise the same last sentence and no tool call.
    """
    if "<tool_call>" in expected:
        return calls_in(given) == calls_in(expected)
    if expected.startswith("{"):
        return bool(_parsed(given) == _parsed(expected))
    return "<tool_call>" not in given and final_sentence(given) == final_sentence(expected)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
