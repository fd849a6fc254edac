"""Each context method gives the logits of plain forward passes."""

from __future__ import annotations

import random
from functools import cache

import pytest
import tiny
import torch
from torch import Tensor

from specfuse_core.hf.cache import FullLengthCache
from specfuse_core.hf.context import Context, Path
from specfuse_core.hf.probe import METHODS
from specfuse_core.hf.runner import Runner

#: A method, and an architecture for which it is right.
CASES = [
    ("packed-full", "llama"),
    ("packed-window", "mistral"),
    ("packed-both", "gemma3"),
    ("cropped", "gemma2"),
    ("cropped", "bloom"),
    ("snapshot", "lfm2"),
    ("snapshot", "gpt2"),
    ("stepwise", "mamba"),
    ("reread", "qwen3"),
    ("packed-full", "phi3"),
    ("cropped", "phi3"),
    ("reread", "phi3"),
    ("packed-full", "dynamic"),
]
NAMES = ["-".join(case) for case in CASES]
#: Of a log-probability; mamba's own steps round this much, and what is wrong is wrong by 0.02.
LIMIT = 2e-3


#: Most lines of the tests are longer, and many begin shorter.
BOUNDARY = 24


@cache
def runner(architecture: str) -> Runner:
    if architecture == "phi3":
        return Runner(tiny.model("phi3", 60, original_max_position_embeddings=BOUNDARY))
    if architecture == "dynamic":
        made = Runner(tiny.model("llama", 60, **tiny.dynamic(BOUNDARY)))
        made.rope.told = True
        return made
    return Runner(tiny.model(architecture, 60))


def plain(made: Runner, line: list[int], first: int) -> Tensor:
    """The logits after each id of a line from ``first`` on, without a cache."""
    if made.rope.boundary is None:
        return made.run(line, use_cache=False)[0][first:]
    ends = range(first + 1, len(line) + 1)
    return torch.stack([made.run(line[:end], use_cache=False)[0][-1] for end in ends])


def assert_true_to_the_line(context: Context, line: list[int]) -> None:
    """Assert that all stored logits equal those of a plain forward pass over ``line``."""
    assert context.ids == line
    known = [at for at in range(len(line) + 40) if context.knows(at)]
    assert known[-1] == len(line) - 1
    after = plain(context._runner, line, known[0])
    for at in known:
        assert_close(context.logits_after(at), after[at - known[0]])


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    difference = found.float().log_softmax(-1) - expected.float().log_softmax(-1)
    assert float(difference.abs().max()) <= LIMIT


@pytest.mark.parametrize(("method", "architecture"), CASES, ids=NAMES)
def test_any_play_of_extending_branching_adopting_and_cutting_is_right(
    method: str, architecture: str
) -> None:
    for seed in range(4):
        draw = random.Random(seed)

        def ids(most: int, draw: random.Random = draw) -> list[int]:
            return [draw.randrange(60) for _ in range(draw.randint(1, most))]

        context = METHODS[method](runner(architecture), draw.choice([0, 7, 200]))
        line = ids(30)
        context.extend(line)
        for _ in range(14):
            move = draw.choice(["extend", "mark", "truncate", "forget", "branch", "branch"])
            if move == "extend":
                more = ids(6)
                context.extend(more)
                line = line + more
            elif move == "mark":
                context.mark()
            elif move == "truncate" and len(line) > 3:
                length = draw.randint(max(1, len(line) - 12), len(line))
                context.truncate(length)
                line = line[:length]
                if not context.knows(length - 1):
                    context.truncate(length - 1) if length > 1 else None
                    context.extend(line[len(context.ids) :] or ids(1))
                    line = list(context.ids)
            elif move == "forget":
                context.forget(len(line) - 1)
                assert [at for at in range(len(line)) if context.knows(at)] == [len(line) - 1]
            elif move == "branch":
                starts = [draw.randint(max(1, len(line) - 9), len(line)) for _ in range(4)]
                paths = [Path(start, tuple(ids(7))) for start in starts]
                paths.append(Path(paths[0].start, (*paths[0].tokens[:2], *ids(2))))
                for path, logits in zip(paths, context.branch(paths), strict=True):
                    whole = [*line[: path.start], *path.tokens]
                    assert_close(logits, plain(context._runner, whole, path.start))
                assert context.ids == line
                if draw.random() < 0.6:
                    index = draw.randrange(len(paths))
                    context.adopt(index)
                    line = [*line[: paths[index].start], *paths[index].tokens]
            assert_true_to_the_line(context, line)
        context.release()
        assert context.ids == []


