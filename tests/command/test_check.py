"""``specfuse check``: its tables, its JSON, and its exit codes."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny

from specfuse_core import (
    ConversationReport,
    FusionEngine,
    ModelConfig,
    ModelReport,
    TemplateReport,
    TokenizerReport,
    WeightsReport,
)
from specfuse_core.command import cli
from specfuse_core.command.check import table_of, verdict
from specfuse_core.command.console import Screen
from specfuse_core.errors import ModelNotFoundError, SlowMethodWarning
from specfuse_core.testing import ScriptedBackend

WHOLE = ModelReport(
    "harmony-model",
    "org/harmony-model",
    context_window=4096,
    template_source="model",
    weights=WeightsReport(51_299_000, "float32", 12_824_736, "cpu", 60_000_000),
    method="cropped",
    failures={"packed-full": "log-probabilities are off by 0.3"},
    ends=("<|return|>", "\n"),
    ordinary_ends=("\n",),
    template=TemplateReport(
        header="<|channel|>final<|message|>",
        closing="<|return|>",
        describes_tools=True,
        calls="harmony",
        thinking=("<think>", "</think>"),
        conversations=(
            ConversationReport("a question"),
            ConversationReport("a system message", ("moves \x1b[31mit",)),
            ConversationReport("tools", ("moves \x1b[31mit", "joins it")),
            ConversationReport("two answers", lost=("assistant",)),
        ),
    ),
    tokenizer=TokenizerReport("byte-level BPE", 200_019),
    vocabulary=200_064,
    seconds=2.694,
)
TABLE = """\
harmony-model  org/harmony-model
 memory           51.3 MB in float32 on cpu (60.0 MB free)
 parameters       12,824,736
 context window   4,096 tokens
 chat template    in the model's files
 loaded in        2.69 s
 method           cropped
 not packed-full  log-probabilities are off by 0.3
 end tokens       <|return|> \\n
 answer header    <|channel|>final<|message|>
 tool calls       harmony
 thinking         <think> </think>
 conversations    1 of 4 kinds are rendered as they are
 repair           moves \u241b[31mit: a system message, tools
 repair           joins it: tools
 tokenizer        byte-level BPE, 200,019 tokens, 200,064 logits
 note             the weights need 85% of the free memory, which leaves little
                  for the caches of long conversations
 note             models of this kind cannot use a faster method than 'cropped'
 note             an answer also ends at '\\n', which is ordinary text; check
                  eos_token_id in the generation config
 wrong            the chat template drops assistant messages in two answers
 fit              no

"""


class Reported(ScriptedBackend):
    """A model with a given report."""

    def __init__(self, report: ModelReport) -> None:
        super().__init__(report.name, "")
        self._report = report

    def report(self) -> ModelReport:
        warnings.warn("slow", SlowMethodWarning, stacklevel=1)
        return self._report


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdin", None)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModelReport | Exception]:
    """Models by their paths: their reports, or why an engine of them cannot be made."""
    known: dict[str, ModelReport | Exception] = {}

    def make(configs: Sequence[ModelConfig], **options: Any) -> FusionEngine:
        found = [known[config.path] for config in configs] or list(known.values())
        for one in found:
            if isinstance(one, Exception):
                raise one
        return FusionEngine([Reported(one) for one in found if isinstance(one, ModelReport)])

    monkeypatch.setattr(cli, "make_engine", make)
    return known


def check(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(["check", *arguments])
    return int(left.value.code or 0)


def stripped(text: str) -> str:
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def test_a_table_has_all_that_is_known() -> None:
    out = io.StringIO()
    Screen(out).table(table_of(WHOLE))
    assert stripped(out.getvalue()) == TABLE


def test_models_that_fit(
    models: dict[str, ModelReport | Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    models |= {"./a": ModelReport("a", "./a"), "org/b": ModelReport("b", "org/b")}
    assert check("./a", "org/b") == 0
    shown = capsys.readouterr()
    assert stripped(shown.out) == "a  ./a\n fit  yes\n\nb  org/b\n fit  yes\n\n2 of 2 models fit.\n"
    assert shown.err == ""


def test_a_model_that_fails_does_not_hide_the_others(
    models: dict[str, ModelReport | Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    models |= {
        "org/gone": ModelNotFoundError("'org/gone': not found."),
        "./broken": ModelReport(
            "broken", "./broken", context_window=512, error="'broken': no weights."
        ),
        "./a": ModelReport("a", "./a"),
    }
    assert check(*models) == 1
    assert stripped(capsys.readouterr().out) == (
        "gone  org/gone\n wrong  'org/gone': not found.\n fit    no\n\n"
        "broken  ./broken\n context window  512 tokens\n wrong           'broken': no weights.\n"
        " fit             no\n\n"
        "a  ./a\n fit  yes\n\n"
        "1 of 3 models fit; these do not: gone, broken.\n"
    )


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_traceback_of_a_model_that_fails_comes_with_debug(
    models: dict[str, ModelReport | Exception],
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
) -> None:
    failing = ModelReport("broken", "./broken").failing(ZeroDivisionError("oh"))
    models |= {"org/gone": ModelNotFoundError("not found"), "./broken": failing}
    assert check(*models, *options) == 1
    plain = capsys.readouterr()
    assert plain.err == ""
    assert check(*models, *options, "--debug") == 1
    debugged = capsys.readouterr()
    assert debugged.err.startswith("Traceback (most recent call last)")
    assert "ModelNotFoundError: not found\n" in debugged.err
    assert debugged.err.endswith("ZeroDivisionError: oh\n")
    if not options:
        assert debugged.out == plain.out


def test_models_may_be_named_as_in_the_other_commands(
    models: dict[str, ModelReport | Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    models |= {"a": ModelReport("a"), "b": ModelReport("b")}
    assert check("-m", "b", "a", "--json") == 0
    read = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in read["models"]] == ["a", "b"]


def test_without_models_the_bundled_ones_are_checked(
    models: dict[str, ModelReport | Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    models |= {"a": ModelReport("a"), "b": ModelReport("b")}
    assert check() == 0
    assert capsys.readouterr().out.endswith("2 of 2 models fit.\n")


@pytest.mark.parametrize("fits", [True, False])
def test_json_is_one_object(
    fits: bool, models: dict[str, ModelReport | Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    second = WHOLE if not fits else ModelReport("b", "b")
    models |= {"a": ModelReport("a", "a", context_window=99), "b": second}
    assert check("a", "b", "--json") == (0 if fits else 1)
    read = json.loads(capsys.readouterr().out)
    assert read["fits"] is fits
    assert [model["fits"] for model in read["models"]] == [True, fits]
    assert read["models"][0]["context_window"] == 99
    assert read["models"][1] == json.loads(json.dumps(second.as_dict()))


def test_json_is_the_same_in_every_encoding(
    models: dict[str, ModelReport | Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    models["a"] = ModelReport("a", ends=("<\uff5cend\u2581of\u2581sentence\uff5c>",))
    out = io.BytesIO()
    with io.TextIOWrapper(out, "latin-1") as latin:
        monkeypatch.setattr("sys.stdout", latin)
        assert check("a", "--json") == 0
        latin.flush()
        written = out.getvalue()
    assert json.loads(written)["models"][0]["ends"] == [*models["a"].ends]


def test_options_that_are_wrong_are_misuse(
    models: dict[str, ModelReport | Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("--device", "cpu") == 2
    assert capsys.readouterr().err == (
        "specfuse: --device can only be used with models that you name; the bundled models run on "
        "the CPU as they are.\n"
    )


def test_the_verdict_names_what_does_not_fit() -> None:
    assert verdict([ModelReport("a")]) == "1 of 1 models fit."
    assert verdict([WHOLE]) == "0 of 1 models fit; these do not: harmony-model."


def test_models_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel")
    model.save_pretrained(tmp_path / "good")
    tokenizer.save_pretrained(tmp_path / "good")
    missing = str(tmp_path / "missing")
    assert check(missing, str(tmp_path / "good"), "--device", "cpu", "--json") == 1
    read = json.loads(capsys.readouterr().out)
    first, second = read["models"]
    assert first["name"] == "missing"
    assert "there is no such directory" in first["error"]
    assert (second["name"], second["fits"], second["method"]) == ("good", True, "packed-full")
