"""Whether a call that a model writes in its own form is understood."""

from __future__ import annotations

from specfuse_core import Tool
from specfuse_core.grammar.calls import write_call
from specfuse_core.prompts.template import ChatTemplate

__all__ = ["reaches"]

_TOOL = Tool(
    "get_weather",
    "Tells the weather.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
)


def reaches(owner: ChatTemplate) -> bool:
    """Whether a call, written as the template writes it, reads as the same call."""
    speech = owner.speech([_TOOL])
    if speech is None:
        # The model is told the common form, by its template or by the engine.
        return True
    call = write_call("get_weather", {"city": "New York", "days": 3})
    native = "".join(piece.text for piece in speech.spelling.pieces(call))
    return speech.reader.read("", native, ended=True) == call
