"""A message of a conversation, and its conversion from OpenAI's format.

OpenAI's format nests calls in ``function`` with the arguments as a JSON string, and allows a list
of parts as content. This module knows nothing of requests or of base models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from specfuse_core.config import unknown_option
from specfuse_core.errors import InvalidMessageError
from specfuse_core.values import check_json, check_text, shown

__all__ = ["THOUGHTS", "Message", "Role", "ToolCall"]

Role = Literal["system", "user", "assistant", "tool"]

#: Roles of OpenAI's form, and what they are here.
_ROLES = {"developer": "system", "function": "tool"}
#: Types of content parts that are text, and the key of the text.
_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
#: Names that servers and chat templates give to the thoughts of an assistant message.
THOUGHTS = ("reasoning", "reasoning_content", "thinking")
#: Keys of OpenAI's answers that a message may repeat if they are empty.
_EMPTY = ("annotations", "audio")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of an assistant message.

    Args:
        name: name of the tool.
        arguments: the parsed arguments.
        id: id of the call, which the message with the tool's result repeats.
        error: why the call must not be run; None if it is complete and valid.
    """

    name: str
    arguments: Mapping[str, Any]
    id: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Args:
        role: ``"system"``, ``"user"``, ``"assistant"`` or ``"tool"``.
        content: text of the message.
        tool_calls: tool calls of an assistant message.
        tool_call_id: id of the call that a tool message answers.
        name: name of the author or of the tool, for chat templates that show it.
        reasoning: thoughts of an assistant message. Chat templates that know thoughts include them,
            most of them only after the last question. Other templates leave them out.

    Raises:
        InvalidMessageError: if the role is unknown, the content is not text, or a call has no
            parsed arguments.
    """

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str = ""

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise InvalidMessageError(
                f"unknown role {shown(self.role)}; use one of: {', '.join(get_args(Role))}."
            )
        for part, text in (("content", self.content), ("reasoning", self.reasoning)):
            if not isinstance(text, str):
                raise InvalidMessageError(
                    f"the {part} of a {self.role} message is {type(text).__name__}, not str; pass "
                    "text (images and other media are not supported)."
                )
            check_text(text, f"the {part} of a {self.role} message", InvalidMessageError)
        for key in ("name", "tool_call_id"):
            value = getattr(self, key)
            if value is None:
                continue
            if not isinstance(value, str):
                raise InvalidMessageError(
                    f"the {key} of a {self.role} message must be a string, got {shown(value)}."
                )
            check_text(value, f"the {key} of a {self.role} message", InvalidMessageError)
        for call in _calls(self.tool_calls):
            if not isinstance(call, ToolCall):
                raise InvalidMessageError(f"a tool call must be a ToolCall, got {shown(call)}.")
            if not isinstance(call.name, str) or not isinstance(call.id, str):
                raise InvalidMessageError(
                    "the name and the id of a tool call must be strings, got "
                    f"{shown(call.name)} and {shown(call.id)}."
                )
            if not isinstance(call.arguments, Mapping):
                raise InvalidMessageError(
                    f"the arguments of {_named(call.name, call.id)} are "
                    f"{type(call.arguments).__name__}, not a mapping; parse them first."
                )
            check_json(
                [call.name, call.id, dict(call.arguments)],
                _named(call.name, call.id),
                InvalidMessageError,
            )

    @classmethod
    def of(cls, message: Message | Mapping[str, Any]) -> Message:
        """Return ``message`` itself, or make one from ``{"role": ..., "content": ...}``.

        The mapping may be in OpenAI's format: calls as ``{"function": {"name": ..., "arguments":
        "{...}"}}``, content as a list of text parts, the roles ``developer`` and ``function``, and
        thoughts as ``reasoning_content``. Message objects of OpenAI's client work too.

        Raises:
            InvalidMessageError: if the value is not a message, or a part of it is not text.
            UnknownOptionError: if the mapping has a key that messages do not have.
        """
        if isinstance(message, Message):
            return message
        given = _mapping(message)
        if given is None or "role" not in given:
            raise InvalidMessageError(
                f"a message must be a Message or a mapping with 'role' and 'content', got "
                f"{shown(message)}."
            )
        given = {key: value for key, value in given.items() if value or key not in _EMPTY}
        role = _role(given.pop("role"))
        calls = _calls(given.pop("tool_calls", None))
        if legacy := given.pop("function_call", None):
            calls.append(legacy)
        thoughts = [given.pop(name, None) for name in THOUGHTS]
        content, refusal = given.pop("content", None), given.pop("refusal", None)
        for key in given:
            if key not in ("tool_call_id", "name"):
                raise unknown_option("Message", str(key), list(cls.__dataclass_fields__))
        return cls(
            role,
            _content(content if content is not None else refusal, role),
            tuple(_tool_call(call) for call in calls),
            reasoning=next(filter(None, thoughts), ""),
            **given,
        )


def _mapping(message: Any) -> dict[str, Any] | None:
    if isinstance(message, Mapping):
        return dict(message)
    # Objects of OpenAI's client are pydantic objects.
    if all(hasattr(message, name) for name in ("role", "tool_calls", "model_dump")):
        return dict(message.model_dump())
    return None


def _role(role: Any) -> Any:
    return _ROLES.get(role, role) if isinstance(role, str) else role


def _content(content: Any, role: Any) -> Any:
    """The text of a message's content, which is a string or a list of parts."""
    if content is None:
        return ""
    if not isinstance(content, list | tuple):
        return content
    return "\n".join(_part(part, role) for part in content)


def _part(part: Any, role: Any) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
    key = _TEXTS.get(kind) if isinstance(kind, str) else None
    if key is None:
        raise InvalidMessageError(
            f"a {role} message has a content part of type {kind!r}, but only text is supported; "
            "describe the content in words or leave it out."
        )
    text = part.get(key)
    if not isinstance(text, str):
        raise InvalidMessageError(
            f"a {role} message has a content part of type {kind!r} whose {key!r} is {text!r}; give "
            "a string or leave it out."
        )
    return text


def _calls(given: Any) -> list[Any]:
    if given is None or isinstance(given, list | tuple):
        return list(given or ())
    raise InvalidMessageError(f"tool_calls must be a list of tool calls, got {shown(given)}.")


def _tool_call(call: Any) -> ToolCall:
    if isinstance(call, ToolCall):
        return call
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not {"name", "arguments"} <= set(function):
        raise InvalidMessageError(
            f"a tool call must be a ToolCall or a mapping with 'name' and 'arguments', got "
            f"{shown(call)}."
        )
    name, id_ = function["name"], call.get("id") or ""
    return ToolCall(name, _arguments(function["arguments"], _named(name, id_)), id_)


def _arguments(arguments: Any, call: str) -> Any:
    if not isinstance(arguments, str):
        return {} if arguments is None else arguments
    if not arguments.strip():
        return {}
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError) as error:
        raise InvalidMessageError(
            f"the arguments of {call} are not valid JSON ({error}), got {shown(arguments)}; pass a "
            "JSON object or a mapping."
        ) from error
    if not isinstance(parsed, Mapping):
        raise InvalidMessageError(
            f"the arguments of {call} must be a JSON object, got {shown(arguments)}."
        )
    return parsed


def _named(name: Any, id_: str) -> str:
    return f"the tool call {shown(name)} ({id_})" if id_ else f"the tool call {shown(name)}"
