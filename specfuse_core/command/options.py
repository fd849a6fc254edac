"""The options of the commands, and the configuration and request that they make.

This module knows nothing about engines or screens. An option that is not given is not passed on;
the defaults are those of ``config`` and ``request``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from specfuse_core.answer.follower import follow
from specfuse_core.answer.limits import DEFAULT_TOKENS
from specfuse_core.config import FusionConfig, ModelConfig, SamplingParams, ScoreMode
from specfuse_core.errors import InvalidConstraintError, InvalidOptionError, RequestError
from specfuse_core.grammar.constraints import Choice, Constraint, JsonSchema, Regex
from specfuse_core.request import OnLimit, Request

__all__ = [
    "clean",
    "constraint",
    "fusion_config",
    "named_models",
    "piped_text",
    "read_text",
    "read_texts",
    "request_options",
    "with_context",
]

_KNOBS, _DRAWN = FusionConfig.model_fields, SamplingParams.model_fields

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="A hub id or a directory, of a model or an adapter, or a GGUF file. May be repeated. "
        "Default: the bundled models.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where the named models run: cpu, cuda, cuda:1 (default: a GPU if there is one).",
    ),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"] | None,
    typer.Option(help="Number format of the named models (default auto: the format of the files)."),
]
DeviceMap = Annotated[
    str | None,
    typer.Option(
        "--device-map",
        metavar="NAME",
        help="How weights are spread over devices: auto, balanced, sequential (needs accelerate).",
    ),
]
Parallel = Annotated[
    bool, typer.Option("--parallel/--no-parallel", help="Run each model in a thread of its own.")
]
Method = Annotated[
    Literal["specem", "specfuse"] | None,
    typer.Option(help=f"Preset of the fusion algorithm (default {_KNOBS['method'].default})."),
]
System = Annotated[str, typer.Option(metavar="TEXT", help="A system message.")]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Maximum number of tokens of the answer, counted with the tokenizer of the first "
        f"model (default {DEFAULT_TOKENS}, if they fit the context window).",
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="Sampling temperature; 0 is greedy decoding "
        f"(default {_DRAWN['temperature'].default:g}).",
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Sample from the most probable tokens whose probabilities add up to P "
        f"(default {_DRAWN['top_p'].default:g}).",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Seed of the sampling (default: random). The same seed repeats an answer."
    ),
]
SegmentTokens = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help=f"Tokens that a model drafts per round (default {_KNOBS['segment_tokens'].default}).",
    ),
]
Score = Annotated[
    ScoreMode | None,
    typer.Option(
        help="How drafts are scored: by mean probability, logit or log-probability (default: as "
        "--method sets it)."
    ),
]
Stop = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="A text that ends the answer. May be repeated."),
]
WhenCut = Annotated[
    OnLimit | None,
    typer.Option(
        "--on-limit",
        help="What happens if a limit cuts an answer of --schema, --choice or --regex. It is "
        "completed in any case. The exit code is 1 for error (default) and 0 for close.",
    ),
]
NoExit = Annotated[
    bool, typer.Option("--no-exit", help="Do not let models leave before the answer ends.")
]
Files = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="A text file to put before the question. May be repeated."),
]
Schema = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A file with a JSON schema for the answer."),
]
Choices = Annotated[
    list[str] | None,
    typer.Option("--choice", metavar="TEXT", help="A possible answer. May be repeated."),
]
Pattern = Annotated[
    str | None,
    typer.Option("--regex", metavar="PATTERN", help="A regular expression for the whole answer."),
]
ShowTrace = Annotated[
    bool, typer.Option("--trace", help="Show every round, and its costs, after the answer.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")]


def named_models(
    names: Sequence[str] | None,
    device: str | None,
    dtype: str | None,
    device_map: str | None,
) -> list[ModelConfig]:
    """The named models and how to load them; an empty list for the bundled models.

    Raises:
        InvalidOptionError: for an empty name, or for options of loading without a name.
    """
    how = _given(device=device, dtype=dtype, device_map=device_map)
    if how and not names:
        options = " and ".join(f"--{option.replace('_', '-')}" for option in how)
        raise InvalidOptionError(
            f"{options} can only be used with models that you name; the bundled models run on the "
            "CPU as they are."
        )
    return [ModelConfig(path=name, **how) for name in names or ()]


def fusion_config(
    method: str | None, segment_tokens: int | None, score_mode: str | None, no_exit: bool
) -> FusionConfig:
    """The options of the algorithm that were given, over the preset.

    Raises:
        InvalidOptionError: for a bad value.
    """
    exits = False if no_exit else None
    knobs = _given(
        method=method, segment_tokens=segment_tokens, score_mode=score_mode, model_exit=exits
    )
    return FusionConfig(**knobs)


def constraint(
    schema: Path | None, choices: Sequence[str] | None, regex: str | None
) -> Constraint | None:
    """The constraint on the answer, if one was given.

    Raises:
        InvalidOptionError: for more than one of them, an empty choice, or a file that is not JSON.
        InvalidConstraintError: for a constraint that no answer can follow.
        RequestError: for a file that cannot be read.
    """
    given = _given(schema=schema, choice=choices or None, regex=regex)
    if len(given) > 1:
        names = " and ".join(f"--{name}" for name in given)
        raise InvalidOptionError(f"{names} were given together; give only one of them.")
    made: Constraint | None = None
    if schema is not None:
        try:
            made = JsonSchema(json.loads(read_text("--schema", schema)))
        except json.JSONDecodeError as error:
            raise InvalidOptionError(
                f"--schema {schema} is not JSON ({error}); give a file with a JSON schema."
            ) from error
        except RecursionError as error:
            raise InvalidConstraintError(
                f"--schema {schema} has too many levels within each other; use fewer."
            ) from error
    elif choices:
        if not all(choices):
            raise InvalidOptionError("--choice must not be empty.")
        made = Choice([clean(choice) for choice in choices])
    elif regex is not None:
        made = Regex(regex)
    try:
        follow(Request.of("?", constraint=made))
    except InvalidConstraintError as error:
        raise InvalidConstraintError(f"--{next(iter(given))}: {error}") from None
    return made


def request_options(
    max_tokens: int | None,
    stop: Sequence[str] | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
) -> dict[str, Any]:
    """Checked options for ``Request.of``.

    Raises:
        InvalidOptionError: for a bad value.
    """
    if not all(stop or ()):
        raise InvalidOptionError("--stop must not be empty.")
    options = {
        **_given(max_new_tokens=max_tokens),
        "stop": tuple(map(clean, stop or ())),
        "sampling": SamplingParams(**_given(temperature=temperature, top_p=top_p, seed=seed)),
    }
    Request.of("?", **options)
    return options


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def read_text(option: str, path: Path) -> str:
    """The text of a file, without the empty lines around it.

    Args:
        option: the option that names the file, for errors.
        path: the file.

    Raises:
        RequestError: if the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig").strip("\n")
    except OSError as error:
        raise RequestError(f"{option} {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise RequestError(f"{option} {path} is not UTF-8 text; convert it first.") from None


def read_texts(files: Sequence[Path] | None) -> list[str]:
    """The texts of the files that ``--file`` names. Errors are those of :func:`read_text`."""
    return [read_text("--file", path) for path in files or ()]


def piped_text() -> str:
    """Return standard input; nothing if it is a terminal.

    Raises:
        RequestError: if it is not UTF-8.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").strip("\n")
    except UnicodeDecodeError:
        raise RequestError("standard input is not UTF-8 text; convert it first.") from None


def with_context(context: str, question: str) -> str:
    """Return the question after its context."""
    return f"{context}\n\n{question}" if context else question


def clean(text: str) -> str:
    """Return an argument as text that can be encoded, also if its bytes were not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
