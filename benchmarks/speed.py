"""Compares fused generation with plain ``generate`` and with the algorithm of the authors' code.

Run: ``python -m benchmarks.speed`` (all cells, about an hour) or with ``--quick`` (prefix 512,
answer 64). What is compared runs in turns in this process, on one thread. The numbers are ratios of
process CPU time, which equals wall time on an idle machine, and medians over the repetitions. The
last line is a JSON object.

- ``fused_over_generate``: CPU time of the fused answer, divided by the sum over the models of
  ``generate`` for as many tokens as the answer has in the model's tokenizer. There are three
  ratios, which differ in what runs the linear layers: PyTorch (usually MKL) on both sides
  (``plain``), oneDNN on both sides (``onednn``), or oneDNN for specfuse and PyTorch for
  ``generate`` (``as_shipped``). The first two are the cost of fusion itself.
- ``naive_over_fused``: CPU time if all ids are run again in each round, as in the authors' code,
  divided by that of the fused answer, ``plain`` and ``as_shipped``. Both must give the same text.
- ``threads``: wall time of the sequential engine, divided by that with one thread per model.
- ``first_segment``: wall time to the first segment with one thread per model, divided by the
  slowest model's own prefill and draft. The critical path (each model's own time, as if each had
  its own core) is for machines with fewer cores than models.
- ``constrained``: CPU time per token of a constrained fused answer, divided by that of an
  unconstrained one.
- ``closing``: milliseconds for finding the end of an answer, per call and per answer. With
  ``--constrained`` only this and the line above are measured.
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
from benchmarks.overhead import bundled_overhead, closing_cost, large_vocabulary_overhead
from specfuse_core import FusionConfig, FusionEngine, Request
from specfuse_core.hf.linears import with_onednn

_CONFIG = FusionConfig(method="specem")
#: The implementations of the linear layers, with their names.
_KERNELS = {
    "plain": "MKL" if torch.backends.mkl.is_available() else "PyTorch's own",
    "onednn": "oneDNN",
}


def _cpu(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Run ``work`` and return its CPU seconds, wall seconds and result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.process_time() - cpu, time.perf_counter() - wall, result


class Bench:
    """The models, and the backends over them.

    Args:
        count: number of models.
    """

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
        """Measure the ratios of one cell.

        Args:
            k: number of models.
            prefix: length of the prompt, in tokens.
            answer: length of the answer, in tokens.
            repeats: number of repetitions.
        """
        prompt = prompt_of(prefix, self.fast[0])
        fused = {
            kernel: FusionEngine(backends[:k], _CONFIG)
            for kernel, backends in self.backends.items()
        }
        slow = FusionEngine(self.slow[:k], _CONFIG)
        options = {"max_new_tokens": answer, "seed": 0}
        found = fused["onednn"].generate(prompt, **options)
        lengths = [backend.count_tokens(found.text) for backend in self.fast[:k]]
        generate: dict[str, list[float]] = {kernel: [] for kernel in _KERNELS}
        cached: dict[str, list[float]] = {kernel: [] for kernel in _KERNELS}
        reference = []
        for i in range(repeats):
            for kernel in _KERNELS:
                alone = partial(self._generate, kernel, k, prompt, lengths)
                generate[kernel].append(_cpu(alone)[0])
                cached[kernel].append(self._timed(fused[kernel], prompt, found.text, options))
            # The naive engine is slow and its time varies little, so repeat it less often.
            if i < max(1, repeats - 2):
                reference.append(self._timed(slow, prompt, found.text, options))
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

    def _timed(
        self, engine: FusionEngine, prompt: str, text: str, options: dict[str, Any]
    ) -> float:
        """CPU seconds of an answer, which must be ``text``."""
        cpu, _, answer = _cpu(partial(engine.generate, prompt, **options))
        if answer.text != text:
            raise RuntimeError("the engines gave different texts")
        return cpu

    def threads(self, k: int, prefix: int, answer: int, repeats: int) -> dict[str, Any]:
        """Measure the speedup of one thread per model over the sequential engine."""
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
        """Measure the time to the first segment, relative to the slowest model's own."""
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
    """Format the three ratios of a cell, with the implementations of the linear layers."""
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
    parser.add_argument(
        "--quick", action="store_true", help="measure only prefix 512 and answer 64"
    )
    parser.add_argument(
        "--cell",
        nargs=3,
        type=int,
        action="append",
        metavar=("MODELS", "PREFIX", "ANSWER"),
        help="measure only this cell; may be repeated",
    )
    parser.add_argument(
        "--constrained", action="store_true", help="measure only the cost of constraints"
    )
    parser.add_argument("--repeats", type=int, default=3, help="number of repetitions")
    args = parser.parse_args()
    torch.set_num_threads(1)
    constrained = [bundled_overhead(args.repeats), large_vocabulary_overhead(args.repeats + 2)]
    print(constrained, flush=True)
    closing = closing_cost(args.repeats)
    print(closing, flush=True)
    if args.constrained:
        print(json.dumps({"constrained": constrained, "closing": closing}))
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
    print(json.dumps(found | {"constrained": constrained, "closing": closing}))


if __name__ == "__main__":
    main()
