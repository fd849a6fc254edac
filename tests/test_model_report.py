"""Reports of models: which facts are problems, which are notes, and their form as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from specfuse_core import (
    ConversationReport,
    FusionEngine,
    ModelReport,
    TemplateReport,
    TokenizerReport,
    WeightsReport,
)
from specfuse_core.model_report import amount
from specfuse_core.testing import ScriptedBackend


def template(*conversations: ConversationReport, calls: str = "common") -> TemplateReport:
    return TemplateReport("", "<|im_end|>", True, calls, None, conversations)


REPAIRED = ConversationReport("a system message", ("moves system messages into user messages",))


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"error": "'x': no such model."}, "'x': no such model."),
        (
            {"weights": WeightsReport(3_000_000_000, free=2_000_000_000, device="cuda:1")},
            "the weights need 3.0 GB, but only 2.0 GB are free on cuda:1; use a smaller dtype or "
            "another device",
        ),
        (
            {"method": "cropped", "slow": True, "failures": {"packed-full": "off by 2"}},
            "the method 'cropped' is slower than a model of this kind needs; try another "
            "attn_implementation or dtype",
        ),
        (
            {"template": template(ConversationReport("tools", (), ("system", "tool", "tool")))},
            "the chat template drops system and tool messages in tools",
        ),
        (
            {
                "template": template(
                    ConversationReport("tools", refused="no tools."),
                    ConversationReport("a question"),
                    ConversationReport("a tool's result", refused="no tools."),
                )
            },
            "the chat template refuses tools, a tool's result: no tools.",
        ),
    ],
)
def test_what_is_wrong(facts: dict[str, Any], problem: str) -> None:
    report = ModelReport("m", **facts)
    assert report.problems == (problem,)
    assert not report.fits


@pytest.mark.parametrize(
    ("facts", "note"),
    [
        (
            {"weights": WeightsReport(900, free=1000)},
            "the weights need 90% of the free memory, which leaves little for the caches of long "
            "conversations",
        ),
        (
            {"method": "snapshot", "failures": {"packed-full": "IndexError"}},
            "models of this kind cannot use a faster method than 'snapshot'",
        ),
        (
            {"ends": ("#", "</s>"), "ordinary_ends": ("#",)},
            "an answer also ends at '#', which is ordinary text; check eos_token_id in the "
            "generation config",
        ),
        (
            {"template_source": "none", "template": template(calls="instruction")},
            "there is no chat template; each message is a paragraph with its role",
        ),
        (
            {"template": template(calls="instruction")},
            "the template shows no known form of tool calls; the prompt asks for the common one",
        ),
        (
            {"template": replace(template(), thinking_switch="enable_thinking")},
            "the chat template closes the thought before each answer by default; to let the model "
            'think, set chat_template_kwargs={"enable_thinking": True}',
        ),
        (
            {"tokenizer": TokenizerReport("BPE", 1001), "vocabulary": 1000},
            "the tokenizer has 1,001 tokens, but the model knows only 1,000; check that they "
            "belong together",
        ),
        ({"tokenizer": TokenizerReport("BPE", 9, "no constraints.")}, "no constraints."),
    ],
)
def test_what_is_only_noted(facts: dict[str, Any], note: str) -> None:
    report = ModelReport("m", **facts)
    assert (report.notes, report.problems, report.fits) == ((note,), (), True)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"weights": WeightsReport(900)},
        {"weights": WeightsReport(800, free=1000)},
        {"template": template(REPAIRED, calls="harmony"), "template_source": "config"},
    ],
)
def test_what_is_as_it_should_be(facts: dict[str, Any]) -> None:
    report = ModelReport("m", **facts)
    assert (report.notes, report.problems) == ((), ())


def test_a_report_is_json() -> None:
    weights = WeightsReport(9, free=8, device="cpu")
    report = ModelReport("m", weights=weights, failures={"a": "b"}, template=template(REPAIRED))
    read = json.loads(json.dumps(report.as_dict()))
    assert (read["weights"]["size"], read["failures"], read["fits"]) == (9, {"a": "b"}, False)
    assert read["template"]["conversations"][0]["repairs"] == list(REPAIRED.repairs)
    assert (read["problems"], read["notes"]) == (list(report.problems), list(report.notes))
    assert set(read) == {*ModelReport.__slots__, "fits", "problems", "notes"}


@pytest.mark.parametrize(
    ("size", "shown"), [(3_210_000_000, "3.2 GB"), (51_299_000, "51.3 MB"), (900_000, "0.9 MB")]
)
def test_amounts_have_units(size: int, shown: str) -> None:
    assert amount(size) == shown


def test_an_engine_reports_its_models_in_their_order() -> None:
    engine = FusionEngine(
        [ScriptedBackend("b", "", context_window=99), ScriptedBackend("a", "", context_window=7)]
    )
    assert engine.report() == (
        ModelReport("b", context_window=99),
        ModelReport("a", context_window=7),
    )
