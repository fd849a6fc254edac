"""A script for ``ScriptedBackend`` that behaves like a competent chat model.

It calls the required or the only suitable tool with values from the question, answers from the
result of a tool, and fills in schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from specfuse_core import JsonObject, JsonSchema, Request, Tool
from specfuse_core.grammar.calls import write_call

__all__ = ["competent"]


def competent(request: Request, response: str) -> str:
    """Return the rest of the answer."""
    whole = _answer(request)
    return whole[len(response) :] if whole.startswith(response) else ""


def _answer(request: Request) -> str:
    question = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
    last = request.messages[-1]
    forced = request.tool_choice not in ("auto", "none")
    if request.calls and (forced or last.role != "tool"):
        tool = _chosen(request, question)
        if tool is not None:
            return write_call(tool.name, _value(tool.parameters, tool.parameters, question))
    if isinstance(request.constraint, JsonSchema):
        schema = request.constraint.schema
        return json.dumps(_value(schema, schema, question), ensure_ascii=False)
    if isinstance(request.constraint, JsonObject):
        return json.dumps({"setup": "Why?", "punchline": "Because."})
    if last.role == "tool":
        return f"It says: {last.content or 'nothing'}"
    return "Well, here is an answer of some words."


def _chosen(request: Request, question: str) -> Tool | None:
    if request.tool_choice not in ("auto", "required"):
        return next(tool for tool in request.tools if tool.name == request.tool_choice)
    words = set(re.findall(r"[a-z]+", question.lower()))
    for tool in request.tools:
        if words & set(re.findall(r"[a-z]+", tool.name.lower().replace("_", " "))) - {"get"}:
            return tool
    return request.tools[0] if request.tool_choice == "required" else None


def _value(schema: Any, root: Any, question: str) -> Any:
    if not isinstance(schema, Mapping):
        return "anything"
    if "$ref" in schema:
        return _value(root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root, question)
    for options in ("enum", "anyOf", "oneOf", "allOf"):
        if options in schema:
            first = schema[options][0]
            return first if options == "enum" else _value(first, root, question)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if kind == "object":
        inner = schema.get("properties", {})
        return {name: _value(each, root, question) for name, each in inner.items()}
    if kind == "array":
        return [_value(schema.get("items"), root, question)]
    if kind in ("integer", "number"):
        number = re.search(r"-?\d+", question)
        return int(number[0]) if number else 1
    if kind == "boolean":
        return True
    quoted = re.search(r"['\"](.+?)['\"]", question)
    return quoted[1] if quoted else " ".join(question.rstrip("?.! ").split()[-2:]) or "so"
