"""The ``specfuse`` command: arguments in, exit code out.

This module maps arguments to what runs. ``options`` has the options, ``console`` and ``chat`` show
the answers, and ``reporting`` shows errors. Exit codes: 0; 1 for an error and 2 for a bad option,
each with one line on standard error; 130 after Ctrl-C; 141 if the output is closed.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Annotated, Any, NoReturn

import typer

import specfuse_core
from specfuse_core.answer.limits import ENDED
from specfuse_core.command import options as ask
from specfuse_core.command.arguments import misuse, spelled_out
from specfuse_core.command.chat import Chat, keyboard
from specfuse_core.command.check import as_json, checked, table_of, verdict
from specfuse_core.command.console import Screen, stoppable
from specfuse_core.command.reporting import INTERRUPTED, complain, reported, say
from specfuse_core.config import FusionConfig, ModelConfig
from specfuse_core.errors import (
    EmptyConversationError,
    FusionWarning,
    InvalidOptionError,
    UnknownOptionError,
)
from specfuse_core.fusion import FusionEngine
from specfuse_core.model_report import ModelReport
from specfuse_core.request import Message, Request
from specfuse_core.trace import json_lines
from specfuse_core.types import Generation, Segment

__all__ = ["app", "main"]

#: The error of typer for an option that it cannot read. typer does not export it.
_UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="specfuse",
    help="One chat model made out of several, which write each answer together.\n\n"
    'specfuse "QUESTION" is short for specfuse run "QUESTION".',
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _command(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        typer.echo(f"specfuse {specfuse_core.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def run(
    question: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUESTION", help="The question; without one, it is read from standard input."
        ),
    ] = None,
    model: ask.Models = None,
    device: ask.Device = None,
    dtype: ask.Dtype = None,
    device_map: ask.DeviceMap = None,
    parallel: ask.Parallel = False,
    method: ask.Method = None,
    system: ask.System = "",
    max_tokens: ask.MaxTokens = None,
    temperature: ask.Temperature = None,
    top_p: ask.TopP = None,
    seed: ask.Seed = None,
    segment_tokens: ask.SegmentTokens = None,
    score_mode: ask.Score = None,
    stop: ask.Stop = None,
    no_exit: ask.NoExit = False,
    file: ask.Files = None,
    schema: ask.Schema = None,
    choice: ask.Choices = None,
    regex: ask.Pattern = None,
    on_limit: ask.WhenCut = None,
    json: Annotated[
        bool, typer.Option("--json", help="Write the trace as JSON lines during the answer.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only the answer.")] = False,
    trace: ask.ShowTrace = False,
    debug: ask.Debug = False,
) -> None:
    """Answer one question.

    Text piped to the command is put before the question. Without QUESTION, it is the question.
    """
    with reported(debug):
        if quiet and (json or trace):
            raise InvalidOptionError(
                "--quiet shows only the answer; leave it out, or --json and --trace."
            )
        models = ask.named_models(model, device, dtype, device_map)
        config = ask.fusion_config(method, segment_tokens, score_mode, no_exit)
        limits = ask.request_options(max_tokens, stop, temperature, top_p, seed)
        limits["constraint"] = ask.constraint(schema, choice, regex)
        limits["on_limit"] = on_limit or "error"
        asked, piped = ask.clean(" ".join(question or ())), ask.piped_text()
        if not asked.strip():
            asked, piped = piped, ""
        if not asked.strip():
            raise EmptyConversationError('there is no question; write one: specfuse "..."')
        context = "\n\n".join(filter(None, [*ask.read_texts(file), piped]))
        turns = [Message("system", ask.clean(system))] if system else []
        turns.append(Message("user", ask.with_context(context, asked)))
        request = Request.of(turns, **limits).seeded()
        watched = Screen(sys.stdout).terminal and not (quiet or json)
        engine = make_engine(models, config, parallel=parallel, progress=watched)
        if json:
            raise typer.Exit(_write_json(engine, request))
        raise typer.Exit(_answer(engine, request, summary=watched or trace, trace=trace))


@app.command()
def chat(
    model: ask.Models = None,
    device: ask.Device = None,
    dtype: ask.Dtype = None,
    device_map: ask.DeviceMap = None,
    parallel: ask.Parallel = False,
    method: ask.Method = None,
    system: ask.System = "",
    max_tokens: ask.MaxTokens = None,
    temperature: ask.Temperature = None,
    top_p: ask.TopP = None,
    seed: ask.Seed = None,
    segment_tokens: ask.SegmentTokens = None,
    score_mode: ask.Score = None,
    stop: ask.Stop = None,
    no_exit: ask.NoExit = False,
    file: ask.Files = None,
    trace: ask.ShowTrace = False,
    debug: ask.Debug = False,
) -> None:
    """Chat with the ensemble. /help lists the commands of the chat."""
    with reported(debug):
        models = ask.named_models(model, device, dtype, device_map)
        config = ask.fusion_config(method, segment_tokens, score_mode, no_exit)
        limits = ask.request_options(max_tokens, stop, temperature, top_p, seed)
        context = "\n\n".join(ask.read_texts(file))
        terminal = Screen(sys.stdout).terminal
        engine = make_engine(models, config, parallel=parallel, progress=terminal)
        engine.warm_up()
        screen = Screen(sys.stdout, engine.models)
        if screen.terminal:
            screen.legend()
            screen.note("/help lists the commands; Ctrl-C stops an answer, Ctrl-D leaves.")
        talk = Chat(engine, screen, limits, system=ask.clean(system), context=context, trace=trace)
        talk.loop(keyboard("> "), lambda error: complain(error, debug))


@app.command()
def complete(
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="The text; without one, standard input is read."),
    ] = None,
    model: ask.Models = None,
    device: ask.Device = None,
    dtype: ask.Dtype = None,
    device_map: ask.DeviceMap = None,
    parallel: ask.Parallel = False,
    method: ask.Method = None,
    max_tokens: ask.MaxTokens = None,
    temperature: ask.Temperature = None,
    top_p: ask.TopP = None,
    seed: ask.Seed = None,
    segment_tokens: ask.SegmentTokens = None,
    score_mode: ask.Score = None,
    stop: ask.Stop = None,
    no_exit: ask.NoExit = False,
    special_tokens: Annotated[
        bool, typer.Option("--special-tokens", help="Special tokens in TEXT count as such.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Write the trace as JSON lines during the answer.")
    ] = False,
    trace: ask.ShowTrace = False,
    debug: ask.Debug = False,
) -> None:
    """Continue a text. No chat template touches it."""
    with reported(debug):
        models = ask.named_models(model, device, dtype, device_map)
        config = ask.fusion_config(method, segment_tokens, score_mode, no_exit)
        limits = ask.request_options(max_tokens, stop, temperature, top_p, seed)
        prompt = ask.clean(" ".join(text or ())) or ask.piped_text()
        if not prompt:
            raise EmptyConversationError('there is no text; write one: specfuse complete "..."')
        whole = Request(prompt=prompt, special_tokens=special_tokens)
        request = Request.of(whole, **limits).seeded()
        watched = Screen(sys.stdout).terminal and not json
        engine = make_engine(models, config, parallel=parallel, progress=watched)
        if json:
            raise typer.Exit(_write_json(engine, request))
        raise typer.Exit(_answer(engine, request, summary=watched or trace, trace=trace))


@app.command()
def check(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL", help="A hub id or a directory; without one, the bundled models."
        ),
    ] = None,
    model: ask.Models = None,
    device: ask.Device = None,
    device_map: ask.DeviceMap = None,
    dtype: ask.Dtype = None,
    json: Annotated[bool, typer.Option("--json", help="Write the reports as JSON.")] = False,
    debug: ask.Debug = False,
) -> None:
    """Load models, and show their properties and problems.

    The exit code is 1 if something is wrong with one of them.
    """
    with reported(debug):
        named = ask.named_models([*(models or ()), *(model or ())], device, dtype, device_map)
        raise typer.Exit(_check(named, json=json, debug=debug))


def make_engine(
    models: Sequence[ModelConfig], config: FusionConfig, *, parallel: bool, progress: bool
) -> FusionEngine:
    """Make the engine over the named models, or over the bundled models if there are none."""
    # The import of torch takes seconds.
    with Screen(sys.stderr).waiting("starting") if progress else nullcontext():
        if models:
            return FusionEngine.from_pretrained(
                models, config, parallel=parallel, progress=progress
            )
        return FusionEngine.bundled(config, parallel=parallel, progress=progress)


def _answer(engine: FusionEngine, request: Request, *, summary: bool, trace: bool) -> int:
    screen = Screen(sys.stdout, engine.models if summary else ())
    cancel = threading.Event()
    segments = engine.stream(request, cancel=cancel)
    if summary and screen.terminal:
        screen.legend()
    started = time.perf_counter()
    shown = screen.answer(segments, cancel)
    seconds = time.perf_counter() - started
    if summary and shown and shown[-1].finish_reason is not None:
        generation = Generation.of(shown)
        screen.write("\n")
        if trace:
            screen.rounds(generation.rounds)
            screen.write("\n")
        screen.summary(generation, seconds)
    return INTERRUPTED if cancel.is_set() else cut(shown, request)


def _write_json(engine: FusionEngine, request: Request) -> int:
    cancel = threading.Event()
    segments = engine.stream(request, cancel=cancel)
    seen: list[Segment] = []
    with stoppable(cancel):
        for line in json_lines(kept_in(seen, segments), engine=engine, request=request):
            sys.stdout.write(line)
            sys.stdout.flush()
    return INTERRUPTED if cancel.is_set() else cut(seen, request)


def kept_in(seen: list[Segment], segments: Iterable[Segment]) -> Iterator[Segment]:
    """Yield segments, and append each of them to a list."""
    for segment in segments:
        seen.append(segment)
        yield segment


def cut(segments: Sequence[Segment], request: Request) -> int:
    """Report an answer that a limit cut inside its constraint, and return the exit code."""
    if request.on_limit == "close" or not any(segment.closed_by_force for segment in segments):
        return 0
    last = segments[-1]
    limit = last.usage.limit if last.usage else None
    reason = ENDED[last.finish_reason or "cancelled"].format(limit)
    say(
        f"the answer is incomplete, because {reason.replace('max_new_tokens=', '--max-tokens ')}. "
        "Use a larger --max-tokens, or --on-limit close to accept it."
    )
    return 1


def _check(models: Sequence[ModelConfig], *, json: bool, debug: bool) -> int:
    screen, reports = Screen(sys.stdout), list[ModelReport]()
    found = checked(
        models, partial(make_engine, config=FusionConfig(), parallel=False, progress=False)
    )
    with warnings.catch_warnings():
        # The reports say it, too.
        warnings.simplefilter("ignore", FusionWarning)
        while True:
            with Screen(sys.stderr).waiting("loading"):
                report = next(found, None)
            if report is None:
                break
            reports.append(report)
            if debug:
                sys.stderr.write(report.traceback)
            if not json:
                screen.table(table_of(report))
    if json:
        screen.write(as_json(reports) + "\n")
    else:
        screen.note(verdict(reports), "")
    return 0 if all(report.fits for report in reports) else 1


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with ``arguments`` (by default those of the process), and exit."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Characters that the encoding lacks are replaced.
            stream.reconfigure(errors="replace")
    given = sys.argv[1:] if arguments is None else arguments
    if not given and sys.stdin is not None and not sys.stdin.isatty():
        given = ["run"]
    try:
        arguments = spelled_out(given, typer.main.get_command(app))
        code = app(args=arguments, prog_name="specfuse", standalone_mode=False)
    except UnknownOptionError as error:
        say(str(error))
        code = 2
    except _UsageError as error:
        say(misuse(error))
        code = error.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
