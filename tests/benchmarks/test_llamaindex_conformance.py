"""The checks of LlamaIndex applications are run on a class and counted."""

from __future__ import annotations

import pytest

from benchmarks.frameworks.huggingface_llm import MODELS
from benchmarks.frameworks.limited import Limited
from benchmarks.frameworks.llamaindex_conformance import (
    FUSED,
    Outcome,
    main,
    measured,
    record,
    report,
)
from benchmarks.frameworks.llamaindex_matrix import CHECKS, Check


def check(name: str, group: str = "endpoints", *, bundled: bool = True) -> Check:
    return Check(name, group, lambda llm, content: None, bundled)


class Scripted(Limited):
    """Fails for given names, depending on whether the content must be correct."""

    def __init__(self, failures: dict[tuple[str, bool], str]) -> None:
        super().__init__(print, 1.0)
        self.failures = failures
        self.asked: list[tuple[str, bool]] = []

    def why_not(self, *arguments: object) -> str | None:
        name, content = arguments
        assert isinstance(name, str)
        assert isinstance(content, bool)
        self.asked.append((name, content))
        return self.failures.get((name, content))


def test_content_is_asked_for_where_the_models_are_good_enough() -> None:
    calls = Scripted({("b", True): "wrong", ("c", True): "wrong", ("c", False): "worse"})
    checks = [check("a"), check("b"), check("c"), check("d", bundled=False)]
    found = list(measured(calls, checks))
    assert [(each.formed, each.right, each.why) for each in found] == [
        (True, True, ""),
        (True, False, "wrong"),
        (False, False, "worse"),
        (True, None, ""),
    ]
    assert calls.asked == [
        ("a", True),
        ("b", True),
        ("b", False),
        ("c", True),
        ("c", False),
        ("d", False),
    ]


def test_the_report_counts_by_group_and_tells_why() -> None:
    one, two = check("a"), check("b", "agents", bundled=False)
    outcomes = {
        "this": [Outcome(one, True, True), Outcome(two, True, None)],
        "that": [Outcome(one, True, False, "blue"), Outcome(two, False, None, "hung")],
    }
    lines = [line.strip("\n") for line in report(outcomes)]
    assert "| endpoints | 1 | 1 | 1 |" in lines
    assert "| agents | 1 | 1 | 0 |" in lines
    assert "| **all** | 2 | 2 | 1 |" in lines
    assert "| with correct content | 1 | 1 | 0 |" in lines
    assert "this: nothing failed" in lines
    assert "  content  a: blue" in lines
    assert "   failed  b: hung" in lines
    told = record(outcomes)["that"]
    assert (told["passed"], told["right"], told["of"]) == (1, 0, 1)
    assert (told["failures"], told["wrong"]) == (["b"], ["a"])


def test_an_unknown_subject_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nobody"])
    assert "nobody" in capsys.readouterr().err


def test_checks_have_names_of_their_own() -> None:
    names = [each.name for each in CHECKS]
    assert len(set(names)) == len(names) > 50
    assert FUSED not in MODELS
