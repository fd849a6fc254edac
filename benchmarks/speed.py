"""Fused generation against plain ``generate`` and against the authors' cost structure.

Run: ``python -m benchmarks.speed`` (all cells, about an hour) or ``--quick`` (prefix 512, answer
64). Everything that is compared runs side by side in this process, in turns, on one thread; the
numbers are ratios of process CPU time (which equals wall time on an idle machine), medians over
the repetitions. The last line is one JSON object.

- ``fused_over_generate``: the fused answer against the sum of each model's own ``generate`` of
  as many tokens as the answer has for it.
- ``naive_over_fused``: everything run again each round, against the fused answer; the texts are
  asserted to be equal.

Both are what the same work costs with transformers as it is: ``generate``, and the authors' loop
over plain models. ``--plain`` takes oneDNN's linear layers away from the fused side too, which
leaves what fusing itself costs, and what caches alone save.

- ``threads``: the sequential engine's wall time over that with one Python thread per model.
- ``first_segment``: wall time to the first segment with one thread per model, over the slowest
  model's own prefill and draft; on a machine with fewer cores than models also the critical path
  (each model's own seconds, as if each had a core).
- ``constrained``: a constrained fused answer against an unconstrained one, CPU time per token
  (``--constrained`` measures nothing else).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from benchmarks.hf.ensemble import MODELS, ScriptedLocalBackend, build, prompt_of
from benchmarks.overhead import bundled_overhead, large_vocabulary_overhead
from specfuse_core import FusionConfig, FusionEngine, Request

_CONFIG = FusionConfig(method="specem")


def _cpu(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU seconds, wall seconds and result of ``work``."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.process_time() - cpu, time.perf_counter() - wall, result


class Bench:
    """The models, and the engines over the first K of them."""

    def __init__(self, count: int, *, plain: bool = False) -> None:
        self.pairs = [(name, *build(name)) for name in list(MODELS)[:count]]
        self.fast = [self._backend(i, onednn=not plain) for i in range(count)]
        self.slow = [self._backend(i, reencode=True, onednn=False) for i in range(count)]
        self.pool = ThreadPoolExecutor(count)

    def _backend(
        self, i: int, *, reencode: bool = False, onednn: bool = True
    ) -> ScriptedLocalBackend:
        name, model, tokenizer = self.pairs[i]
        return ScriptedLocalBackend(name, model, tokenizer, i, reencode=reencode, onednn=onednn)

    def cell(self, k: int, prefix: int, answer: int, repeats: int) -> dict[str, Any]:
        """All ratios for K models, a prefix and an answer of so many tokens."""
        prompt = prompt_of(prefix, self.fast[0])
        fused = FusionEngine(self.fast[:k], _CONFIG)
        slow = FusionEngine(self.slow[:k], _CONFIG)
        text = fused.generate(prompt, max_new_tokens=answer, seed=0).text
        lengths = [backend.count_tokens(text) for backend in self.fast[:k]]
        generate, cached, cached_wall, reference = [], [], [], []
        for i in range(repeats):
            generate.append(_cpu(partial(self._generate, k, prompt, lengths))[0])
            cpu, wall, result = _cpu(partial(fused.generate, prompt, max_new_tokens=answer, seed=0))
            cached.append(cpu)
            cached_wall.append(wall)
            # Slow and steady: fewer repetitions do.
            if i < max(1, repeats - 2):
                cpu, _, again = _cpu(partial(slow.generate, prompt, max_new_tokens=answer, seed=0))
                if again.text != text or result.text != text:
                    raise RuntimeError("the engines do not agree on the text")
                reference.append(cpu)
        median = statistics.median
        return {
            "models": k,
            "prefix": prefix,
            "answer": answer,
            "rounds": len(result.rounds),
            "fused_over_generate": round(
                median(c / g for c, g in zip(cached, generate, strict=True)), 3
            ),
            "fused_cpu_s": round(median(cached), 3),
            "fused_wall_s": round(median(cached_wall), 3),
            "generate_cpu_s": round(median(generate), 3),
            "naive_over_fused": round(median(reference) / median(cached), 2),
        }

    def threads(self, k: int, prefix: int, answer: int, repeats: int) -> dict[str, Any]:
        """Wall time of the sequential engine over that with one thread per model."""
        prompt = prompt_of(prefix, self.fast[0])
        engines = [
            FusionEngine(self.fast[:k], _CONFIG),
            FusionEngine(self.fast[:k], _CONFIG, executor=self.pool),
        ]
        walls: list[list[float]] = [[], []]
        for _ in range(repeats):
            for engine, found in zip(engines, walls, strict=True):
                work = partial(engine.generate, prompt, max_new_tokens=answer, seed=0)
                found.append(_cpu(work)[1])
        ratio = statistics.median(a / b for a, b in zip(*walls, strict=True))
        return {"models": k, "prefix": prefix, "answer": answer, "speedup": round(ratio, 2)}

    def first_segment(self, k: int, prefix: int, repeats: int) -> dict[str, Any]:
        """Time to the first segment over the slowest model's own prefill and draft."""
        prompt = prompt_of(prefix, self.fast[0])
        engine = FusionEngine(self.fast[:k], _CONFIG, executor=self.pool)
        tokens = _CONFIG.segment_tokens
        measured, critical = [], []
        for _ in range(repeats):
            alone = max(_cpu(partial(self._generate_one, i, prompt, tokens))[1] for i in range(k))
            stream = engine.stream(prompt, max_new_tokens=64, seed=0)
            measured.append(_cpu(partial(next, stream))[1] / alone)
            stream.close()
            sessions = [backend.start(Request.of(prompt)) for backend in self.fast[:k]]
            drafts = [_cpu(partial(session.draft, tokens)) for session in sessions]
            candidates = [candidate for _, _, candidate in drafts]
            verified = [_cpu(partial(session.verify, candidates)) for session in sessions]
            path = max(wall for _, wall, _ in drafts) + max(wall for _, wall, _ in verified)
            critical.append(path / alone)
        return {
            "models": k,
            "prefix": prefix,
            "over_slowest": round(statistics.median(measured), 2),
            "critical_path_over_slowest": round(statistics.median(critical), 2),
        }

    def _generate(self, k: int, prompt: str, lengths: list[int]) -> None:
        for i in range(k):
            self._generate_one(i, prompt, lengths[i])

    def _generate_one(self, i: int, prompt: str, tokens: int) -> None:
        _, model, tokenizer = self.pairs[i]
        _generate(model, tokenizer(prompt)["input_ids"], tokens)


