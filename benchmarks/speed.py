"""Fused generation against plain ``generate`` and against the authors' cost structure.

Run: ``python -m benchmarks.speed`` (all cells, about an hour) or ``--quick`` (prefix 512, answer
64). Everything that is compared runs side by side in this process, in turns, on one thread; the
numbers are ratios of process CPU time (which equals wall time on an idle machine), medians over
the repetitions. The last line is one JSON object.

- ``fused_over_generate``: the fused answer against the sum of each model's own ``generate`` of
  as many tokens as the answer has for it. Three ratios, named by what runs the linear layers:
  ``plain`` has PyTorch's own (MKL, on most processors) on both sides, ``onednn`` has oneDNN on both
  sides, and ``as_shipped`` is specfuse with oneDNN against transformers as it is. The first two are
  what fusing itself costs.
- ``naive_over_fused``: everything run again each round, as the authors' loop does, against the
  fused answer; ``plain`` and ``as_shipped`` as above. The texts are asserted to be equal.
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
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from benchmarks.hf.ensemble import MODELS, ScriptedLocalBackend, build, prompt_of
from benchmarks.overhead import bundled_overhead, large_vocabulary_overhead
from specfuse_core import FusionConfig, FusionEngine, Request
from specfuse_core.hf.linears import with_onednn

_CONFIG = FusionConfig(method="specem")
#: What may run the linear layers, and what that is called.
_KERNELS = {
    "plain": "MKL" if torch.backends.mkl.is_available() else "PyTorch's own",
    "onednn": "oneDNN",
}


def _cpu(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU seconds, wall seconds and result of ``work``."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.process_time() - cpu, time.perf_counter() - wall, result


class Bench:
    """The models, and the engines over the first K of them."""

    def __init__(self, count: int) -> None:
        self.pairs = [(name, *build(name)) for name in list(MODELS)[:count]]
        plain = [model for _, model, _ in self.pairs]
        self.models = {"plain": plain, "onednn": [with_onednn(model) for model in plain]}
        self.backends = {
            kernel: [self._backend(i, onednn=kernel == "onednn") for i in range(count)]
            for kernel in _KERNELS
        }
        self.fast = self.backends["onednn"]
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
        fused = {
            kernel: FusionEngine(backends[:k], _CONFIG)
            for kernel, backends in self.backends.items()
        }
        slow = FusionEngine(self.slow[:k], _CONFIG)
        options = {"max_new_tokens": answer, "seed": 0}
        found = slow.generate(prompt, **options)
        lengths = [backend.count_tokens(found.text) for backend in self.fast[:k]]
        generate: dict[str, list[float]] = {kernel: [] for kernel in _KERNELS}
        cached: dict[str, list[float]] = {kernel: [] for kernel in _KERNELS}
        reference = []
        for i in range(repeats):
            for kernel in _KERNELS:
                alone = partial(self._generate, kernel, k, prompt, lengths)
                generate[kernel].append(_cpu(alone)[0])
                cpu, _, result = _cpu(partial(fused[kernel].generate, prompt, **options))
                if result.text != found.text:
                    raise RuntimeError("the engines do not agree on the text")
                cached[kernel].append(cpu)
            # Slow and steady: fewer repetitions do.
            if i < max(1, repeats - 2):
                reference.append(_cpu(partial(slow.generate, prompt, **options))[0])
        return {
            "models": k,
            "prefix": prefix,
            "answer": answer,
            "rounds": len(found.rounds),
            "fused_over_generate": {
                "plain": _ratio(cached["plain"], generate["plain"]),
                "onednn": _ratio(cached["onednn"], generate["onednn"]),
                "as_shipped": _ratio(cached["onednn"], generate["plain"]),
            },
            "fused_cpu_s": {kernel: round(median(s), 3) for kernel, s in cached.items()},
            "generate_cpu_s": {kernel: round(median(s), 3) for kernel, s in generate.items()},
            "naive_over_fused": {
                "plain": round(median(reference) / median(cached["plain"]), 2),
                "as_shipped": round(median(reference) / median(cached["onednn"]), 2),
            },
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
        speedup = _ratio(*walls)
        return {"models": k, "prefix": prefix, "answer": answer, "speedup": speedup}

    def first_segment(self, k: int, prefix: int, repeats: int) -> dict[str, Any]:
        """Time to the first segment over the slowest model's own prefill and draft."""
        prompt = prompt_of(prefix, self.fast[0])
        engine = FusionEngine(self.fast[:k], _CONFIG, executor=self.pool)
        tokens = _CONFIG.segment_tokens
        measured, critical = [], []
        for _ in range(repeats):
            alone = max(
                _cpu(partial(self._generate_one, "plain", i, prompt, tokens))[1] for i in range(k)
            )
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
            "over_slowest": round(median(measured), 2),
            "critical_path_over_slowest": round(median(critical), 2),
        }

    def _generate(self, kernel: str, k: int, prompt: str, lengths: list[int]) -> None:
        for i in range(k):
            self._generate_one(kernel, i, prompt, lengths[i])

    def _generate_one(self, kernel: str, i: int, prompt: str, tokens: int) -> None:
        tokenizer = self.pairs[i][2]
        _generate(self.models[kernel][i], tokenizer(prompt)["input_ids"], tokens)


def _ratio(above: list[float], below: list[float]) -> float:
    """The median ratio of two measurements that were taken in turns."""
    return round(median(a / b for a, b in zip(above, below, strict=True)), 3)


def _line(cell: dict[str, Any]) -> str:
    """A cell's three ratios beside each other, with the names of what ran the linear layers."""
    plain, onednn = _KERNELS["plain"], _KERNELS["onednn"]
    ratios = cell["fused_over_generate"]
    return (
        f"{cell['models']} models, {cell['prefix']} / {cell['answer']} tokens, fused / generate: "
        f"{ratios['plain']:.2f} ({plain} on both sides), "
        f"{ratios['onednn']:.2f} ({onednn} on both sides), "
        f"{ratios['as_shipped']:.2f} (specfuse with {onednn} / transformers with {plain})"
    )


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
    bench = Bench(max(3, *(k for k, _, _ in grid)))
    for name, model, _ in bench.pairs:
        print(f"{name}: {model.num_parameters() / 1e6:.0f} M parameters", flush=True)
    cells = []
    for k, prefix, answer in grid:
        cells.append(bench.cell(k, prefix, answer, args.repeats))
        print(_line(cells[-1]), cells[-1], sep="\n", flush=True)
    threads = [bench.threads(k, 512, 64, args.repeats) for k in (2, 3)]
    print(threads, flush=True)
    first = [bench.first_segment(k, 512, args.repeats) for k in (2, 3)]
    print(first, flush=True)
    found = {"cells": cells, "threads": threads, "first_segment": first}
    print(json.dumps(found | {"constrained": constrained}))


if __name__ == "__main__":
    main()
