"""A sample: one conversation whose assistant turns are the answers to learn.

And a skill: what the one who answers knows. Where a skill is missing the generators guess, which
teaches a model the form of the other trade and to be unsure of its content.
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
    """Ends with an assistant turn; every assistant turn is trained on, the last one is graded."""

    messages: tuple[Message, ...]

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Level:
    """How hard the samples are: training begins easy, questions are asked at the default."""

    facts: int = 8  # in a context, about
    plain: float = 0.0  # chance that a statement has its canonical form, whatever else is drawn
    turns: int = 3  # most questions in a conversation
    silence: float = 0.12  # share of the questions on which the context is silent


@dataclass(frozen=True, slots=True)
class Skill:
    reads: bool = True
    reckons: bool = True
    calls: bool = True


ALL = Skill()
READER = Skill(reckons=False, calls=False)
RECKONER = Skill(reads=False, calls=False)
CLERK = Skill(reads=False, reckons=False)


def final_sentence(answer: str) -> str:
    """What an answer comes down to: its last sentence."""
    sentences = [part.strip() for part in answer.strip().split(". ")]
    return sentences[-1].rstrip(".")


def calls_in(answer: str) -> list[Any]:
    """The tool calls of an answer, parsed; what is not JSON counts as a call of nothing."""
    return [_parsed(block) for block in re.findall(r"<tool_call>(.*?)</tool_call>", answer, re.S)]


def is_right(given: str, expected: str) -> bool:
    """The same calls, if any are expected; the same object, for JSON; else the same conclusion."""
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
