"""The limits of the length of an answer and of its prompt.

This module only calculates with numbers. It knows nothing of tokenizers or requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

__all__ = ["DEFAULT_TOKENS", "ENDED", "Limits", "prompt_size"]

#: Maximum number of tokens of the text of an answer, and of its tool calls, if a request sets no
#: limit. A smaller context window ends the answer earlier.
DEFAULT_TOKENS = 4096
#: How each finish reason ended an answer, for messages. The limit is inserted.
ENDED = {
    "stop": "the answer ended",
    "stop_sequence": "a stop string ended the answer",
    "length": "{} was reached",
    "context": "{} is full",
    "cancelled": "the answer was cancelled",
}


def prompt_size(prompts: Sequence[tuple[int, int]]) -> int:
    """Return the size of a prompt that several base models read, in tokens.

    It is the smallest context window minus the smallest room for an answer that a model has left.
    With equal context windows, it is the largest number of tokens. The prompt fits all models if
    and only if the size is below the smallest context window.

    Args:
        prompts: for each model, its number of tokens of the prompt and its context window.
    """
    smallest = min(window for _, window in prompts)
    return max(tokens + smallest - window for tokens, window in prompts)


@dataclass(frozen=True, slots=True)
class Limits:
    """The maximum length of an answer and of its parts, in tokens of the first base model.

    Args:
        whole: maximum number of tokens of the answer; None for no limit but those of its parts.
        text: maximum number of tokens outside of tool calls.
        calls: maximum number of tokens of all tool calls together.
    """

    whole: int | None
    text: int
    calls: int

    @classmethod
    def of(cls, max_new_tokens: int | None, max_call_tokens: int | None = None) -> Self:
        """Return the limits of a request.

        Args:
            max_new_tokens: the limit of the answer; None for the default.
            max_call_tokens: the limit of its calls; None for the default.
        """
        text = DEFAULT_TOKENS if max_new_tokens is None else max_new_tokens
        calls = text if max_call_tokens is None else max_call_tokens
        return cls(max_new_tokens, text, calls)

    def end(self, spent: int, called: int, *, in_call: bool) -> int:
        """Return the number of tokens at which the answer must end.

        Args:
            spent: number of tokens of the answer.
            called: how many of them belong to calls.
            in_call: whether the answer ends inside a call.
        """
        part = spent - called + self.calls if in_call else called + self.text
        return part if self.whole is None else min(part, self.whole)

    def name(self, spent: int, called: int, *, in_call: bool) -> str:
        """Return the limit at which the answer must end, with the name of the option."""
        end = self.end(spent, called, in_call=in_call)
        if in_call and (self.whole is None or end < self.whole):
            return f"max_call_tokens={self.calls}"
        return f"max_new_tokens={self.text}"
