"""Which context method is right for a model: measured when it is loaded, never told by its name.

Most failures are silent: a mask of the wrong kind, or a cache that cannot be rewound, gives
plausible logits. Each method plays a small scene, from the fastest to the slowest, and the first
whose log-probabilities equal those of plain forward passes is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from specfuse_core.errors import ModelLoadError
from specfuse_core.hf.cache import holds_rows_only
from specfuse_core.hf.context import Context, Path
from specfuse_core.hf.rows import CroppedContext, PackedContext
from specfuse_core.hf.runner import MaskForm, Runner
from specfuse_core.hf.states import RereadContext, SnapshotContext

__all__ = ["METHODS", "ContextFactory", "MethodChoice", "choose_method", "deviation"]

ContextFactory = Callable[[Runner, int], Context]

_FORMS: tuple[MaskForm, ...] = ("both", "window", "full")

#: From the fastest to the slowest.
METHODS: dict[str, ContextFactory] = {
    **{f"packed-{form}": partial(PackedContext, form=form) for form in _FORMS},
    "cropped": CroppedContext,
    "snapshot": SnapshotContext,
    "stepwise": partial(SnapshotContext, stepwise=True),
    "reread": RereadContext,
}

_PREFIX = 30
#: Shorter than the prefix, so that a window that is not observed shows.
_WINDOW = 16
#: Largest difference of a log-probability that rounding explains in full precision.
_TOLERANCE = 5e-4
#: How many times the model's own step-by-step rounding is allowed in half precision.
_HALF_FACTOR = 4.0
#: Characters of an error's text that are kept.
_SHOWN = 160
#: What a model raises when it is called in a way that it was not made for.
_REFUSALS = (
    RuntimeError,
    TypeError,
    ValueError,
    IndexError,
    AttributeError,
    KeyError,
    AssertionError,
)


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """The method of a model, and why no faster one is used.

    Args:
        method: a name in ``METHODS``.
        failures: why each faster method failed, by its name.
        slow: whether a model of its kind should run with a faster method.
    """

    method: str
    failures: Mapping[str, str]
    slow: bool


def choose_method(runner: Runner) -> MethodChoice:
    """The fastest method in ``METHODS`` that is right for the model.

    Raises:
        ModelLoadError: if even plain forward passes fail or give no finite logits.
    """
    try:
        with _short_window(runner):
            reference = _reference(runner, _ids(runner, 0, _PREFIX))
    except _REFUSALS as error:
        raise ModelLoadError(f"{runner.name} cannot run a plain forward pass: {error}") from error
    if not bool(torch.isfinite(reference).any()):
        raise ModelLoadError(
            f"{runner.name} gives no finite logits; check that the weights are complete, or load "
            "them with another dtype."
        )
    tolerance = _tolerance(runner)
    failures: dict[str, str] = {}
    for method in _worth_trying(runner):
        failure = _failure(runner, method, tolerance)
        if failure is None:
            return MethodChoice(method, failures, _is_slow(runner, method))
        failures[method] = failure
    return MethodChoice("reread", failures, slow=True)


def deviation(runner: Runner, method: ContextFactory) -> float:
    """Largest difference of any log-probability between ``method`` and plain forward passes.

    The scene: a prefix; a drafted line; candidates that begin alike, that go on from the draft,
    and that branch inside the prefix; one that is adopted, drafted on from, and cut back.
    Infinite if the model gives values that are not finite.

    Raises:
        Exception: one of several kinds, if the model refuses the method.
    """
    with _short_window(runner), torch.inference_mode():
        return _play(runner, method(runner, 0))


def _worth_trying(runner: Runner) -> Iterator[str]:
    """The methods but the last, from the fastest to the slowest."""
    for method in METHODS:
        # Masks of several forms are all alike for a model without windows.
        alike = method.startswith("packed") and method != "packed-full" and runner.window is None
        if not alike and method != "reread":
            yield method


def _failure(runner: Runner, method: str, tolerance: float) -> str | None:
    """What is wrong with a method, None if nothing is."""
    if method.startswith("packed") and runner.has_other_windows:
        # The scene is too short to show a window that cannot be shrunk for it.
        return "its local attention cannot be expressed by masks"
    try:
        found = deviation(runner, METHODS[method])
    except _REFUSALS as error:
        first = str(error).strip().partition("\n")[0]
        return f"{type(error).__name__}: {first[:_SHOWN]}"
    if found <= tolerance:
        return None
    return f"log-probabilities are off by {found:.2g}, more than {tolerance:.2g}"


def _is_slow(runner: Runner, method: str) -> bool:
    """Whether a model of this kind should run with a faster method than this right one."""
    if method.startswith("packed"):
        return False
    _, state = runner.run(_ids(runner, 0, _PREFIX))
    if not holds_rows_only(state):
        # Such a state cannot be cut back, only copied.
        return False
    return method != "cropped" or runner.takes_trees


def _play(runner: Runner, context: Context) -> float:
    prefix = _ids(runner, 0, _PREFIX)
    a, b = _ids(runner, 100, 4), _ids(runner, 200, 5)
    worst = 0.0

    def compare(logits: Tensor, ids: list[int]) -> None:
        nonlocal worst
        expected = _reference(runner, ids)[-logits.shape[0] :]
        difference = (logits.float().log_softmax(-1) - expected.log_softmax(-1)).abs().max()
        worst = max(worst, float(difference.nan_to_num(torch.inf)))

    def last() -> Tensor:
        return context.logits_after(len(context.ids) - 1)[None]

    context.extend(prefix)
    context.mark()
    compare(last(), prefix)
    line = list(prefix)
    for token in a[:3]:
        context.extend([token])
        line.append(token)
        compare(last(), line)
    paths = [
        Path(len(line), (a[3],)),
        Path(_PREFIX, tuple(b)),
        Path(_PREFIX, (*b[:2], *a[:2])),
        Path(_PREFIX - 2, (prefix[-2], *a[1:])),
    ]
    for path, logits in zip(paths, context.branch(paths), strict=True):
        compare(logits, line[: path.start] + list(path.tokens))
    context.adopt(2)
    line = prefix + b[:2] + a[:2]
    compare(last(), line)
    for token in b[2:4]:
        context.extend([token])
        line.append(token)
        compare(last(), line)
    context.truncate(len(line) - 3)
    context.extend(b[:2])
    compare(last(), line[:-3] + b[:2])
    return worst


def _reference(runner: Runner, ids: list[int]) -> Tensor:
    logits, _ = runner.run(ids, use_cache=False)
    return logits.float()


def _tolerance(runner: Runner) -> float:
    if torch.finfo(runner.dtype).bits >= 32:
        return _TOLERANCE
    ids = _ids(runner, 0, _PREFIX + 8)
    try:
        expected = _reference(runner, ids)[-8:].log_softmax(-1)
        logits, state = runner.run(ids[:_PREFIX])
        rows = []
        for token in ids[_PREFIX:]:
            logits, state = runner.run([token], cache=state)
            rows.append(logits)
        noise = float((torch.cat(rows).float().log_softmax(-1) - expected).abs().max())
    except _REFUSALS:
        noise = 0.0
    return max(_TOLERANCE, _HALF_FACTOR * max(noise, 2e-2))


def _ids(runner: Runner, offset: int, count: int) -> list[int]:
    """Some ids of the vocabulary, always the same ones."""
    size = int(runner.config.vocab_size)
    return [(17 + 7919 * (offset + i)) % size for i in range(count)]


@contextmanager
def _short_window(runner: Runner) -> Iterator[None]:
    """Shrink the attention window while the scene is played: the real one is longer than it."""
    if runner.window is None or runner.window <= _WINDOW:
        yield
        return
    before = runner.config.sliding_window
    runner.config.sliding_window = _WINDOW
    try:
        yield
    finally:
        runner.config.sliding_window = before
