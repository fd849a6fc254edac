"""A turn in the form that chat templates take.

Templates differ in how they take a turn with tool calls: :class:`CallStyle` says how. This module
does not render anything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from specfuse_core.message import THOUGHTS, Message

__all__ = ["NO_CONTENT", "STYLES", "CallStyle", "as_mapping"]

#: Put before a template, it sets the content of a turn that holds only calls to none.
#: ``apply_chat_template`` removes keys whose value is None, so the template has to set it itself.
NO_CONTENT = (
    "{%- set calling = namespace(messages=[]) %}{%- for message in messages %}"
    "{%- if message.tool_calls and not message.content %}"
    "{%- set message = dict(message, content=none) %}{%- endif %}"
    "{%- set calling.messages = calling.messages + [message] %}{%- endfor %}"
    "{%- set messages = calling.messages %}\n"
)


@dataclass(frozen=True, slots=True)
class CallStyle:
    """How a turn with tool calls is given to a chat template.

    Args:
        content: the content of a turn that holds only calls: ``"empty"`` for an empty string,
            ``"none"`` for None, ``"absent"`` for no content at all.
        arguments: the arguments of a call: a mapping, or ``"text"`` for its JSON.
    """

    content: Literal["empty", "none", "absent"] = "empty"
    arguments: Literal["mapping", "text"] = "mapping"


#: Every style, the usual ones first.
STYLES = tuple(
    CallStyle(content, arguments)
    for arguments in ("mapping", "text")
    for content in ("empty", "none", "absent")
)


def as_mapping(turn: Message, style: CallStyle = STYLES[0]) -> dict[str, Any]:
    """A turn as a chat template gets it.

    Args:
        turn: the turn.
        style: how calls are given. The content none needs :data:`NO_CONTENT` as well.
    """
    mapping: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.tool_calls:
        if style.content == "absent" and not turn.content:
            del mapping["content"]
        mapping["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {
                    "name": call.name,
                    "arguments": (
                        dict(call.arguments)
                        if style.arguments == "mapping"
                        else json.dumps(dict(call.arguments), ensure_ascii=False)
                    ),
                },
            }
            for call in turn.tool_calls
        ]
    if turn.reasoning:
        # Each template reads one of these names, or none.
        mapping |= dict.fromkeys(THOUGHTS, turn.reasoning)
    if turn.name is not None:
        mapping["name"] = turn.name
    if turn.tool_call_id is not None:
        mapping["tool_call_id"] = turn.tool_call_id
    return mapping