@pytest.mark.parametrize(("method", "architecture"), CASES, ids=NAMES)
def test_branching_costs_one_pass_where_it_can(method: str, architecture: str) -> None:
    context = METHODS[method](runner(architecture), 64)
    context.extend(list(range(20)))
    context.mark()
    before = context.passes
    context.branch([Path(20, (1, 2)), Path(20, (1, 3)), Path(18, (4, 5))])
    assert context.one_pass == method.startswith("packed")
    assert (context.passes - before == 1) == context.one_pass


def test_paths_that_begin_alike_are_run_once() -> None:
    context = METHODS["packed-full"](runner("llama"), 64)
    context.extend(list(range(20)))
    lengths: list[int] = []
    run = context._run
    context._run = lambda ids, **options: lengths.append(len(ids)) or run(ids, **options)
    context.branch([Path(20, (1, 2, 3)), Path(20, (1, 2, 4)), Path(20, (1,)), Path(19, (1, 2))])
    assert lengths == [4 + 2]


def rows(cache_: FullLengthCache) -> list[Tensor]:
    """Return the keys and values in use, of every layer."""
    return [buffer[:, :, : layer.length] for layer in cache_.layers for buffer in layer.buffers]


def test_the_cache_grows_as_needed_and_keeps_its_rows() -> None:
    model = runner("llama")
    small, large = FullLengthCache(1), FullLengthCache(500)
    for cache_ in (small, large):
        for start in range(0, 60, 20):
            model.run(range(start, start + 20), cache=cache_, positions=range(start, start + 20))
    assert all(layer.capacity >= 60 for layer in small.layers)
    assert all(layer.capacity == 500 for layer in large.layers)
    assert all(layer.get_seq_length() == 60 for layer in small.layers)
    for mine, other in zip(rows(small), rows(large), strict=True):
        assert mine.shape[2] == 60
        assert torch.equal(mine, other)


@torch.inference_mode()
def test_rows_can_be_taken_out_put_back_and_moved() -> None:
    model = runner("llama")
    cache_ = FullLengthCache(64)
    model.run(range(30), cache=cache_, positions=range(30))
    before = [states.clone() for states in rows(cache_)]
    taken = cache_.take(10, 30)
    cache_.truncate(10)
    assert all(layer.get_seq_length() == 10 for layer in cache_.layers)
    cache_.put(10, taken)
    for found, states in zip(rows(cache_), before, strict=True):
        assert torch.equal(found, states)
    # Rows that overlap the place where they go.
    cache_.move([12, 11, 20, 29], 11)
    for found, states in zip(rows(cache_), before, strict=True):
        expected = torch.cat([states[:, :, :11], states[:, :, [12, 11, 20, 29]]], dim=2)
        assert torch.equal(found, expected)


def test_the_context_window_is_found_under_any_of_its_names() -> None:
    assert runner("llama").context_window == 512
    assert runner("gpt2").context_window == 512
    assert runner("mamba").context_window >= 100_000


def test_only_windowed_layers_make_a_window() -> None:
    assert runner("llama").window is None
    assert runner("mistral").window == 24
    assert runner("gemma3").window == 24
    config = {**tiny._SMALL, "sliding_window": 24, "use_sliding_window": False}
    assert Runner(tiny.model("qwen2", 60, **config)).window is None
