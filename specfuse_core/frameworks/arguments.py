"""What a user sets on a framework's model or passes to a call -> knobs and request options.

Names that nobody knows are refused with the nearest one; this module runs nothing, and knows no
framework.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from specfuse_core.config import FusionConfig, SamplingParams, unknown_option
from specfuse_core.frameworks.providers import choice_of, constraint_of
from specfuse_core.grammar.tools import Tool

__all__ = ["KNOBS", "SAMPLING", "check_call", "check_fields", "given", "request_options"]

#: Names of the engine's knobs, and of the options that say how drafts are drawn.
KNOBS = tuple(FusionConfig.model_fields)
SAMPLING = tuple(SamplingParams.model_fields)

#: What applications pass to hosted models; it means nothing here, and harms nothing.
_HOSTED = {"api_key", "max_retries"}
#: What a call may be told beside the fields of the model.
_CALL = (
    "constraint",
    "max_tokens",
    "model",
    "parallel_tool_calls",
    "response_format",
    "stop",
    "timeout",
    "tool_choice",
    "tools",
)


def check_fields(owner: str, data: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """``data`` without what only hosted models need.

    Raises:
        UnknownOptionError: for a name that is neither ``known`` nor of that kind.
    """
    names = list(known)
    for name in data:
        if name not in names and name not in _HOSTED:
            raise unknown_option(owner, name, names)
    return {name: value for name, value in data.items() if name not in _HOSTED}


def check_call(owner: str, options: Mapping[str, Any], ignored: Collection[str] = ()) -> None:
    """Refuse an argument of a call that nobody knows.

    Args:
        owner: what was called.
        options: its arguments.
        ignored: names that the framework passes through for its own use.

    Raises:
        UnknownOptionError: naming the nearest known one.
    """
    known = sorted({*_CALL, *KNOBS, *SAMPLING})
    for name in options:
        if name not in known and name not in _HOSTED and name not in ignored:
            raise unknown_option(f"a call of {owner}", name, known)


def given(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of ``names`` that have a value."""
    return {name: values[name] for name in names if values.get(name) is not None}


def request_options(
    values: Mapping[str, Any], stop: Iterable[str] | str | None, tools: Sequence[Tool]
) -> dict[str, Any]:
    """Options of one request, as ``FusionEngine.stream`` takes them.

    Args:
        values: fields of the model, replaced by what the call says.
        stop: strings that end the answer.
        tools: what the answer may call.
    """
    options = given(values, SAMPLING)
    if values.get("max_tokens") is not None:
        options["max_new_tokens"] = values["max_tokens"]
    if stop:
        options["stop"] = stop
    constraint = values.get("constraint") or constraint_of(values.get("response_format"))
    if constraint is not None:
        options["constraint"] = constraint
    choice = choice_of(values.get("tool_choice"), tools)
    if tools:
        options |= {"tools": tuple(tools), "tool_choice": choice}
        if values.get("parallel_tool_calls") is not None:
            options["parallel_tool_calls"] = bool(values["parallel_tool_calls"])
    return options
