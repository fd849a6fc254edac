"""Stops an answer where an application of ReAct has to write the observation.

LlamaIndex passes neither a stop string nor a mark with the messages of its ReAct agents, so that
the labels of the format in the beginning of the conversation are the only sign. This module knows
nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence

from specfuse_core import Message

__all__ = ["with_observation"]

#: Labels that every ReAct prompt has.
_LABELS = ("Thought:", "Action:", "Action Input:", "Observation:")
#: The beginning of the text in an answer that the application writes.
_OBSERVATION = "\nObservation:"


def with_observation(
    stop: Sequence[str] | str | None, turns: Sequence[Message]
) -> Sequence[str] | str | None:
    """Return the stop strings of a conversation, with that of ReAct if its prompt is there.

    Args:
        stop: the stop strings of the request.
        turns: the conversation.
    """
    if not _teaches_react(turns):
        return stop
    return [*([stop] if isinstance(stop, str) else stop or ()), _OBSERVATION]


def _teaches_react(turns: Sequence[Message]) -> bool:
    """Whether a system message or the first message of the user explains the format."""
    first = next((turn.content for turn in turns if turn.role == "user"), "")
    taught = [turn.content for turn in turns if turn.role == "system"]
    return any(all(label in text for label in _LABELS) for text in ("\n".join(taught), first))
