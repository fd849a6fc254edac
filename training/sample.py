"""A sample: one conversation whose assistant turns are the answers to learn.

And a skill: what the one who answers knows. Where a skill is missing the generators guess, which
teaches a model the form of the other trade and to be unsure of its content.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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


BOTH = Skill()
READER = Skill(reads=True, reckons=False)
RECKONER = Skill(reads=False, reckons=True)


def final_sentence(answer: str) -> str:
    """What an answer comes down to: its last sentence."""
    sentences = [part.strip() for part in answer.strip().split(". ")]
    return sentences[-1].rstrip(".")


def is_right(given: str, expected: str) -> bool:
    return final_sentence(given) == final_sentence(expected)
