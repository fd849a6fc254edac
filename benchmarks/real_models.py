"""Real chat templates and tokenizers under the engine, with models of random weights.

Run: ``python -m benchmarks.real_models DIRECTORY``. The directory has ``templates/*.jinja`` and
``tokenizers/*/tokenizer.json``; nothing of it belongs to this repository. The last line is one
JSON object:

- ``templates``: every template with every kind of conversation (``benchmarks.prompts``) beside the
  tokenizer's own rendering. ``different`` counts prompts that differ for no known reason.
- ``forms``: the form of calls of each template, and whether a call that a model writes in it
  reaches the caller.
- ``tokenizers``: texts that grow in random pieces, control tokens in texts, and byte tables.
- ``answers``: a mixed ensemble in the real vocabularies; the largest difference of any score from
  plain forward passes over the whole text.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.prompts.comparison import compare
from benchmarks.prompts.conversations import KINDS
from benchmarks.prompts.ensembles import largest_deviation
from benchmarks.prompts.forms import reaches
from benchmarks.prompts.identities import identities
from benchmarks.prompts.vocabularies import made_for, real_tokenizers
from specfuse_core.errors import FusionError
from specfuse_core.prompts.template import ChatTemplate


def templates(directory: Path) -> dict[str, Any]:
    """How the prompts of every template compare, and which forms of calls they have."""
    outcomes: Counter[str] = Counter()
    plain: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    forms: Counter[str] = Counter()
    failed: list[str] = []
    for path in sorted(directory.glob("templates/*.jinja")):
        text = path.read_text(encoding="utf-8")
        tokenizer = made_for(text)
        try:
            owner = ChatTemplate(tokenizer, None, {}, [])
        except FusionError as error:
            forms["refused"] += 1
            print(f"{path.stem}: refused: {error}", flush=True)
            continue
        form = owner.manner.form
        name = "common" if owner.manner.common else form.name if form else "instruction"
        forms[name] += 1
        found = {kind.name: compare(tokenizer, owner, kind) for kind in KINDS}
        outcomes.update(comparison.outcome for comparison in found.values())
        plain[found["question"].outcome] += 1
        reasons.update(one.reason for one in found.values() if one.outcome == "by design")
        different = [kind for kind, one in found.items() if one.outcome == "different"]
        called = reaches(owner)
        failed += [] if called else [path.stem]
        counts = dict(Counter(one.outcome for one in found.values()))
        print(f"{path.stem}: {name}, call {called}, {counts} {different or ''}", flush=True)
    return {
        "templates": {"plain": dict(plain), "all": dict(outcomes), "by_design": dict(reasons)},
        "forms": {"found": dict(forms), "calls_lost": failed},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="holds templates/ and tokenizers/")
    directory = parser.parse_args().directory
    found = templates(directory)
    tokenizers = real_tokenizers(directory)
    found["tokenizers"] = {name: identities(made) for name, made in tokenizers.items()}
    print(found["tokenizers"], flush=True)
    found["answers"] = largest_deviation(directory, tokenizers)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
