"""What the command line says about arguments that it cannot use: the option as it was typed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer

from specfuse_core.command import cli
from specfuse_core.command.arguments import spelled_out
from specfuse_core.config import FusionConfig, ModelConfig, SamplingParams
from specfuse_core.config.synonyms import SYNONYMS
from specfuse_core.errors import UnknownOptionError

GROUP: Any = typer.main.get_command(cli.app)
#: A bad value of each option; flags take none.
BAD: dict[str, list[str]] = {
    "--model": ["--model", ""],
    "--device": ["--device", "cpu"],
    "--dtype": ["--dtype", "int8", "-m", "a"],
    "--device-map": ["--device-map", "auto"],
    "--method": ["--method", "best"],
    "--max-tokens": ["--max-tokens", "0"],
    "--temperature": ["--temperature", "-1"],
    "--top-p": ["--top-p", "1.5"],
    "--seed": ["--seed", "1.5"],
    "--segment-tokens": ["--segment-tokens", "0"],
    "--on-limit": ["--on-limit", "stop"],
    "--score-mode": ["--score-mode", "entropy"],
    "--stop": ["--stop", ""],
    "--file": ["--file", "no-such-file"],
    "--schema": ["--schema", "no-such-file"],
    "--choice": ["--choice", ""],
    "--regex": ["--regex", "("],
}
#: Any text is a system message.
ANY = {"--system"}


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, Any]:
    """What the command says to these arguments, and its exit code."""
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"specfuse: [^\n]{15,}[.?]\n", printed.err)
    return printed.err, left.value.code


def options(command: str) -> list[Any]:
    return [p for p in GROUP.commands[command].params if p.opts[0].startswith("-")]


OPTIONS = [(command, param) for command in ("run", "chat") for param in options(command)]


@pytest.mark.parametrize(
    ("command", "param"), OPTIONS, ids=[f"{command} {param.opts[0]}" for command, param in OPTIONS]
)
def test_a_bad_value_is_refused_by_the_option_as_typed(
    command: str, param: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "make_engine", None)
    monkeypatch.setattr("sys.stdin", None)
    option = param.opts[0]
    if option in ANY:
        return
    if param.is_flag:
        arguments = [f"{option}=3"]
    else:
        assert option in BAD, f"a bad value for {option} is missing here"
        arguments = BAD[option]
    question = ["hi"] if command == "run" else []
    said, code = refused([command, *arguments, *question], capsys)
    # A file that cannot be read is no misuse of the command.
    assert code == (1 if "no-such-file" in arguments else 2)
    assert option in said
    inner = (FusionConfig, ModelConfig, SamplingParams)
    for name in ("Value error", "Input should", "max_new_tokens", *(c.__name__ for c in inner)):
        assert name not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--temperature", "-1"], "--temperature must be at least 0, got -1.0."),
        (["--max-tokens", "many"], "--max-tokens must be a valid integer, got 'many'."),
        (["--model-name", "x"], "specfuse run has no option '--model-name'; use --model."),
        (
            ["--max-new-tokens=4"],
            "specfuse run has no option '--max-new-tokens'; use --max-tokens.",
        ),
        (["--torch-dtype", "x"], "specfuse run has no option '--torch-dtype'; use --dtype."),
        (["--system-prompt", "x"], "specfuse run has no option '--system-prompt'; use --system."),
        (
            ["--max-memory", "1GiB"],
            "specfuse run has no option '--max-memory'; use ModelConfig(max_memory=...) in Python.",
        ),
        (
            ["--temprature", "1"],
            "specfuse run has no option '--temprature'; did you mean '--temperature'?",
        ),
        (
            ["--frobnicate"],
            "specfuse run has no option '--frobnicate'; specfuse run --help lists the options.",
        ),
    ],
)
def test_messages(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused([*arguments, "hi"], capsys) == (f"specfuse: {said}\n", 2)


@pytest.mark.parametrize(
    "name", [name for synonym in SYNONYMS for name in synonym.names.split() if name != "model"]
)
def test_an_option_of_another_program_is_answered(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said, code = refused([f"--{name.replace('_', '-')}", "x", "hi"], capsys)
    assert code == 2
    assert "did you mean" not in said
    assert "lists the options" not in said


# Mistyped commands


@pytest.mark.parametrize(
    ("arguments", "command", "question"),
    [
        (["chatt"], "chat", "chatt"),
        (["cht"], "chat", "cht"),
        (["chats"], "chat", "chats"),
        (["help"], "--help", "help"),
        (["versio"], "--version", "versio"),
        (["rn", "hi"], "run", "'rn hi'"),
        (["runn", "What is it?"], "run", "'runn What is it?'"),
        (["--seed", "4", "chatt"], "chat", "chatt"),
        (["chatt", "--system", "Be brief."], "chat", "chatt"),
        (["--no-exit", "rn", "--seed=4", "hi"], "run", "'rn hi'"),
        (["chek"], "check", "chek"),
        (["chek", "org/one", "./two", "~/three"], "check", "'chek org/one ./two ~/three'"),
        (["models"], "check", "models"),
        (["download", "org/one"], "check", "'download org/one'"),
        (["--device", "cpu", "ls"], "check", "ls"),
    ],
)
def test_a_mistyped_command_is_asked_about(
    arguments: list[str],
    command: str,
    question: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "make_engine", None)
    said, code = refused(arguments, capsys)
    known = "chatt|cht|chats|rn|runn|help|versio|chek|models|download|ls"
    words = [word for word in arguments if re.fullmatch(known, word)]
    assert said == (
        f"specfuse: there is no command {words[0]!r}; did you mean 'specfuse {command}'? To ask it "
        f"as a question, write: specfuse run {question}.\n"
    )
    assert code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["Why?"],
        ["why"],
        ["hello"],
        ["what"],
        ["that", "thing"],
        ["chatt?"],
        ["Chatt"],
        ["chatt is what"],
        ["chats", "cost", "what?"],
        ["cat", "food", "is", "what?"],
        ["help", "me"],
        ["list", "animals"],
        ["show", "me", "lamps"],
        ["chek", "my", "grammar/spelling"],
        ["models/lamps"],
        ["--", "models"],
        ["--", "chatt"],
        ["--", "chat"],
        ["--quiet", "--", "chat", "now"],
        ["--quiet", "--", "chatt"],
        ["-m", "chatt", "hello"],
        ["--system", "rn", "hello"],
    ],
)
def test_a_question_is_a_question(arguments: list[str]) -> None:
    assert spelled_out(arguments, GROUP) == ["run", *arguments]


def test_a_mistyped_command_can_be_asked() -> None:
    assert spelled_out(["run", "chatt"], GROUP) == ["run", "chatt"]
    with pytest.raises(UnknownOptionError):
        spelled_out(["chatt"], GROUP)
