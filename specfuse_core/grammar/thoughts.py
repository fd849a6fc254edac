"""The marks around a model's reasoning, and where the reasoning of an answer ends.

These are pure functions on the text of an answer. This module knows nothing of models.
"""

from __future__ import annotations

__all__ = ["THINKING", "THOUGHT_CLOSE", "THOUGHT_OPEN", "end_of_thought", "thinking_in"]

#: Marks around reasoning that are plain text: (opening, closing).
THINKING = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
)
#: How every model writes a thought in the text that all models share.
THOUGHT_OPEN, THOUGHT_CLOSE = THINKING[0]


def end_of_thought(answer: str) -> int | None:
    """Return the length of the reasoning at the start of ``answer``, with its marks.

    Returns:
        0 if the answer does not begin with reasoning; None if the reasoning has not ended.
    """
    begun = answer.lstrip()
    for opening, closing in THINKING:
        if begun.startswith(opening):
            start = len(answer) - len(begun) + len(opening)
            end = answer.find(closing, start)
            return None if end < 0 else end + len(closing)
    return 0


def thinking_in(answer: str) -> str:
    """Return the mark that closes the reasoning in which ``answer`` ends; empty if in none."""
    if end_of_thought(answer) is not None:
        return ""
    begun = answer.lstrip()
    return next(closing for opening, closing in THINKING if begun.startswith(opening))
