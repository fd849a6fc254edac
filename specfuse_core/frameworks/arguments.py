"""Converts the fields of a framework's model and the arguments of a call to the engine's options.

It refuses unknown names. This module runs nothing and knows no framework.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from specfuse_core.config import FusionConfig, ModelConfig, SamplingParams, unknown_option
from specfuse_core.frameworks.foreign import translated
from specfuse_core.frameworks.providers import choice_of, constraint_of
from specfuse_core.grammar.tools import Tool

__all__ = ["KNOBS", "SAMPLING", "check_call", "check_fields", "given", "request_options"]

#: Options of the fusion algorithm, and of the sampling of drafts.
KNOBS = tuple(FusionConfig.model_fields)
SAMPLING = tuple(SamplingParams.model_fields)

#: Arguments of a call that are not fields of the model.
_ONLY_CALL = (
    "constraint",
    "parallel_tool_calls",
    "response_format",
    "tool_choice",
    "tools",
)
#: Options of a request that have the same name here.
_REQUEST = (
    "chat_template_kwargs",
    "context_window",
    "max_call_tokens",
    "on_limit",
    "reasoning",
    "strict_schema",
)
#: Arguments of a call that replace fields of the model.
_CALL = (
    *KNOBS,
    *SAMPLING,
    *_REQUEST,
    "max_tokens",
    "model",
    "schema_in_prompt",
    "stop",
    "timeout",
)

#: How options are set in both integrations, for errors.
_FORMS = {
    **{
        name: f"ModelConfig({name}=...) in models=[...]"
        for name in ModelConfig.model_fields
        if name not in ("path", "context_window", "chat_template_kwargs")
    },
    **{name: f"{name}=... in a call" for name in _ONLY_CALL},
    "engine": "engine=FusionEngine.from_models([(model, tokenizer), ...])",
    "max_new_tokens": "'max_tokens'",
    "path": "models=[...]",
}
_CALL_FORMS = {
    **{name: form for name, form in _FORMS.items() if name not in _ONLY_CALL},
    **{
        name: f"{name}=... when you make the model"
        for name in ("drafters", "parallel", "verifiers")
    },
    "path": "'model'",
}


def check_fields(owner: str, data: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return ``data`` with the names of this package, without options that change nothing.

    Raises:
        UnknownOptionError: if any other name is not ``known``.
        InvalidOptionError: if two values contradict each other.
    """
    fields = translated(data, known)
    for name in fields:
        if name not in known:
            raise unknown_option(owner, name, known, _FORMS)
    return fields


def check_call(
    owner: str,
    options: Mapping[str, Any],
    ignored: Collection[str] = (),
    fields: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the arguments of a call, as :func:`check_fields` does.

    Args:
        owner: the class that was called.
        options: the arguments.
        ignored: names that the framework passes on for its own use.
        fields: the fields that the arguments replace.

    Raises:
        UnknownOptionError: if a name is unknown. The error says what to use instead.
        InvalidOptionError: if two values contradict each other.
    """
    known = (*_CALL, *_ONLY_CALL)
    call = translated(options, known, sampled=bool(fields.get("temperature")))
    for name in call:
        if name not in known and name not in ignored:
            raise unknown_option(f"a call of {owner}", name, known, _CALL_FORMS)
    return call


def given(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the ``values`` of those ``names`` that are set."""
    return {name: values[name] for name in names if values.get(name) is not None}


def request_options(
    values: Mapping[str, Any], stop: Iterable[str] | str | None, tools: Sequence[Tool]
) -> dict[str, Any]:
    """Return the options of one request for ``FusionEngine.stream``.

    Args:
        values: the fields of the model and the arguments of the call.
        stop: strings that end the answer.
        tools: the tools that the answer may call.
    """
    options = given(values, SAMPLING)
    if values.get("max_tokens") is not None:
        options["max_new_tokens"] = values["max_tokens"]
    options |= given(values, _REQUEST)
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
