"""Rewrites conversations for chat templates that refuse them.

Some templates have no system role, require strictly alternating roles, or do not support tools. The
pure functions here rewrite a conversation in other roles with the same content. This module does
not render anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from specfuse_core.grammar.calls import write_call
from specfuse_core.prompts.dialects.spelling import WriteCalls
from specfuse_core.request import Message

__all__ = ["Repair", "repairs"]


@dataclass(frozen=True, slots=True)
class Repair:
    """A way to rewrite a conversation.

    Args:
        description: what it does, as reports show it.
        apply: rewrites the turns.
    """

    description: str
    apply: Callable[[Sequence[Message]], list[Message]]


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


def _transcript(turns: Sequence[Message], write: WriteCalls) -> list[Message]:
    """The whole conversation as one user turn, a labelled paragraph for each turn."""
    lines = [
        f"{turn.role.capitalize()}: {turn.content}" if len(turns) > 1 else turn.content
        for turn in _tools_as_text(turns, write)
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


def _tools_as_text(turns: Sequence[Message], write: WriteCalls) -> list[Message]:
    """Write tool calls and their results as text.

    Calls are in the model's form if ``write`` can write it, else in the common format.
    """
    written: list[Message] = []
    for turn in turns:
        if turn.role == "tool":
            result = f"<tool_response>\n{turn.content}\n</tool_response>"
            written.append(Message("user", result))
        elif turn.tool_calls:
            native = write([(call.name, call.arguments) for call in turn.tool_calls])
            calls = (
                [write_call(call.name, call.arguments) for call in turn.tool_calls]
                if native is None
                else [native]
            )
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


def _answered(turns: Sequence[Message]) -> list[Message]:
    """Add an empty answer where a user turn follows the result of a tool."""
    answered: list[Message] = []
    for turn in turns:
        if turn.role == "user" and answered and answered[-1].role == "tool":
            answered.append(Message("assistant", ""))
        answered.append(turn)
    return answered


_MERGED = Repair("joins neighbouring messages of one role", _merged)
_SYSTEM_IN_USER = Repair("moves system messages into user messages", _system_in_user)
_LATER_SYSTEM_IN_USER = Repair(
    "moves later system messages into user messages", _later_system_in_user
)
_TEXT_BEFORE_CALLS = Repair(
    "separates the text of a message from its tool calls", _text_before_calls
)
_SINGLE_CALLS = Repair("gives each tool call a message of its own", _single_calls)
_USER_FIRST = Repair("adds a user message before the first answer", _user_first)
_ANSWERED = Repair(
    "adds an empty answer between a tool's result and the next user message", _answered
)


def repairs(write: WriteCalls) -> tuple[tuple[Repair, ...], ...]:
    """Combinations of repairs, in the order in which they are tried.

    Args:
        write: writes calls in the model's form.
    """
    as_text = Repair(
        "writes tool calls and results as text", lambda turns: _tools_as_text(turns, write)
    )
    transcript = Repair(
        "writes the whole conversation as one user message",
        lambda turns: _transcript(turns, write),
    )
    return (
        (),
        (_TEXT_BEFORE_CALLS,),
        (_SINGLE_CALLS,),
        (_TEXT_BEFORE_CALLS, _SINGLE_CALLS),
        (_MERGED,),
        (_LATER_SYSTEM_IN_USER,),
        (_LATER_SYSTEM_IN_USER, _MERGED),
        (_SYSTEM_IN_USER,),
        (_SYSTEM_IN_USER, _MERGED),
        (_ANSWERED,),
        (_ANSWERED, _SINGLE_CALLS),
        (_LATER_SYSTEM_IN_USER, _ANSWERED, _MERGED),
        (_SYSTEM_IN_USER, _ANSWERED, _MERGED),
        (as_text,),
        (as_text, _MERGED),
        (as_text, _LATER_SYSTEM_IN_USER, _MERGED),
        (as_text, _SYSTEM_IN_USER, _MERGED),
        (_USER_FIRST,),
        (_MERGED, _USER_FIRST),
        (as_text, _SYSTEM_IN_USER, _MERGED, _USER_FIRST),
        (transcript,),
    )
