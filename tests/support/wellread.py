"""A script for ``ScriptedBackend`` that behaves like a model that knows LlamaIndex's prompts.

It reads facts about lamps and people from the prompt, orders lamps, fills in schemas, and answers
the prompts of ReAct, CodeAct, question generators, evaluators and extractors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from specfuse_core import JsonSchema, Request, Tool
from specfuse_core.grammar.calls import write_call

__all__ = ["well_read"]

#: (text of a prompt, answer); the first one whose text occurs is used.
_ROUTINE = (
    ("output a single score", "5.0\nIt is right."),
    ("Output a single score", "5.0\nIt is right."),
    ("act as an impartial judge", "The first one knows. [[A]]"),
    ("constructive criticism", '{"passing": true, "feedback": "It is specific."}'),
    ("YES or NO", "YES"),
    ("Answer - YES", "YES"),
    ("unique keywords", "lamps, hall, attic"),
    ("Title: ", "Lamps in a house"),
    ("Summary: ", "Lamps, and where people live."),
    ("questions this context can provide", "How many lamps are there?"),
)


def well_read(request: Request, response: str) -> str:
    """Return the rest of the answer."""
    whole = _answer(request)
    return whole[len(response) :] if whole.startswith(response) else ""


def _answer(request: Request) -> str:
    said = "\n".join(message.content for message in request.messages)
    last = request.messages[-1]
    asked = next((m.content for m in reversed(request.messages) if m.role == "user"), said)
    if request.calls:
        forced = request.tool_choice not in ("auto", "none")
        if forced or last.role != "tool" or "handling the request" in last.content:
            tool = _chosen(request, asked)
            if tool is not None:
                return write_call(tool.name, _value(tool.parameters, tool.parameters, said, asked))
    if isinstance(request.constraint, JsonSchema):
        schema = request.constraint.schema
        return json.dumps(_value(schema, schema, said, asked), ensure_ascii=False)
    if last.role == "tool":
        return f"It says: {last.content}"
    if "Action Input:" in said:
        return _react(asked)
    if "<execute>" in said:
        return _code(last.content)
    if follow_up := re.search(r"Follow Up (?:Message>\s*|Input: )(.+)", asked):
        return follow_up[1]
    if "relevant sub-questions" in said:
        return f"```json\n{json.dumps({'items': _ITEMS})}\n```"
    for mark, answer in _ROUTINE:
        if mark in said:
            return answer
    existing = re.search(r"existing answer: (.+)", asked)
    found = _read(said, asked)
    return existing[1] if existing and found == _SILENT else found


_ITEMS = [
    {"sub_question": f"How many lamps are in the {room}?", "tool_name": "lamps"}
    for room in ("hall", "attic")
]
_SILENT = "The context does not say."


def _react(asked: str) -> str:
    seen = re.search(r"Observation: .*?(\d+)", asked)
    if seen:
        return f"Thought: I can answer without using any more tools.\nAnswer: It costs {seen[1]}."
    # Like real models, it continues with an invented observation.
    return (
        "Thought: I need to order.\nAction: order_lamps\nAction Input: "
        f'{{"quantity": {_number(asked)}}}\nObservation: {{"price": 99}}\n'
    )


def _code(last: str) -> str:
    printed = re.search(r'"price": (\d+)', last)
    if printed:
        return f"It costs {printed[1]}."
    return f"I write code.\n<execute>\nprint(order_lamps({_number(last)}))\n</execute>"


def _number(text: str) -> int:
    number = re.search(r"order (\d+)", text)
    return int(number[1]) if number else 1


def _chosen(request: Request, asked: str) -> Tool | None:
    if request.tool_choice not in ("auto", "required"):
        return next(tool for tool in request.tools if tool.name == request.tool_choice)
    orders = "order" in asked
    for tool in request.tools:
        if tool.name == "order_lamps" and orders:
            return tool
    return request.tools[0] if request.tool_choice == "required" or orders else None


def _read(said: str, asked: str) -> str:
    """Answer the last question from the conversation, or state that it has no answer."""
    lamps = dict(re.findall(r"The (\w+) has (\d+) lamps", said))
    homes = dict(re.findall(r"(\w+) lives in (\w+)", said))
    total = re.findall(r"How many lamps are in the (\w+) and the (\w+)", asked)
    if total and all(room in lamps for room in total[-1]):
        first, second = (int(lamps[room]) for room in total[-1])
        return f"{first} + {second} = {first + second}. The answer is {first + second}."
    questions = re.findall(r"How many lamps are in the (\w+)|Where does (\w+) live", asked)
    room, person = questions[-1] if questions else ("", "")
    if room in lamps and not total:
        return f"The {room} has {lamps[room]} lamps."
    if person in homes:
        return f"{person} lives in {homes[person]}."
    return _SILENT


def _value(schema: Any, root: Any, said: str, asked: str, name: str = "") -> Any:
    if not isinstance(schema, Mapping):
        return "anything"
    if "$ref" in schema:
        inner = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
        return _value(inner, root, said, asked, name)
    if "anyOf" in schema:
        return _value(schema["anyOf"][0], root, said, asked, name)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if kind == "object":
        inner = schema.get("properties", {})
        return {key: _value(each, root, said, asked, key) for key, each in inner.items()}
    if kind == "array":
        return [_value(schema.get("items"), root, said, asked)]
    if kind == "boolean":
        return _read(said, asked) != _SILENT
    if kind in ("integer", "number"):
        return _quantity(name, said, asked)
    return _word(name, said, asked)


def _quantity(name: str, said: str, asked: str) -> int:
    if name == "index":
        # The number of the choice about lamps.
        return next(int(n) for n, text in re.findall(r"\((\d+)\) (.+)", said) if "lamps" in text)
    if name == "age" and (age := re.search(r"(\d+) years old", said)):
        return int(age[1])
    if "as many" in asked:
        return int(re.findall(r"\d+", _read(said, asked))[-1])
    return _number(asked)


def _word(name: str, said: str, asked: str) -> str:
    patterns = {
        "name": r"(\w+) is \d+ years old",
        "city": r"lives in (\w+)",
        "kind": r"'(\w+)'",
        "to_agent": r"(clerk)",
    }
    if name in patterns:
        found = re.search(patterns[name], said)
        return found[1] if found else "clerk"
    return _read(said, asked) if name == "answer" else "because"
