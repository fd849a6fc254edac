"""Whether a chat template closes the thought before an answer, and what opens it.

Found by rendering a question with the template, with and without its usual variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from specfuse_core.errors import TemplateError
from specfuse_core.request import Message

if TYPE_CHECKING:
    from specfuse_core.prompts.rendering import Rendering

__all__ = ["thinking_switch"]

#: Variables with which chat templates let a model think.
_SWITCHES = ("enable_thinking", "thinking")


def thinking_switch(rendering: Rendering, closings: Sequence[str]) -> str | None:
    """The variable that lets the model think; None if the template does not close thoughts.

    A variable that the caller has set is not named.

    Args:
        rendering: the chat template.
        closings: marks that close a thought.
    """
    if not _closes(rendering, closings):
        return None
    unset = (name for name in _SWITCHES if not rendering.given(name))
    return next((name for name in unset if _closes(rendering, closings, name) is False), None)


def _closes(
    rendering: Rendering, closings: Sequence[str], switch: str | None = None
) -> bool | None:
    """Whether a prompt ends with a closed thought; None if the template raises."""
    variables: dict[str, Any] = {} if switch is None else {switch: True}
    try:
        prompt = rendering.render([Message("user", "a")], **variables)
    except TemplateError:
        return None
    return prompt.rstrip().endswith(tuple(mark.rstrip() for mark in closings))
