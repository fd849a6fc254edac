"""The command, on models that are scripted: what it prints, where, and its exit codes."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import specfuse_core
from specfuse_core import FusionConfig, FusionEngine, ModelConfig, Request
from specfuse_core.command import cli
from specfuse_core.command.chat import Chat
from specfuse_core.command.console import Screen
from specfuse_core.command.lines import one_line, printable
from specfuse_core.errors import GenerationError, ModelLoadError, SlowMethodWarning
from specfuse_core.testing import ScriptedBackend, ScriptedSession

HERE = {**os.environ, "PYTHONPATH": str(Path(specfuse_core.__file__).parent.parent)}
ANSWER = "The hall has 12 lamps. So 12 plus 7 is 19."


class Terminal(io.StringIO):
    """A terminal that remembers what was written to it."""

    def isatty(self) -> bool:
        return True


@dataclass
class Result:
    code: int
    out: str
    err: str


@dataclass
class Command:
    """``specfuse`` in this process, over scripted models."""

    monkeypatch: pytest.MonkeyPatch
    backends: list[ScriptedBackend] = field(default_factory=list)
    made: list[tuple[list[ModelConfig], FusionConfig, bool]] = field(default_factory=list)
    parallel: list[bool] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def __call__(
        self, *arguments: str, piped: str | bytes | None = None, terminal: bool = False
    ) -> Result:
        out, err = (Terminal() if terminal else io.StringIO()), io.StringIO()
        data = piped.encode() if isinstance(piped, str) else piped or b""
        typed: io.StringIO | io.TextIOWrapper = io.TextIOWrapper(io.BytesIO(data), "utf-8")
        if piped is None:
            typed = Terminal()
        with self.monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", typed)
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setattr(cli, "make_engine", self.make)
            with pytest.raises(SystemExit) as left:
                cli.main(list(arguments))
        code = left.value.code
        return Result(0 if code is None else int(code), out.getvalue(), err.getvalue())

    def make(
        self,
        models: Sequence[ModelConfig],
        config: FusionConfig,
        *,
        parallel: bool,
        progress: bool,
    ) -> FusionEngine:
        self.made.append((list(models), config, progress))
        self.parallel.append(parallel)
        return FusionEngine(self.backends, config)


class Recorded(ScriptedBackend):
    """A scripted model that keeps the requests."""

    def __init__(self, requests: list[Request]) -> None:
        super().__init__("reader", lambda request, response: ANSWER[len(response) :])
        self.requests = requests

    def start(self, request: Request) -> ScriptedSession:
        session = super().start(request)
        self.requests.append(request)
        return session


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    made = Command(monkeypatch)
    made.backends = [
        Recorded(made.requests),
        ScriptedBackend("reckoner", "A hall. So 12 plus 7 is 19."),
    ]
    return made


def user_text(request: Request) -> str:
    return request.messages[-1].content


# The short form and the arguments


@pytest.mark.parametrize(
    "arguments",
    [
        ["Why is that?"],
        ["run", "Why is that?"],
        ["--seed", "4", "Why is that?"],
        ["--no-exit", "Why is that?", "--seed", "4"],
        ["-m", "chat", "Why is that?"],
        ["--seed=4", "Why", "is", "that?"],
        ["--seed", "4", "run", "Why is that?"],
        ["--", "Why is that?"],
    ],
)
def test_options_may_come_before_a_question(command: Command, arguments: list[str]) -> None:
    result = command(*arguments)
    assert (result.code, result.out, result.err) == (0, ANSWER + "\n", "")
    assert user_text(command.requests[0]) == "Why is that?"


def test_a_question_may_look_like_an_option_after_two_dashes(command: Command) -> None:
    assert command("--quiet", "--", "-5 + 3?").code == 0
    assert user_text(command.requests[0]) == "-5 + 3?"


def test_options_may_come_before_chat(command: Command) -> None:
    result = command("--system", "Be brief.", "chat", piped="Why?\n")
    assert result.out == ANSWER + "\n"
    assert command.requests[0].messages[0].content == "Be brief."


def test_options_reach_the_engine(command: Command) -> None:
    line = (
        "-m one --model ./two --method specem --system S --max-tokens 7 --temperature 0.6 "
        "--top-p 0.9 --seed 5 --segment-tokens 3 --score-mode logit --stop a --stop b --no-exit"
    )
    assert command(*line.split(), "Q").code == 0
    models, config, progress = command.made[0]
    assert models == [ModelConfig(path="one"), ModelConfig(path="./two")]
    assert config == FusionConfig(
        method="specem", segment_tokens=3, score_mode="logit", model_exit=False
    )
    assert progress is False
    request = command.requests[0]
    assert [(m.role, m.content) for m in request.messages] == [("system", "S"), ("user", "Q")]
    assert request.max_new_tokens == 7
    assert request.stop == ("a", "b")
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.6, 0.9, 5)


def test_what_is_not_given_follows_the_defaults(command: Command) -> None:
    command("Q")
    models, config, _ = command.made[0]
    assert models == []
    assert config == FusionConfig()
    defaults = Request.of("Q", seed=command.requests[0].sampling.seed)
    assert command.requests[0] == defaults


@pytest.mark.parametrize("words", [["Q"], ["chat"]])
def test_how_models_are_loaded_and_run_reaches_the_engine(
    command: Command, words: list[str]
) -> None:
    line = "-m one --device cuda:1 --model ./two --dtype bfloat16 --parallel"
    assert command(*line.split(), *words, piped="Why?\n").code == 0
    how = {"device": "cuda:1", "dtype": "bfloat16"}
    assert command.made[0][0] == [ModelConfig(path=path, **how) for path in ("one", "./two")]
    assert command("-m", "one", "--device-map", "auto", *words, piped="Why?\n").code == 0
    assert command.made[1][0] == [ModelConfig(path="one", device_map="auto")]
    for option in ([], ["--no-parallel"], ["--parallel", "--no-parallel"]):
        assert command(*option, *words, piped="Why?\n").code == 0
    assert command.parallel == [True, False, False, False, False]


def test_engines_of_the_command_are_made_as_asked_for(tmp_path: Path) -> None:
    config = FusionConfig()
    for parallel in (False, True):
        bundled = cli.make_engine([], config, parallel=parallel, progress=False)
        assert (bundled._executor is not None) is parallel
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_text("")
    models = [ModelConfig(path=str(tmp_path / name), device="cpu") for name in ("a", "b")]
    named = cli.make_engine(models, config, parallel=True, progress=False)
    assert named.models == ("a", "b")
    assert named._executor is not None


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["chat", "--help"], []])
def test_help(command: Command, arguments: list[str]) -> None:
    result = command(*arguments)
    assert result.code == 0
    assert "Usage: specfuse" in result.out
    assert command.made == []


def test_version(command: Command) -> None:
    assert command("--version").out == f"specfuse {specfuse_core.__version__}\n"


def test_help_loads_neither_torch_nor_transformers() -> None:
    program = (
        "import sys\nfrom specfuse_core.command import cli\n"
        "try:\n    cli.main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'tokenizers')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=HERE)
    assert done.returncode == 0, done.stderr


# Contexts


def test_files_and_piped_text_come_before_the_question(command: Command, tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("The hall has 12 lamps.\n", encoding="utf-8")
    two.write_bytes("\ufeffThe attic has 7 caf\u00e9s.\n\n".encode())
    command("--file", str(one), "How many?", "--file", str(two), piped="Piped.\n")
    assert user_text(command.requests[0]) == (
        "The hall has 12 lamps.\n\nThe attic has 7 caf\u00e9s.\n\nPiped.\n\nHow many?"
    )


def test_piped_text_is_the_question_when_none_is_given(command: Command, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("Notes.", encoding="utf-8")
    assert command(piped="Why?\n").out == ANSWER + "\n"
    assert command("--file", str(notes), piped="Why?\n").code == 0
    assert [user_text(r) for r in command.requests] == ["Why?", "Notes.\n\nWhy?"]


@pytest.mark.parametrize("arguments", [[], ["run"], [" "], ["--quiet"]])
def test_no_question_is_an_error(command: Command, arguments: list[str]) -> None:
    result = command(*arguments, piped="\n")
    assert (result.code, result.out) == (1, "")
    assert result.err == 'specfuse: there is no question; write one: specfuse "..."\n'


def test_an_unreadable_file_is_one_line(command: Command, tmp_path: Path) -> None:
    binary = tmp_path / "binary\x1b[31m"
    binary.write_bytes(b"\xff\xfe\x00")
    missing = command("--file", str(tmp_path / "missing"), "Why?")
    assert missing.code == 1
    where = one_line(str(tmp_path / "missing"))
    assert missing.err == f"specfuse: --file {where} cannot be read: No such file or directory.\n"
    assert command("--file", str(tmp_path), "Why?").code == 1
    refused = command("--file", str(binary), "Why?")
    assert "is not UTF-8 text" in refused.err
    assert "\x1b" not in refused.err
    assert command("Why?", piped=b"\xff\xfe").err.startswith("specfuse: standard input is not")
    assert command.requests == []


def test_an_argument_that_is_not_utf8_is_passed_on(command: Command) -> None:
    command("caf\udce9?")
    assert user_text(command.requests[0]) == "caf\ufffd?"


# Exit codes and errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-tokens", "0"],
        ["--max-tokens", "many"],
        ["--method", "foo"],
        ["--score-mode", "best"],
        ["--segment-tokens", "-1"],
        ["--temperature", "-0.5"],
        ["--top-p", "0"],
        ["--stop", ""],
        ["--stop="],
        ["--frobnicate"],
        ["--frobnicate\n\x1b[31m"],
        ["--quiet", "--json"],
        ["--quiet", "--trace"],
        ["--model", ""],
        ["--dtype", "float33", "-m", "one"],
        ["--dtype", "float32"],
        ["--device", "cuda"],
        ["--device-map", "auto"],
        ["--device-map", "auto", "--device", "cpu", "-m", "one"],
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
def test_a_bad_option_gives_two_and_one_line(
    command: Command, arguments: list[str], terminal: bool
) -> None:
    result = command(*arguments, "Why?", terminal=terminal)
    assert (result.code, result.out) == (2, "")
    assert re.fullmatch(r"specfuse: [^\n\x1b]{20,}\.\n", result.err)
    assert command.made == []


def test_an_option_without_its_value_gives_two_and_one_line(command: Command) -> None:
    result = command("Why?", "--stop")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "specfuse: option '--stop' requires an argument; specfuse run --help lists the options.\n"
    )


@pytest.mark.parametrize(
    "arguments", [["--max-tokens", "0"], ["--stop", ""], ["--dtype", "int8"], ["--device", "cpu"]]
)
def test_a_bad_option_of_a_chat_is_told_at_once(command: Command, arguments: list[str]) -> None:
    result = command("chat", *arguments)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert command.made == []


def test_a_bad_value_that_only_the_engine_can_see_gives_two(command: Command) -> None:
    command.backends = [ScriptedBackend("a", "x", supports_logits=False)]
    result = command("--score-mode", "logit", "Why?")
    assert result.code == 2
    assert result.err == (
        "specfuse: --score-mode must be 'logprob' or 'prob', because 'a' does not give the raw "
        "logits that 'logit' needs.\n"
    )


def failing(error: Exception) -> Callable[..., str]:
    def script(request: Request, response: str) -> str:
        if response:
            raise error
        return ANSWER

    return script


def test_an_error_is_one_line_after_what_was_written(command: Command) -> None:
    error = GenerationError("the model\nbroke \x1b[2J down; leave it out.")
    command.backends = [ScriptedBackend("a", failing(error))]
    result = command("--segment-tokens", "3", "Why?")
    assert (result.code, result.out) == (1, "The hall\n")
    assert result.err == "specfuse: the model broke \u241b[2J down; leave it out.\n"


def test_a_traceback_comes_only_with_debug(command: Command) -> None:
    command.backends = [ScriptedBackend("a", failing(ZeroDivisionError("oh")))]
    arguments = ["--segment-tokens", "3", "Why?"]
    plain, debugged = command(*arguments), command("--debug", *arguments)
    assert (plain.code, debugged.code) == (1, 1)
    assert plain.err == "specfuse: ZeroDivisionError: oh (--debug shows where)\n"
    assert "Traceback" in debugged.err
    assert debugged.err.endswith(plain.err)


def test_a_model_that_cannot_be_loaded_is_one_line(command: Command) -> None:
    def load() -> None:
        raise ModelLoadError("no model at [bold]./nowhere[/bold].")

    command.backends[0].load = load  # type: ignore[method-assign]
    result = command("Why?")
    assert result.code == 1
    assert result.err == "specfuse: no model at [bold]./nowhere[/bold].\n"


def test_a_broken_pipe_ends_silently(tmp_path: Path) -> None:
    program = tmp_path / "endless.py"
    program.write_text(
        "import sys\n"
        "from specfuse_core import FusionEngine\n"
        "from specfuse_core.command import cli\n"
        "from specfuse_core.testing import ScriptedBackend\n"
        "backend = ScriptedBackend('a', lambda request, response: 'word\\n' * 20)\n"
        "cli.make_engine = lambda *_, **__: FusionEngine([backend])\n"
        "cli.main(['--max-tokens', '100000', *sys.argv[1:], 'Why?'])\n"
    )
    for option in ("--quiet", "--json", "--no-exit"):
        with subprocess.Popen(
            [sys.executable, str(program), option],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=HERE,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141


def interrupting(times: int = 1) -> Callable[[Request, str], str]:
    """A script during whose second round Ctrl-C is pressed."""

    presses = iter([times])

    def script(request: Request, response: str) -> str:
        if response:
            for _ in range(next(presses, 0)):
                os.kill(os.getpid(), signal.SIGINT)
        return "One two three four five."[len(response) :]

    return script


@pytest.fixture
def interruptible() -> Any:
    """SIGINT as a terminal's foreground process has it (background jobs may ignore it)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_stops_with_what_was_written(command: Command) -> None:
    command.backends = [ScriptedBackend("a", interrupting())]
    result = command("--segment-tokens", "2", "Why?")
    assert result.code == 130
    assert (result.out, result.err) == ("One two\n", "")