def _generate(model: PreTrainedModel, ids: list[int], tokens: int) -> None:
    config = GenerationConfig(
        max_new_tokens=tokens, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    input_ids = torch.tensor([ids])
    output = model.generate(
        input_ids, attention_mask=torch.ones_like(input_ids), generation_config=config
    )
    assert output.shape[1] == len(ids) + tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only prefix 512 and answer 64")
    parser.add_argument(
        "--cell",
        nargs=3,
        type=int,
        action="append",
        metavar=("MODELS", "PREFIX", "ANSWER"),
        help="only this cell; may be repeated",
    )
    parser.add_argument("--constrained", action="store_true", help="only what constraints cost")
    parser.add_argument("--plain", action="store_true", help="the fused side without oneDNN too")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    constrained = [bundled_overhead(args.repeats), large_vocabulary_overhead(args.repeats + 2)]
    print(constrained, flush=True)
    if args.constrained:
        print(json.dumps({"constrained": constrained}))
        return
    grid = [(k, p, n) for k in (1, 2, 3, 5) for p in (64, 512, 2048) for n in (64, 256, 512)]
    if args.quick:
        grid = [(1, 512, 64), (3, 512, 64)]
    elif args.cell:
        grid = [(k, p, n) for k, p, n in args.cell]
    bench = Bench(max(3, *(k for k, _, _ in grid)), plain=args.plain)
    for name, model, _ in bench.pairs:
        print(f"{name}: {model.num_parameters() / 1e6:.0f} M parameters", flush=True)
    cells = []
    for k, prefix, answer in grid:
        cells.append(bench.cell(k, prefix, answer, args.repeats))
        print(cells[-1], flush=True)
    threads = [bench.threads(k, 512, 64, args.repeats) for k in (2, 3)]
    print(threads, flush=True)
    first = [bench.first_segment(k, 512, args.repeats) for k in (2, 3)]
    print(first, flush=True)
    found = {"plain": args.plain, "cells": cells, "threads": threads, "first_segment": first}
    print(json.dumps(found | {"constrained": constrained}))


if __name__ == "__main__":
    main()
