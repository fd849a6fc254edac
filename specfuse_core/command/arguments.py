"""Finds the command that arguments are for, and explains wrong arguments.

This module knows the shape of the command line. It does not know what the commands do.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from specfuse_core.config import FusionConfig, ModelConfig, SamplingParams
from specfuse_core.config.options import hint_for, problem_of
from specfuse_core.errors import UnknownOptionError

__all__ = ["misuse", "option_of", "spelled_out"]

#: Options of the engine that have another name on the command line.
_OPTIONS = {
    "constraint": "--schema",
    "max_new_tokens": "--max-tokens",
    "model_exit": "--no-exit",
    "path": "--model",
}
#: How the parser says that a value has the wrong type.
_REFUSED = re.compile(r"(?P<value>'.*') is not (?P<kind>an? valid .+)")
#: The least similarity, from 0 to 1, of a mistyped command and the command.
_SIMILAR = 0.8
#: What people type for a command that has another name here.
_OTHER_NAMES = dict.fromkeys(
    ("doctor", "download", "info", "inspect", "list", "ls", "model", "models", "pull", "show"),
    "check",
)


def spelled_out(arguments: Sequence[str], group: Any) -> list[str]:
    """Return the arguments with the command first. The default command is ``run``.

    Options may come before the command or the question, so only the first argument that is neither
    an option nor the value of one can name a command.

    Args:
        arguments: as the user typed them.
        group: the command line's group of commands.

    Raises:
        UnknownOptionError: if that argument looks like a mistyped command. A word in a longer
            sentence does not.
    """
    if not arguments or arguments[0] in _own_options(group):
        return list(arguments)
    valued = {
        name
        for command in group.commands.values()
        for option in command.params
        if not getattr(option, "is_flag", True)
        for name in option.opts
    }
    words = _words(arguments, valued)
    at = words[0] if words else len(arguments)
    # What follows two dashes is the question.
    if words and "--" not in arguments[:at]:
        if arguments[at] in group.commands:
            return [arguments[at], *arguments[:at], *arguments[at + 1 :]]
        _check_command([arguments[word] for word in words], group)
    return ["run", *arguments]


def _own_options(group: Any) -> list[str]:
    """Return the options of ``specfuse`` itself, which come before any command."""
    return ["--help", *(name for option in group.params for name in option.opts)]


def _words(arguments: Sequence[str], valued: set[str]) -> list[int]:
    """Return the positions of the arguments that are neither options nor values of options."""
    found: list[int] = []
    at = 0
    while at < len(arguments):
        if arguments[at] == "--":
            return [*found, *range(at + 1, len(arguments))]
        if arguments[at].startswith("-"):
            at += 2 if arguments[at] in valued else 1
        else:
            found.append(at)
            at += 1
    return found


def _check_command(words: Sequence[str], group: Any) -> None:
    # A question that is typed without quotes has more words, and one with quotes has spaces. Names
    # of models have neither.
    named = all(re.fullmatch(r"[\w.~\\-]*/\S+", word) for word in words[1:])
    if not (len(words) <= 2 or named) or not re.fullmatch(r"[a-z-]+", words[0]):
        return
    meant = {name: name for name in group.commands}
    if len(words) == 1:
        # Other programs have commands for their own options, for example `help`.
        meant |= {name.lstrip("-"): name for name in _own_options(group)}
    near = difflib.get_close_matches(words[0], meant, n=1, cutoff=_SIMILAR)
    command = meant[near[0]] if near else _OTHER_NAMES.get(words[0]) if named else None
    if command is not None:
        raise UnknownOptionError(
            f"there is no command {words[0]!r}; did you mean 'specfuse {command}'? To ask it as a "
            f"question, write: specfuse run {shlex.quote(' '.join(words))}."
        )


def misuse(error: Any) -> str:
    """Return one line about arguments that the parser cannot read.

    Args:
        error: the parser's error.
    """
    command = error.ctx.command_path if error.ctx else "specfuse run"
    help_ = f"{command} --help lists the options."
    if hasattr(error, "possibilities"):
        params = error.ctx.command.params
        hint = hint_for(
            error.option_name, [name for p in params for name in p.opts], _forms(params)
        )
        return f"{command} has no option {error.option_name!r}; {hint or help_}"
    param = getattr(error, "param", None)
    if param is None:
        message = error.format_message().rstrip(".")
        return f"{message[:1].lower()}{message[1:]}; {help_}"
    if isinstance(error.__cause__, ValidationError):
        return f"{param.opts[0]} {problem_of(error.__cause__.errors())}"
    message = error.message.rstrip(".")
    # Older releases of typer convert numbers without pydantic.
    if refused := _REFUSED.fullmatch(message):
        return f"{param.opts[0]} must be {refused['kind']}, got {refused['value']}."
    return f"{param.opts[0]} is not valid: {message}."


def _forms(params: Sequence[Any]) -> dict[str, str]:
    """Return how each option of the engine is set for a command with these parameters."""
    python = {
        name: f"{cls.__name__}({name}=...) in Python"
        for cls in (FusionConfig, ModelConfig, SamplingParams)
        for name in cls.model_fields
    }
    typed = {param.name: param.opts[0] for param in params if param.opts[0].startswith("-")}
    return {**python, **typed, **_OPTIONS}


def option_of(name: str) -> str:
    """Return the command line's name of an option of the engine."""
    return _OPTIONS.get(name) or f"--{name.replace('_', '-')}"
