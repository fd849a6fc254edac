"""Rewrites conversations for chat templates that refuse them.

Some templates have no system role, require strictly alternating roles, or do not support tools. The
pure functions here rewrite a conversation in other roles with the same content. This module does
not render anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from specfuse_core.grammar.calls import write_call
from specfuse_core.request import Message

__all__ = ["DESCRIPTIONS", "REPAIRS", "Repair"]

Repair = Callable[[Sequence[Message]], list[Message]]


def _merged(turns: Sequence[Message]) -> list[Message]:
    """Merge neighbouring messages of the same role."""
    merged: list[Message] = []
    for turn in turns:
        last = merged[-1] if merged else None
        if last is None or last.role != turn.role or turn.role == "tool":
            merged.append(turn)
            continue
        content = _joined(last.content, turn.content)
        calls = last.tool_calls + turn.tool_calls
        reasoning = _joined(last.reasoning, turn.reasoning)
        merged[-1] = replace(last, content=content, tool_calls=calls, reasoning=reasoning)
    return merged


def _joined(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)


def _system_in_user(turns: Sequence[Message]) -> list[Message]:
    """Move system messages to the beginning of the next user message."""
    moved: list[Message] = []
    held: list[str] = []
    for turn in turns:
        if turn.role == "system":
            held.append(turn.content)
        elif turn.role == "user" and held:
            moved.append(replace(turn, content="\n\n".join([*held, turn.content])))
            held = []
        else:
            moved.append(turn)
    return [*moved, Message("user", "\n\n".join(held))] if held else moved


def _later_system_in_user(turns: Sequence[Message]) -> list[Message]:
    """System turns after the first become the beginning of the user turn that follows."""
    if not turns or turns[0].role != "system":
        return _system_in_user(turns)
    return [turns[0], *_system_in_user(turns[1:])]


def _transcript(turns: Sequence[Message]) -> list[Message]:
    """The whole conversation as one user turn, a labelled paragraph for each turn."""
    lines = [
        f"{turn.role.capitalize()}: {turn.content}" if len(turns) > 1 else turn.content
        for turn in _tools_as_text(turns)
        if turn.content
    ]
    return [Message("user", "\n\n".join(lines))]


def _text_before_calls(turns: Sequence[Message]) -> list[Message]:
    """Text and calls of one turn become two turns."""
    parted: list[Message] = []
    for turn in turns:
        if turn.tool_calls and turn.content:
            parted += [replace(turn, tool_calls=()), replace(turn, content="", reasoning="")]
        else:
            parted.append(turn)
    return parted


def _single_calls(turns: Sequence[Message]) -> list[Message]:
    """Several calls of one turn become several turns, each followed by its result."""
    parted: list[Message] = []
    rest = list(turns)
    while rest:
        turn = rest.pop(0)
        if len(turn.tool_calls) < 2:
            parted.append(turn)
            continue
        results = []
        while rest and rest[0].role == "tool":
            results.append(rest.pop(0))
        for place, call in enumerate(turn.tool_calls):
            first = turn if place == 0 else replace(turn, content="", reasoning="")
            parted.append(replace(first, tool_calls=(call,)))
            own = [result for result in results if call.id and result.tool_call_id == call.id]
            parted += own or results[:1]
            results = [result for result in results if result not in (own or results[:1])]
        parted += results
    return parted


def _tools_as_text(turns: Sequence[Message]) -> list[Message]:
    """Write tool calls and their results as text, in the common format of all models."""
    written: list[Message] = []
    for turn in turns:
        if turn.role == "tool":
            result = f"<tool_response>\n{turn.content}\n</tool_response>"
            written.append(Message("user", result))
        elif turn.tool_calls:
            calls = [write_call(call.name, call.arguments) for call in turn.tool_calls]
            content = "\n".join([turn.content, *calls] if turn.content else calls)
            written.append(Message(turn.role, content, reasoning=turn.reasoning))
        else:
            written.append(turn)
    return written


def _user_first(turns: Sequence[Message]) -> list[Message]:
    """Add a user message to a conversation that begins with another role."""
    first = next((i for i, turn in enumerate(turns) if turn.role != "system"), len(turns))
    if first < len(turns) and turns[first].role == "user":
        return list(turns)
    return [*turns[:first], Message("user", "..."), *turns[first:]]


#: Combinations of repairs, in the order in which they are tried.
REPAIRS: tuple[tuple[Repair, ...], ...] = (
    (),
    (_text_before_calls,),
    (_single_calls,),
    (_text_before_calls, _single_calls),
    (_merged,),
    (_later_system_in_user,),
    (_later_system_in_user, _merged),
    (_system_in_user,),
    (_system_in_user, _merged),
    (_tools_as_text,),
    (_tools_as_text, _merged),
    (_tools_as_text, _later_system_in_user, _merged),
    (_tools_as_text, _system_in_user, _merged),
    (_user_first,),
    (_merged, _user_first),
    (_tools_as_text, _system_in_user, _merged, _user_first),
    (_transcript,),
)

#: What each repair does, as reports show it.
DESCRIPTIONS: Mapping[Repair, str] = {
    _merged: "joins neighbouring messages of one role",
    _system_in_user: "moves system messages into user messages",
    _later_system_in_user: "moves later system messages into user messages",
    _transcript: "writes the whole conversation as one user message",
    _text_before_calls: "separates the text of a message from its tool calls",
    _single_calls: "gives each tool call a message of its own",
    _tools_as_text: "writes tool calls and results as text",
    _user_first: "adds a user message before the first answer",
}
