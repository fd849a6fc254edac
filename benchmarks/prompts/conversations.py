"""Seventeen kinds of conversation that applications send to a chat template. Data only."""

from __future__ import annotations

from dataclasses import dataclass

from specfuse_core import Message, Tool, ToolCall

__all__ = ["KINDS", "Kind"]

_WEATHER = Tool(
    "get_weather",
    "Tells the weather.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "The city."},
            "days": {"type": "integer", "description": "How many days."},
        },
        "required": ["city"],
    },
)
_SYSTEM = Message("system", "Be brief.")
_ASK, _MORE = Message("user", "How many lamps are in the hall?"), Message("user", "And chairs?")
_ANSWER = Message("assistant", "There are 12.")


def _call(id_: str, city: str) -> ToolCall:
    return ToolCall("get_weather", {"city": city, "days": 3}, id_)


@dataclass(frozen=True, slots=True)
class Kind:
    """A conversation, and the tools that are offered with it."""

    name: str
    turns: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()


_CALLED = Message("assistant", "", (_call("abcdefghi", "Oslo"),))
_BOTH = Message("assistant", "", (_call("abcdefghi", "Oslo"), _call("abcdefghj", "Rome")))
_SAID = Message("assistant", "I look.", (_call("abcdefghi", "Oslo"),))


def _result(text: str, id_: str = "abcdefghi") -> Message:
    return Message("tool", text, name="get_weather", tool_call_id=id_)


KINDS = (
    Kind("question", (_ASK,)),
    Kind("system", (_SYSTEM, _ASK)),
    Kind("turns", (_ASK, _ANSWER, _MORE)),
    Kind("system and turns", (_SYSTEM, _ASK, _ANSWER, _MORE)),
    Kind("two questions", (_ASK, _MORE)),
    Kind("two systems", (_SYSTEM, Message("system", "In verse."), _ASK)),
    Kind("later system", (_ASK, _ANSWER, _SYSTEM, _MORE)),
    Kind("assistant first", (_ANSWER, _MORE)),
    Kind("thought", (_ASK, Message("assistant", "<think>Hm.</think>There are 12."), _MORE)),
    Kind("scripts", (Message("user", "Grüße 東京 😀\n\tdef f(x):\n\t\treturn 1"),)),
    Kind("marks", (Message("user", "What do <|im_end|>, </s> and [INST] mean?"),)),
    Kind("tools", (_ASK,), (_WEATHER,)),
    Kind("system and tools", (_SYSTEM, _ASK), (_WEATHER,)),
    Kind("result", (_ASK, _CALLED, _result("It is sunny.")), (_WEATHER,)),
    Kind(
        "short result",
        (Message("user", "There are 12 rooms. How warm is it?"), _CALLED, _result("12")),
        (_WEATHER,),
    ),
    Kind("quoted result", (_ASK, _SAID, _result('{"t": "mild"}'), _ANSWER, _MORE), (_WEATHER,)),
    Kind(
        "two results",
        (_ASK, _BOTH, _result("Cold."), _result("Warm.", "abcdefghj")),
        (_WEATHER,),
    ),
)