@pytest.mark.usefixtures("interruptible")
def test_a_second_ctrl_c_does_not_wait_for_the_round(command: Command) -> None:
    command.backends = [ScriptedBackend("a", interrupting(2))]
    result = command("--segment-tokens", "2", "Why?", terminal=True)
    assert result.code == 130
    assert "One" in result.out
    assert "two" not in result.out
    assert command.backends[0].sessions[0].closed


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_closes_the_json_trace(command: Command) -> None:
    command.backends = [ScriptedBackend("a", interrupting())]
    result = command("--json", "--segment-tokens", "2", "Why?")
    assert result.code == 130
    assert json.loads(result.out.splitlines()[-1])["finish_reason"] == "cancelled"


# What is printed


def test_a_pipe_gets_the_answer_and_nothing_else(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    for arguments in ([], ["--quiet"]):
        result = command(*arguments, "Why?")
        assert (result.out, result.err) == (ANSWER + "\n", "")


def test_a_pipe_gets_the_bytes_that_the_models_wrote(command: Command) -> None:
    text = "[bold]a[/bold] :smile: \x1b[31m\r\n" + "long " * 60 + "\t."
    command.backends = [ScriptedBackend("a", text)]
    assert command("Why?").out == text + "\n"


def test_json_is_the_whole_trace(command: Command) -> None:
    result = command("--json", "--seed", "9", "Why?", terminal=True)
    first, *rounds, end = map(json.loads, result.out.splitlines())
    assert first["sampling"]["seed"] == 9
    assert first["models"] == ["reader", "reckoner"]
    assert [record["type"] for record in rounds] == ["round"] * len(rounds)
    assert end["text"] == ANSWER
    assert result.err == ""


def test_a_seed_that_was_drawn_is_in_the_first_line(command: Command) -> None:
    lines = command("--json", "Why?").out.splitlines()
    assert json.loads(lines[0])["sampling"]["seed"] == json.loads(lines[-1])["usage"]["seed"]


def test_a_warning_about_a_slow_method_is_one_line(command: Command) -> None:
    class Slow(ScriptedBackend):
        def load(self) -> None:
            if not self.loads:
                warnings.warn("m runs with\nthe method 'reread'", SlowMethodWarning, stacklevel=1)
                warnings.warn("of a library", UserWarning, stacklevel=1)
            super().load()

    command.backends = [Slow("m", ANSWER)]
    with pytest.warns(UserWarning, match="of a library") as others:
        done = command("-q", "How many lamps?")
    assert len(others) == 1
    assert (done.code, done.out) == (0, f"{ANSWER}\n")
    assert done.err == "specfuse: warning: m runs with the method 'reread'\n"


def test_the_table_of_rounds_comes_with_trace_alone(command: Command) -> None:
    result = command("--trace", "Why?")
    assert result.out.startswith(ANSWER + "\n\n")
    assert "\x1b" not in result.out
    assert "candidate" in result.out
    assert "\u25b6 reader" in result.out
    assert "complete" in result.out


def test_a_terminal_shows_colours_a_legend_and_who_wrote_what(command: Command) -> None:
    result = command("Why?", terminal=True)
    assert result.code == 0
    assert "\x1b[36m\u25cf \x1b[0m\x1b[2mreader" in result.out
    assert "\x1b[36mThe hall" in result.out
    for word in ("segments", "share", "drafted", "verified", "passes", "of 2.0 models", "seed"):
        assert word in result.out
    assert "candidate" not in result.out
    assert command.made[0][2] is True


def test_no_color_is_honoured(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in command("Why?", terminal=True).out


def test_quiet_on_a_terminal_is_only_the_answer(command: Command) -> None:
    assert command("--quiet", "Why?", terminal=True).out.endswith(ANSWER + "\n")
    assert "passes" not in command("--quiet", "Why?", terminal=True).out
    assert command.made[0][2] is False


def test_nothing_a_model_writes_can_harm_a_terminal(command: Command) -> None:
    command.backends = [
        ScriptedBackend("[red]x", "[bold]a[/bold] [link=x]b \x1b[31m \x9b2J \x07 \u202e \r ok.")
    ]
    result = command("--trace", "Why?", terminal=True)
    assert "[bold]a[/bold] [link=x]b \u241b[31m \ufffd2J \u2407 \ufffd" in result.out
    assert "[red]x" in result.out
    assert not set("\x9b\x07\u202e") & set(result.out)
    assert "\x1b[31m" not in result.out


def test_printable_keeps_what_is_harmless() -> None:
    text = "a\tb\nc \u00e9 \u4e2d \U0001f469\u200d\U0001f680"
    assert printable(text) == text
    assert printable("\x00\x1b\x7f\x85\ud800\r") == "\u2400\u241b\u2421\ufffd\ufffd"


def test_a_terminal_does_not_break_words(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("NO_COLOR", "1")
    text = (
        "One two three four five six.\n\n"
        "\u4e00\u4e8c\u4e09 \u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b " + "x" * 45 + " y."
    )
    command.backends = [ScriptedBackend("a", text)]
    for tokens in ("1", "2", "50"):
        result = command("--segment-tokens", tokens, "--quiet", "Why?", terminal=True)
        shown = result.out[result.out.index("One") :]
        assert [line.rstrip() for line in shown.splitlines()] == [
            "One two three four",
            "five six.",
            "",
            "\u4e00\u4e8c\u4e09",
            "\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b",
            "x" * 45 + " y.",
        ]


# The chat


def test_a_chat_remembers(command: Command) -> None:
    result = command("chat", "--system", "S", piped="One?\n\nTwo?\n")
    assert (result.code, result.out) == (0, f"{ANSWER}\n{ANSWER}\n")
    assert [(m.role, m.content) for m in command.requests[1].messages] == [
        ("system", "S"),
        ("user", "One?"),
        ("assistant", ANSWER),
        ("user", "Two?"),
    ]


def test_a_file_comes_before_the_first_question_of_a_chat(command: Command, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("Notes.", encoding="utf-8")
    command("chat", "--file", str(notes), piped="One?\nTwo?\n/reset\nThree?\n")
    asked = [user_text(request) for request in command.requests]
    assert asked == ["Notes.\n\nOne?", "Two?", "Notes.\n\nThree?"]
    assert len(command.requests[2].messages) == 1


def test_slash_commands(command: Command, tmp_path: Path) -> None:
    saved = tmp_path / "chat.json"
    lines = [
        "/help",
        "/trace",
        "One?",
        "/trace",
        "/models",
        "/system Be exact.",
        f"/save {saved}",
        f"/save {saved}",
        "/save",
        "/system",
        "/frob\x1b",
        "/exit",
        "Not asked.",
    ]
    result = command("chat", piped="\n".join(lines))
    assert (result.code, result.err) == (0, "")
    assert "/save FILE     write" in result.out
    assert "There is no complete answer to show yet." in result.out
    assert "\u25b6 reader" in result.out
    assert "reckoner  drafts and verifies, 4,096 tokens of context" in result.out
    assert "There is no command /frob\u241b" in result.out or "/frob\x1b" in result.out
    assert json.loads(saved.read_text()) == [
        {"role": "system", "content": "Be exact."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": ANSWER},
    ]
    assert len(command.requests) == 1


def test_a_chat_does_not_overwrite_what_it_did_not_write(command: Command, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    result = command("chat", piped=f"One?\n/save {mine}\nTwo?\n")
    assert mine.read_text() == "precious"
    assert result.err == f"specfuse: {mine}: File exists\n"
    assert len(command.requests) == 2


def test_an_error_ends_neither_the_chat_nor_its_history(command: Command) -> None:
    command.backends[1].context_window = 12
    long = "word " * 20
    result = command("chat", piped=f"{long}\nTwo?\n")
    assert result.code == 0
    assert result.err.startswith("specfuse: the prompt has 22 tokens for 'reckoner'")
    assert len(command.requests[-1].messages) == 1


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_the_chat_and_what_was_written(command: Command) -> None:
    command.backends = [ScriptedBackend("a", interrupting(2))]
    result = command("chat", "--segment-tokens", "2", piped="One?\n/save /dev/null\n")
    assert result.code == 0
    assert "One\nStopped; what was written so far stays" in result.out

    engine = FusionEngine([ScriptedBackend("a", interrupting())], FusionConfig(segment_tokens=2))
    talk = Chat(engine, Screen(io.StringIO()))
    talk.ask("One?")
    assert [message.content for message in talk.history] == ["One?", "One two"]


@pytest.mark.usefixtures("interruptible")
def test_a_question_without_a_word_of_an_answer_is_forgotten() -> None:
    def script(request: Request, response: str) -> str:
        raise KeyboardInterrupt

    screen = Screen(io.StringIO())
    talk = Chat(FusionEngine([ScriptedBackend("a", script)]), screen)
    talk.ask("One?")
    assert talk.history == []


def test_ctrl_c_at_the_prompt_does_not_leave() -> None:
    def read() -> str:
        match next(events):
            case str(line):
                return line
            case error:
                raise error

    events = iter([KeyboardInterrupt(), "One?", EOFError()])
    talk = Chat(FusionEngine([ScriptedBackend("a", "Yes.")]), Screen(io.StringIO()))
    talk.loop(read, lambda error: None)
    assert [message.content for message in talk.history] == ["One?", "Yes."]


def test_a_chat_on_a_terminal_tells_what_an_answer_cost(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["One?"])

    def typed(prompt: str = "") -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)
    result = command("chat", terminal=True)
    assert result.code == 0
    assert "/help lists the commands" in result.out
    assert "of 2.0 models" in result.out


def test_an_answer_can_be_made_to_obey(command: Command, tmp_path: Path) -> None:
    schema = tmp_path / "form.json"
    schema.write_text('{"type": "object", "properties": {"n": {"type": "integer"}}}')
    told = command("--quiet", "--schema", str(schema), "Q")
    assert (told.code, isinstance(json.loads(told.out), dict)) == (0, True)
    assert command("--quiet", "--choice", "yes", "--choice", "no", "Q").out.strip() in ("yes", "no")
    assert re.fullmatch(r"\d+", command("--quiet", "--regex", r"\d+", "Q").out.strip())


def test_a_constraint_that_makes_no_sense_gives_two_and_one_line(
    command: Command, tmp_path: Path
) -> None:
    broken, wrong = tmp_path / "broken.json", tmp_path / "wrong.json"
    broken.write_text("{")
    wrong.write_text('{"type": "strin"}')
    deep, deeper = tmp_path / "deep.json", tmp_path / "deeper.json"
    deep.write_text('{"items": ' * 200 + "{}" + "}" * 200)
    deeper.write_text('{"items": ' * 5_000 + "{}" + "}" * 5_000)
    for arguments, says in (
        (["--schema", str(broken)], f"--schema {broken} is not JSON"),
        (["--schema", str(wrong)], "--schema: the schema is not a JSON schema: at '/type'"),
        (["--schema", str(deep)], "the schema has more than 100 levels"),
        (["--schema", str(deeper)], f"--schema {deeper} has too many levels"),
        (["--regex", "("], "--regex: the constraint is invalid or not supported"),
        (["--choice", ""], "--choice must not be empty."),
        (["--choice", "a", "--regex", "b"], "--choice and --regex were given together"),
    ):
        told = command(*arguments, "Q")
        assert (told.code, told.out, told.err.count("\n")) == (2, "", 1)
        assert says in told.err
    assert command("--schema", str(tmp_path / "none.json"), "Q").code == 1


def test_thinking_is_not_part_of_what_is_piped(command: Command) -> None:
    command.backends = [ScriptedBackend("a", "<think>Hm, well.</think>\n\nIt is 19.")]
    assert command("--quiet", "Q").out == "It is 19.\n"
    assert "Hm, well." in command("Q", terminal=True).out


@pytest.mark.parametrize("form", [["--quiet"], ["--json"], []])
def test_an_answer_that_a_limit_cuts_inside_its_constraint_is_an_error(
    command: Command, form: list[str]
) -> None:
    line = [*form, "--regex", "The hall has .*", "--max-tokens", "5", "How many?"]
    result = command(*line)
    assert result.code == 1
    assert "The hall has" in result.out
    assert result.err == (
        "specfuse: the answer is incomplete, because --max-tokens 5 was reached. Use a larger "
        "--max-tokens, or --on-limit close to accept it.\n"
    )
    assert (command("--on-limit", "close", *line).code, command(*line, "more").code) == (0, 1)
    assert command(*form, "--max-tokens", "5", "How many?").code == 0


def test_a_text_is_continued_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["complete", "--max-tokens", "6", "--json", "The attic has 7 lamps and"])
    assert done.value.code == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (records[0]["prompt"], records[0]["messages"]) == ("The attic has 7 lamps and", [])
    assert records[-1]["finish_reason"] in ("length", "stop")


def test_a_completion_needs_a_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SystemExit):
        cli.main(["complete"])
    assert "there is no text" in capsys.readouterr().err
