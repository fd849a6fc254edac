"""Runs typical LlamaIndex applications on SpecFuseLLM and HuggingFaceLLM, with the same weights.

Run: ``python -m benchmarks.frameworks.llamaindex_conformance``

It runs the checks of ``benchmarks.frameworks.llamaindex_matrix`` on the bundled models: fused by
``SpecFuseLLM``, and each alone in ``HuggingFaceLLM``. The latter needs llama-index-llms-huggingface
(``pip install llama-index-llms-huggingface``); otherwise its columns are left out. Both classes get
the correct tokenizer, the chat template, greedy decoding and the same token limit.

A check passes if the result has the correct form. If the bundled models together can solve it, the
report also counts whether the content is correct. Checks run in another process; one that exceeds
the time limit is stopped and counts as failed. The benchmark prints tables, the reasons of
failures, and the counts as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.frameworks.huggingface_llm import MISSING, MODELS, has_huggingface, huggingface
from benchmarks.frameworks.limited import Limited
from benchmarks.frameworks.llamaindex_matrix import CHECKS, Check, perform
from llamaindex_specfuse import SpecFuseLLM

__all__ = ["Outcome", "main", "measured", "report"]

FUSED = "SpecFuseLLM"
MAX_TOKENS = 128
SECONDS = 60.0  # the slowest check takes a few seconds
_CHECKS = {check.name: check for check in CHECKS}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a check.

    Args:
        check: the check.
        formed: whether the result had the correct form.
        right: whether its content was correct; None if the content was not checked.
        why: the reason of a failure, in one line.
    """

    check: Check
    formed: bool
    right: bool | None
    why: str = ""


def _perform(subject: str, name: str, content: bool) -> None:
    # Small models do not end an answer about a world that they do not know.
    fused = SpecFuseLLM(max_tokens=MAX_TOKENS, on_limit="close")
    llm = fused if subject == FUSED else huggingface(subject, MAX_TOKENS)
    perform(_CHECKS[name], llm, content=content)


def measured(calls: Limited, checks: Sequence[Check]) -> Iterator[Outcome]:
    """Run each check and yield its outcome.

    Args:
        calls: runs a check by its name, and by whether its content must be correct.
        checks: the checks, in order.
    """
    for check in checks:
        why = calls.why_not(check.name, check.bundled)
        if why is None:
            yield Outcome(check, True, True if check.bundled else None)
        elif not check.bundled:
            yield Outcome(check, False, None, why)
        else:
            form = calls.why_not(check.name, False)
            yield Outcome(check, form is None, False, form or why)


def report(outcomes: Mapping[str, Sequence[Outcome]]) -> Iterator[str]:
    """Yield the lines of the report: Markdown tables and the reasons of failures.

    Args:
        outcomes: outcomes by model, all of the same checks.
    """
    checks = [outcome.check for outcome in next(iter(outcomes.values()))]
    groups = list(dict.fromkeys(check.group for check in checks))
    yield f"| checks passed | of | {' | '.join(outcomes)} |"
    yield "|---|---|" + "---|" * len(outcomes)
    for group in (*groups, None):
        of = sum(group in (None, check.group) for check in checks)
        passed = (
            sum(o.formed for o in each if group in (None, o.check.group))
            for each in outcomes.values()
        )
        yield f"| {group or '**all**'} | {of} | {' | '.join(map(str, passed))} |"
    able = sum(check.bundled for check in checks)
    right = (sum(o.right is True for o in each) for each in outcomes.values())
    yield f"| with correct content | {able} | {' | '.join(map(str, right))} |"
    for subject, each in outcomes.items():
        failed = [o for o in each if not o.formed or o.right is False]
        yield f"\n{subject}: {'nothing failed' if not failed else ''}".rstrip()
        for outcome in failed:
            verdict = "content" if outcome.formed else "failed"
            yield f"  {verdict:>7}  {outcome.check.name}: {outcome.why}"


def record(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, dict[str, Any]]:
    """Return the counts by model, and the names of the checks that failed."""
    return {
        subject: {
            "checks": len(each),
            "passed": sum(o.formed for o in each),
            "right": sum(o.right is True for o in each),
            "of": sum(o.check.bundled for o in each),
            "failures": [o.check.name for o in each if not o.formed],
            "wrong": [o.check.name for o in each if o.formed and o.right is False],
        }
        for subject, each in outcomes.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    prog = "python -m benchmarks.frameworks.llamaindex_conformance"
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").splitlines()[0])
    names = [FUSED, *MODELS]
    parser.add_argument(
        "subjects", nargs="*", help=f"models to check: {', '.join(names)}; all by default"
    )
    parser.add_argument(
        "--checks",
        nargs="+",
        choices=list(_CHECKS),
        metavar="NAME",
        help="checks to run; all by default",
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="time limit of a check, in seconds"
    )
    given: Any = parser.parse_args(arguments)
    if unknown := set(given.subjects) - set(names):
        parser.error(
            f"no model is named {', '.join(sorted(unknown))}; use one of: {', '.join(names)}"
        )
    subjects = list(dict.fromkeys(given.subjects or names))
    left_out = [] if has_huggingface() else [name for name in subjects if name != FUSED]
    outcomes: dict[str, list[Outcome]] = {}
    for subject in subjects:
        if subject in left_out:
            continue
        label = subject if subject == FUSED else f"HuggingFaceLLM, {subject}"
        print(label, file=sys.stderr)
        with Limited(partial(_perform, subject), given.seconds) as calls:
            checks = [_CHECKS[name] for name in given.checks or _CHECKS]
            outcomes[label] = []
            for outcome in measured(calls, checks):
                outcomes[label].append(outcome)
                print(f"  {outcome.check.name}: {outcome.why or 'passed'}", file=sys.stderr)
    if outcomes:
        for line in report(outcomes):
            print(line)
    if left_out:
        print(f"\n{MISSING}")
    print(json.dumps(record(outcomes)))


if __name__ == "__main__":
    main()
