"""What a user sets on a chat model or passes to a call -> the engine's knobs and request options.

Names that nobody knows are refused with the nearest one; this module runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from langchain_specfuse._tools import choice_of, constraint_of, tools_of
from specfuse_core import FusionConfig, SamplingParams
from specfuse_core.config import unknown_option

__all__ = ["KNOBS", "SAMPLING", "check_call", "check_fields", "given", "request_options"]

#: Fields of the chat model that are the engine's knobs, and those that say how drafts are drawn.
KNOBS = tuple(FusionConfig.model_fields)
SAMPLING = tuple(SamplingParams.model_fields)

#: What applications pass to hosted models; it means nothing here, and harms nothing.
_HOSTED = {"api_key", "max_retries"}
#: What a call may be told beside the fields of the chat model.
_CALL = (
    "constraint",
    "max_tokens",
    "model",
    "parallel_tool_calls",
    "response_format",
    "timeout",
    "tool_choice",
    "tools",
)
#: What core passes through to the model for its own use.
_CORE = {"stream", "strict"}


def check_fields(data: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """``data`` without what only hosted models need.

    Raises:
        UnknownOptionError: for a name that is neither ``known`` nor of that kind.
    """
    names = list(known)
    for name in data:
        if name not in names and name not in _HOSTED:
            raise unknown_option("ChatSpecFuse", name, names)
    return {name: value for name, value in data.items() if name not in _HOSTED}


def check_call(options: Mapping[str, Any]) -> None:
    """Refuse an argument of a call that nobody knows.

    Raises:
        UnknownOptionError: naming the nearest known one.
    """
    known = sorted({*_CALL, *KNOBS, *SAMPLING})
    for name in options:
        if name not in known and name not in _CORE | _HOSTED:
            raise unknown_option("a call of ChatSpecFuse", name, known)


def given(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of ``names`` that have a value."""
    return {name: values[name] for name in names if values.get(name) is not None}


def request_options(values: Mapping[str, Any], stop: Iterable[str] | str | None) -> dict[str, Any]:
    """Options of one request, as ``FusionEngine.stream`` takes them.

    Args:
        values: fields of the chat model, replaced by what the call says.
        stop: strings that end the answer.
    """
    options = given(values, SAMPLING)
    if values.get("max_tokens") is not None:
        options["max_new_tokens"] = values["max_tokens"]
    if stop:
        options["stop"] = stop
    constraint = values.get("constraint") or constraint_of(values.get("response_format"))
    if constraint is not None:
        options["constraint"] = constraint
    tools = tools_of(values.get("tools") or ())
    choice = choice_of(values.get("tool_choice"), tools)
    if tools:
        options |= {"tools": tools, "tool_choice": choice}
        if values.get("parallel_tool_calls") is not None:
            options["parallel_tool_calls"] = bool(values["parallel_tool_calls"])
    return options
