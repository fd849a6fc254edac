"""Measures which context method is correct for a model, when the model is loaded.

Most failures are silent: a wrong mask, or a cache that cannot be cut back, gives plausible logits.
So each method runs a test sequence, from the fastest method to the slowest. The first one whose
log-probabilities equal those of plain forward passes is chosen. The name of a model plays no part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from specfuse_core.errors import ModelLoadError
from specfuse_core.hf.agreement import check_embedding
from specfuse_core.hf.cache import holds_rows_only
from specfuse_core.hf.context import Context, Path
from specfuse_core.hf.crossing import CrossingContext
from specfuse_core.hf.kinds import check_direction
from specfuse_core.hf.rows import CroppedContext, PackedContext
from specfuse_core.hf.runner import MaskForm, Runner
from specfuse_core.hf.states import RereadContext, SnapshotContext

__all__ = ["METHODS", "ContextFactory", "MethodChoice", "choose_method", "deviation"]

ContextFactory = Callable[[Runner, int], Context]

_FORMS: tuple[MaskForm, ...] = ("both", "window", "full")


def _context(make: ContextFactory, runner: Runner, capacity: int) -> Context:
    boundary = runner.rope.boundary
    if boundary is None:
        return make(runner, capacity)
    return CrossingContext(make, runner, capacity, boundary)


#: All context methods, from the fastest to the slowest.
METHODS: dict[str, ContextFactory] = {
    **{f"packed-{form}": partial(_context, partial(PackedContext, form=form)) for form in _FORMS},
    "cropped": partial(_context, CroppedContext),
    "snapshot": partial(_context, SnapshotContext),
    "stepwise": partial(_context, partial(SnapshotContext, stepwise=True)),
    "reread": partial(_context, RereadContext),
}

_PREFIX = 30
#: Shorter than the prefix, so that the test detects a window that is ignored.
_WINDOW = 16
#: Length of the line before the first paths of the test sequence, so that some of them cross the
#: boundary of length-dependent position encodings, and the line is cut back to it.
_BOUNDARY = _PREFIX + 3
#: Maximum difference of log-probabilities that rounding can cause in float32.
_TOLERANCE = 5e-4
#: In half precision or with quantized weights, the tolerance is this multiple of the error of
#: step-by-step decoding.
_HALF_FACTOR = 4.0
#: Maximum length of the text of an error.
_SHOWN = 160
#: Errors that a model may raise if it does not support a method.
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
    """The method of a model, and the reasons why it is not a faster one.

    Args:
        method: a name in ``METHODS``.
        failures: reason why each faster method failed, by the name of the method.
        slow: whether a model of this kind should be able to use a faster method.
    """

    method: str
    failures: Mapping[str, str]
    slow: bool


def choose_method(runner: Runner) -> MethodChoice:
    """Choose the fastest method in ``METHODS`` that is correct for the model.

    Raises:
        ModelLoadError: if a plain forward pass fails or gives no finite logits, or if the model is
            not a causal language model.
    """
    check_direction(runner.name, runner.model.config)
    check_embedding(runner)
    try:
        with _shrunk(runner):
            reference = _reference(runner, _ids(runner, 0, _PREFIX))
    except _REFUSALS as error:
        raise ModelLoadError(
            f"{runner.name} cannot run a plain forward pass ({error}); check that it is a causal "
            "language model and that its files are complete."
        ) from error
    if not bool(torch.isfinite(reference).any()):
        raise ModelLoadError(
            f"{runner.name} gives no finite logits; check that the weights are complete or load "
            "them with another dtype."
        )
    tolerance = _tolerance(runner)
    _check_causal(runner, reference, tolerance)
    failures: dict[str, str] = {}
    for method in _worth_trying(runner):
        failure = _failure(runner, method, tolerance)
        if failure is None:
            return MethodChoice(method, failures, _is_slow(runner, method))
        failures[method] = failure
    return MethodChoice("reread", failures, slow=True)


def deviation(runner: Runner, method: ContextFactory) -> float:
    """Return the maximum difference of log-probabilities between ``method`` and plain passes.

    The test sequence has a prefix and a drafted line. Then there are paths that begin alike, that
    continue the draft, and that branch inside the prefix. One path is adopted, continued by a draft
    and cut back.

    Returns:
        The maximum absolute difference; infinite if the model gives values that are not finite.

    Raises:
        Exception: an error of the model, if it does not support the method.
    """
    with _shrunk(runner), torch.inference_mode():
        return _play(runner, method(runner, 0))


def _check_causal(runner: Runner, reference: Tensor, tolerance: float) -> None:
    """Check that the logits after a text do not depend on what follows it.

    Args:
        runner: the model.
        reference: the logits of the beginning of the test sequence.
        tolerance: maximum difference of log-probabilities that rounding can cause.

    Raises:
        ModelLoadError: if they do, as in BERT.
    """
    half = _PREFIX // 2
    # Texts of one length: the same kernels run, so that rounding is the same, too.
    with _shrunk(runner):
        other = _reference(runner, _ids(runner, 0, half) + _ids(runner, 300, _PREFIX - half))
    same = len(reference) - _PREFIX + half
    difference = (other[:same].log_softmax(-1) - reference[:same].log_softmax(-1)).abs().max()
    if float(difference.nan_to_num(torch.inf)) > tolerance:
        raise ModelLoadError(
            f"{runner.name} is not a causal language model: the log-probabilities of a text change "
            f"by {float(difference):.2g} with what follows it; give a model that reads from left "
            "to right."
        )


def _worth_trying(runner: Runner) -> Iterator[str]:
    """Yield the methods to test, from the fastest to the slowest, without the last one."""
    for method in METHODS:
        # Without a window, all forms of masks are equal, so one of them is enough.
        alike = method.startswith("packed") and method != "packed-full" and runner.window is None
        if not alike and method != "reread":
            yield method


def _failure(runner: Runner, method: str, tolerance: float) -> str | None:
    """Return the reason why a method fails; None if it is correct."""
    if method.startswith("packed") and runner.has_other_windows:
        # The test sequence is too short to detect a window that cannot be reduced.
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
    """Whether a model of this kind should be able to use a faster method than ``method``."""
    if method.startswith("packed"):
        return False
    _, state = runner.run(_ids(runner, 0, _PREFIX))
    if not holds_rows_only(state):
        # Other states cannot be cut back, only copied.
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
    """Return the logits after each id, from forward passes over the ids up to it. ``[T, V]``"""
    boundary = runner.rope.boundary or len(ids)
    logits, _ = runner.run(ids[:boundary], use_cache=False)
    parts = [logits]
    ends = range(boundary + 1, len(ids) + 1) if runner.rope.many else [len(ids)]
    for end in ends if boundary < len(ids) else []:
        logits, _ = runner.run(ids[:end], use_cache=False)
        parts.append(logits[-1:] if runner.rope.many else logits[boundary:])
    return torch.cat(parts).float()


def _tolerance(runner: Runner) -> float:
    if torch.finfo(runner.dtype).bits >= 32 and not runner.is_quantized:
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
    """Return ``count`` fixed ids of the vocabulary."""
    size = int(runner.config.vocab_size)
    return [(17 + 7919 * (offset + i)) % size for i in range(count)]


@contextmanager
def _shrunk(runner: Runner) -> Iterator[None]:
    """Reduce what is longer than the test sequence temporarily: windows and boundaries."""
    with _short_window(runner), runner.rope.shrunk(_BOUNDARY):
        yield


@contextmanager
def _short_window(runner: Runner) -> Iterator[None]:
    """Reduce the attention window temporarily, because it is longer than the test sequence."""
    if runner.window is None or runner.window <= _WINDOW:
        yield
        return
    before = runner.config.sliding_window
    runner.config.sliding_window = _WINDOW
    try:
        yield
    finally:
        runner.config.sliding_window = before
