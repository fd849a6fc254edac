"""The naive engine: it encodes and runs everything again in each round, without any cache.

Tests of the local backend compare with it. It has the same tokenization rules in a simple form, and
uses plain forward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from specfuse_core import FusionEngine
from specfuse_core.grammar.boundaries import complete_characters
from specfuse_core.hf import LocalBackend
from specfuse_core.model_report import ModelReport
from specfuse_core.request import Request
from specfuse_core.types import Candidate, Cost, Generation, Verification

#: Logits and sampled ids by what a draw depends on: the position and the ids before it. There can
#: be several: different texts can have the same ids, and a grammar forbids other tokens in each.
Draws = dict[tuple[int, tuple[int, ...]], list[tuple[torch.Tensor, int]]]


def naive_engine(engine: FusionEngine, tolerance: float) -> FusionEngine:
    """Create a naive engine over the base models of ``engine``, and record their draws.

    The naive engine repeats each draw of ``engine`` after it compared the logits. Otherwise,
    rounding could change a draw if two ids are almost equal, although both engines are correct.
    """
    backends = []
    for backend in engine.backends:
        draws: Draws = {}
        choose = backend._chooser
        backend._chooser = _made_by(_Watched, choose, draws)
        backends.append(NaiveBackend(backend, _made_by(_Replayed, choose, draws, tolerance)))
    return FusionEngine(
        backends,
        engine.config,
        drafters=engine.drafters,
        verifiers=engine.verifiers,
        weights=engine.weights,
    )


def never_ending(engine: FusionEngine) -> FusionEngine:
    """Change ``engine`` so that its models never draw an end-of-turn token."""
    for backend in engine.backends:
        backend._chooser = _made_by(_Endless, backend._chooser, sorted(backend.template.ends))
    return engine


def assert_same_answer(
    engine: FusionEngine, question: Any, tolerance: float = 1e-4, **options: Any
) -> Generation:
    """Assert that ``engine`` answers like the naive engine, round by round; return the answer."""
    naive = naive_engine(engine, tolerance)
    answer, expected = engine.generate(question, **options), naive.generate(question, **options)
    for mine, theirs in zip(answer.rounds, expected.rounds, strict=False):
        assert mine.drafters == theirs.drafters
        assert mine.candidates == theirs.candidates, f"round {mine.index}"
        assert mine.verifiers == theirs.verifiers
        for row, expected_row in zip(mine.scores, theirs.scores, strict=True):
            for score, expected_score in zip(row, expected_row, strict=True):
                assert (score is None) == (expected_score is None)
                assert score is None or abs(score - expected_score) <= tolerance
        assert mine.weights == pytest.approx(theirs.weights, abs=tolerance)
        assert mine.winner == theirs.winner, f"round {mine.index}: {mine.votes}, {theirs.votes}"
        assert mine.exited == theirs.exited
        assert mine.recalled == theirs.recalled
    assert len(answer.rounds) == len(expected.rounds)
    assert answer.text == expected.text
    assert answer.finish_reason == expected.finish_reason
    assert answer.usage.completion_tokens == expected.usage.completion_tokens
    return answer


def _made_by(kind: Any, choose: Callable[[Request], Any], *given: Any) -> Callable[[Request], Any]:
    return lambda request: kind(choose(request), *given)


class _Endless:
    """Never draws an end-of-turn token."""

    def __init__(self, chooser: Any, ends: list[int]) -> None:
        self._chooser = chooser
        self._ends = ends

    def choose(self, logits: torch.Tensor, position: int, context: Sequence[int]) -> int:
        logits = logits.clone()
        logits[self._ends] = -torch.inf
        return self._chooser.choose(logits, position, context)


class _Watched:
    """Records each draw."""

    def __init__(self, chooser: Any, draws: Draws) -> None:
        self._chooser = chooser
        self._draws = draws

    def choose(self, logits: torch.Tensor, position: int, context: Sequence[int]) -> int:
        id_ = self._chooser.choose(logits, position, context)
        drawn = self._draws.setdefault((position, tuple(context)), [])
        drawn.append((logits.float().log_softmax(-1), id_))
        return id_


class _Replayed:
    """Repeats the recorded draws, and asserts that the logits are the same."""

    def __init__(self, chooser: Any, draws: Draws, tolerance: float) -> None:
        self._draws = draws
        self._tolerance = tolerance

    def choose(self, logits: torch.Tensor, position: int, context: Sequence[int]) -> int:
        expected = logits.float().log_softmax(-1)
        differences = {
            # Tokens that a grammar forbids are minus infinity in both, so the difference is NaN.
            float((expected - logprobs).nan_to_num(nan=0.0).abs().max()): id_
            for logprobs, id_ in self._draws[position, tuple(context)]
        }
        least = min(differences)
        assert least <= self._tolerance, f"a draft's log-probability differs by {least}"
        return differences[least]


class NaiveBackend:
    """Wraps a ``LocalBackend``: uses its weights and template, but not its sessions."""

    supports_logits = True
    thinks = False

    def __init__(
        self, backend: LocalBackend, chooser: Callable[[Request], Any] | None = None
    ) -> None:
        self._backend = backend
        self._make_chooser = chooser or backend._chooser
        self.name = backend.name

    @property
    def device(self) -> str | None:
        return self._backend.device

    @property
    def method(self) -> None:
        return None

    @property
    def context_window(self) -> int:
        return self._backend.context_window

    @property
    def declared_window(self) -> int | None:
        return self._backend.declared_window

    def load(self) -> None:
        self._backend.load()

    def report(self) -> ModelReport:
        return self._backend.report()

    def count_tokens(self, text: str) -> int:
        return self._backend.count_tokens(text)

    def count_prompt_tokens(self, messages: Any, tools: Any = ()) -> int:
        return self._backend.count_prompt_tokens(messages, tools)

    def token_ids(self, text: str) -> list[int]:
        return self._backend.token_ids(text)

    def start(self, request: Request) -> NaiveSession:
        session = self._backend.start(request)  # raises the same errors
        return NaiveSession(
            self._backend, request, self._make_chooser(request), session.count_tokens
        )


class NaiveSession:
    def __init__(
        self, backend: LocalBackend, request: Request, chooser: Any, count: Callable[[str], int]
    ) -> None:
        self._backend = backend
        # Of a session that never hears anything: it encodes every answer as a whole.
        self.count_tokens = count
        self._prompt = backend.template.prompt(
            request.messages, request.tools if request.calls else ()
        )
        self._text = self._prompt.opening
        self._request = request
        self._chooser = chooser
        self.cost = Cost(prompt_tokens=len(self.ids))

    @property
    def ids(self) -> list[int]:
        return self._full(self._text)

    @property
    def room(self) -> int:
        return self._backend.context_window - len(self.ids)

    def _full(self, text: str) -> list[int]:
        encoded = self._backend.template.codec.encode(
            self._prompt.lead + text if text else "", continuing=self._prompt.continuing
        )
        return [*self._prompt.ids, *encoded.ids]

    def _logits(self, ids: list[int], first: int) -> torch.Tensor:
        """The logits after each id from ``first`` on."""
        runner = self._backend.model.runner
        boundary = runner.rope.boundary
        if boundary is None or len(ids) <= boundary:
            return runner.run(ids, use_cache=False)[0][first:].float()
        # Each further id may change the position encodings of all ids before it.
        ends = range(first + 1, len(ids) + 1)
        rows = [runner.run(ids[:end], use_cache=False, keep=1)[0][-1] for end in ends]
        return torch.stack(rows).float()

    def _next(self, ids: list[int]) -> torch.Tensor:
        return self._logits(ids, len(ids) - 1)[0]

    def _decoded(self, ids: list[int], drafted: list[int]) -> str:
        codec = self._backend.template.codec
        before = ids[len(self._prompt.ids) :][-5:]
        if before:
            return codec.decode(drafted, before)
        space = codec.leading_space(continuing=self._prompt.continuing)
        text = codec.decode(drafted, codec.anchor).removeprefix(space)
        return text.removeprefix(self._prompt.lead)

    def _choose(self, guide: Any, ids: list[int], drafted: list[int]) -> int | None:
        logits = self._next([*ids, *drafted])
        ends = sorted(self._backend.template.ends)
        for exact in (False, True):
            allowed = guide.allowed(exact=exact)
            allowed[ends] = guide.may_end
            if not allowed.any():
                return None
            masked = logits.masked_fill(~allowed, -torch.inf)
            id_ = self._chooser.choose(masked, len(ids) + len(drafted), [*ids, *drafted])
            if id_ in ends or guide.take(id_):
                return int(id_)
        raise AssertionError("the exact mask has an id that the grammar does not take")

    def _guided(self, guide: Any, max_tokens: int) -> Candidate:
        ids, drafted, ends = self.ids, [], False
        guide.commit(self._text[len(self._prompt.opening) :])
        while len(drafted) < max_tokens + 4 and len(drafted) < max(self.room, max_tokens):
            if len(drafted) >= max_tokens and guide.drafted.decode(errors="ignore"):
                break
            id_ = self._choose(guide, ids, drafted)
            if id_ is None:
                break
            if id_ in self._backend.template.ends:
                ends = True
                break
            drafted.append(id_)
        text = guide.drafted.decode(errors="ignore")
        if text and not ends:
            text = self._complete(text, free=guide.free)
        return Candidate(text or guide.rescue(), ends) if not ends else Candidate(text, True)

    def _complete(self, text: str, *, free: bool = True) -> str:
        answer = self._text[len(self._prompt.opening) :]
        return self._request.offered.complete_segment(answer, text, free=free)

    def draft(self, max_tokens: int) -> Candidate:
        guide = self._backend._guide(self._request, self._prompt)
        if guide is not None:
            return self._guided(guide, max_tokens)
        ids, drafted = self.ids, []
        ends = False
        while len(drafted) < max_tokens + 4 and len(drafted) < max(self.room, max_tokens):
            if len(drafted) >= max_tokens and complete_characters(self._decoded(ids, drafted)):
                break
            logits = self._next([*ids, *drafted])
            id_ = self._chooser.choose(logits, len(ids) + len(drafted), [*ids, *drafted])
            if id_ in self._backend.template.ends:
                ends = True
                break
            drafted.append(id_)
        text = self._decoded(ids, drafted)
        if ends:
            return Candidate(complete_characters(text), True)
        whole = complete_characters(text) or text
        return Candidate(self._complete(whole) if whole else whole, not whole)

    def verify(self, candidates: Sequence[Candidate]) -> list[Verification]:
        ids = self.ids
        row = []
        for candidate in candidates:
            whole = self._full(self._text + candidate.text)
            if len(whole) + candidate.ends > self._backend.context_window:
                row.append(Verification((), fits=False))
                continue
            first = 0
            while first < min(len(ids), len(whole)) and ids[first] == whole[first]:
                first += 1
            logits = self._logits(whole, first - 1)
            logprobs = logits.log_softmax(-1)
            raw = [float(row[id_]) for row, id_ in zip(logits, whole[first:], strict=False)]
            log = [float(row[id_]) for row, id_ in zip(logprobs, whole[first:], strict=False)]
            if candidate.ends:
                ends = sorted(self._backend.template.ends)
                raw.append(float(logits[-1, ends].logsumexp(0)))
                log.append(float(logprobs[-1, ends].logsumexp(0)))
            row.append(Verification(tuple(log), tuple(raw)))
        return row

    def commit(self, segment: Candidate) -> None:
        self._text += segment.text

    def close(self) -> None:
        pass
