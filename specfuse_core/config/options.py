"""The base class of the option sets, and the errors for unknown options and bad values.

Every error says what to use instead or what the value must be. The names of other libraries are in
``synonyms``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from specfuse_core.config.synonyms import counterpart
from specfuse_core.errors import InvalidLimitError, InvalidOptionError, UnknownOptionError
from specfuse_core.values import shown

__all__ = ["Options", "bad_value", "hint_for", "problem_of", "unknown_option"]

_LIMITS = ("greater_than", "greater_than_equal")
#: How like an unknown name a known one must be to be suggested, from 0 to 1.
_SIMILAR = 0.8
#: The longest list of options that an error shows.
_LISTED = 20

_CALL = (
    "max_new_tokens",
    "max_call_tokens",
    "on_limit",
    "context_window",
    "stop",
    "constraint",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
)
_MADE = ("drafters", "verifiers", "parallel", "warm_up", "progress")
#: How the options are set that belong to no class of this module.
_FORMS = {
    **{name: f"{name}=... in generate() or stream()" for name in _CALL},
    **{name: f"FusionEngine.from_pretrained(..., {name}=...)" for name in _MADE},
    "engine": "FusionEngine.from_models([(model, tokenizer), ...])",
    "registry": "specfuse_core.frameworks.registry",
    "system": "a message with the role 'system' at the start of the conversation",
    "timeout": "cancel=Deadline(seconds) in generate() or stream()",
}


def unknown_option(
    owner: str, name: str, known: Collection[str], forms: Mapping[str, str] = MappingProxyType({})
) -> UnknownOptionError:
    """The error for an option ``name`` that ``owner`` does not have. It says what to use instead.

    The other arguments are those of :func:`hint_for`.
    """
    hint = hint_for(name, known, forms)
    if hint is None and len(known) <= _LISTED:
        hint = f"known options: {', '.join(sorted(known))}."
    return UnknownOptionError(f"{owner} has no option {name!r}; {hint or 'see its documentation.'}")


def hint_for(name: str, known: Collection[str], forms: Mapping[str, str]) -> str | None:
    """What to do instead of setting an option that does not exist; None if nothing is like it.

    Args:
        name: the option, as it was written in Python or on a command line.
        known: the options that exist there.
        forms: how options are set there, where that is not by the name in ``known``.
    """

    def form(option: str) -> str:
        return forms.get(option) or (repr(option) if option in known else _set_with(option))

    plain = name.lstrip("-").replace("-", "_")
    hint = counterpart(plain, form)
    if hint is None and (plain in forms or plain in _FORMS or _owner(plain)):
        hint = f"use {form(plain)}"
    if hint is not None:
        return f"{hint}."
    near = difflib.get_close_matches(name, known, n=1, cutoff=_SIMILAR)
    return f"did you mean {near[0]!r}?" if near else None


def _set_with(option: str) -> str:
    """How an option of the core is set in Python."""
    owner = _owner(option)
    return f"{owner.__name__}({option}=...)" if owner else _FORMS[option]


def _owner(option: str) -> type[Options] | None:
    return next((cls for cls in Options.__subclasses__() if option in cls.model_fields), None)


def bad_value(error: ValidationError) -> InvalidOptionError:
    """The error for a value that pydantic refused. It begins with the name of the option."""
    errors = error.errors()
    first = errors[0]
    option = str(first["loc"][0]) if first["loc"] else error.title
    # Each member of a union has an error.
    same = [each for each in errors if each["loc"][:1] == first["loc"][:1]]
    kind = InvalidLimitError if first["type"] in _LIMITS else InvalidOptionError
    return kind.of(option, problem_of(same))


def problem_of(errors: Sequence[ErrorDetails]) -> str:
    """What is wrong with one value, as a sentence that lacks only the name of the option.

    Args:
        errors: pydantic's errors for the value; several if it may be of several types.
    """
    first = errors[0]
    if first["type"] == "missing":
        return "is required."
    wanted = list(dict.fromkeys(filter(None, map(_wanted, errors))))
    if wanted:
        return f"must {' or '.join(wanted)}, got {shown(first['input'])}."
    return f"is not valid: {first['msg'].removeprefix('Value error, ').rstrip('.')}."


def _wanted(error: ErrorDetails) -> str | None:
    """``Input should be a valid integer, unable to parse ...`` -> ``be a valid integer``."""
    if error["type"] == "string_too_short":
        return "not be empty"
    bounds = error.get("ctx", {})
    for name, words in (("ge", "be at least"), ("le", "be at most")):
        if name in bounds:
            return f"{words} {bounds[name]:g}"
    _, should, wanted = error["msg"].partition(" should ")
    return re.sub(r", (unable|got) .*", "", wanted) if should else None


class Options(BaseModel):
    """Base class of the option sets.

    A wrong option raises an error of :mod:`specfuse_core.errors` instead of pydantic's own.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        # The error is the cause of another one, and a value may be secret.
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    def __init__(self, /, **data: Any) -> None:
        known = type(self).model_fields
        for name in data:
            if name not in known:
                raise unknown_option(type(self).__name__, name, known)
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise bad_value(error) from error

    def replace(self, **changes: Any) -> Self:
        """A validated copy with ``changes``. Options that were never set keep their defaults."""
        return type(self)(**{**{k: getattr(self, k) for k in self.model_fields_set}, **changes})
