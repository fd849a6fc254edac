"""What LlamaIndex applications do, on SpecFuseLLM and on HuggingFaceLLM with the same weights.

python -m benchmarks.frameworks.llamaindex_conformance

Puts the checks of ``benchmarks.frameworks.llamaindex_matrix`` to the bundled models: fused by
``SpecFuseLLM``, and each alone in ``HuggingFaceLLM`` of llama-index-llms-huggingface, which must be
installed for it (``pip install llama-index-llms-huggingface``); without it, its columns are left
out. Both are told what they need: the right tokenizer, that it is a chat model, to be greedy, the
room for an answer.

A check is passed if what comes back has the right form. Where the bundled models together are good
enough for the content, it is counted too whether that is right. Checks run in a process of their
own: one that takes longer than the limit is ended and counts as failed. Prints tables, why checks
failed, and the counts as one line of JSON.
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
SECONDS = 60.0  # the slowest check of either takes a few
_CHECKS = {check.name: check for check in CHECKS}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a check.

    Args:
        check: the check.
        formed: whether the form of what came back was right.
        right: whether its content was, too; None where it was not asked for.
        why: why not, in a line.
    """

    check: Check
    formed: bool
    right: bool | None
    why: str = ""


def _perform(subject: str, name: str, content: bool) -> None:
    llm = (
        SpecFuseLLM(max_tokens=MAX_TOKENS) if subject == FUSED else huggingface(subject, MAX_TOKENS)
    )
    perform(_CHECKS[name], llm, content=content)


def measured(calls: Limited, checks: Sequence[Check]) -> Iterator[Outcome]:
    """Each check's outcome.

    Args:
        calls: take a check's name, and whether its content must be right.
        checks: in their order.
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
    """Tables in Markdown, and why checks failed.

    Args:
        outcomes: by subject, all of the same checks.
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
    yield f"| with the right content | {able} | {' | '.join(map(str, right))} |"
    for subject, each in outcomes.items():
        failed = [o for o in each if not o.formed or o.right is False]
        yield f"\n{subject}: {'nothing failed' if not failed else ''}".rstrip()
        for outcome in failed:
            verdict = "content" if outcome.formed else "failed"
            yield f"  {verdict:>7}  {outcome.check.name}: {outcome.why}"


def record(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, dict[str, Any]]:
    """Counts by subject, and the names of the checks that failed."""
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
    parser.add_argument("subjects", nargs="*", help=f"of {', '.join(names)}; all of them")
    parser.add_argument("--checks", nargs="+", choices=list(_CHECKS), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that a check may take")
    given: Any = parser.parse_args(arguments)
    if unknown := set(given.subjects) - set(names):
        parser.error(f"no subject is named {', '.join(sorted(unknown))}; of {', '.join(names)}")
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
