"""FusionEngine: the rounds of an answer, its limits, and the one stream that all else drains.

This module knows nothing of tokenizers or tensors; base models are behind ``backend``.
"""

from __future__ import annotations

import asyncio
import contextlib
import reprlib
import threading
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from specfuse_core.algorithm.member import Member
from specfuse_core.algorithm.round import Ensemble
from specfuse_core.answer.async_stream import pulled
from specfuse_core.answer.budget import Budget
from specfuse_core.answer.follower import Follower, follow
from specfuse_core.answer.outlet import Outlet, joined
from specfuse_core.backend import Backend
from specfuse_core.config import FusionConfig
from specfuse_core.errors import InvalidOptionError
from specfuse_core.grammar.calls import in_call
from specfuse_core.grammar.tools import Tool
from specfuse_core.models.constructors import Constructors
from specfuse_core.models.roster import Loader, Roster, load_quietly
from specfuse_core.request import Conversation, Message, Request
from specfuse_core.types import Candidate, FinishReason, Generation, Round, Segment, Usage

__all__ = ["FusionEngine"]

#: For a ``repr`` that fits a line: a long list of names loses its middle.
_brief = reprlib.Repr()
_brief.maxstring = 36


class FusionEngine(Constructors):
    """One chat model made of several base models.

    Usually made by :meth:`bundled`, :meth:`from_pretrained` or :meth:`from_models`. Engines are
    cheap; the weights belong to the backends, which any number of engines and requests share.

    Example:
        >>> engine = FusionEngine.bundled()
        >>> engine.generate("The attic has 7 lamps. How many lamps are in the attic?").text
        'The attic has 7 lamps.'

    Args:
        backends: the base models. Their order decides ties, and the first one's tokens are counted
            by ``max_new_tokens``.
        config: the options of the algorithm.
        drafters: names of the models that draft; all by default.
        verifiers: names of the models that verify; all by default.
        weights: prior voting weights by name; 1.0 by default.
        executor: runs the models of a round in parallel; by default they run one after the other.
        loader: loads the backends before the first request; by default one after the other.

    Raises:
        EmptyEnsembleError: if there is no model, no drafter or no verifier.
        DuplicateNameError: if two models share a name.
        UnknownModelError: if ``drafters``, ``verifiers`` or ``weights`` name an unknown model.
        InvalidLimitError: if a weight is not a positive number.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        config: FusionConfig | None = None,
        *,
        drafters: Sequence[str] | None = None,
        verifiers: Sequence[str] | None = None,
        weights: Mapping[str, float] | None = None,
        executor: Executor | None = None,
        loader: Loader = load_quietly,
    ) -> None:
        self._roster = Roster.of(backends, drafters, verifiers, weights)
        self.config = config or FusionConfig()
        self._executor = executor
        self._loader = loader

    def __repr__(self) -> str:
        devices = dict.fromkeys(backend.device or "not loaded" for backend in self.backends)
        models, device = (_brief.repr(", ".join(names)) for names in (self.models, devices))
        return f"FusionEngine(models={models}, method={self.config.method!r}, device={device})"

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The base models, in ensemble order."""
        return self._roster.backends

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the base models, in ensemble order."""
        return self._roster.names

    @property
    def drafters(self) -> tuple[str, ...]:
        """The names of the models that draft."""
        return self._roster.drafters

    @property
    def verifiers(self) -> tuple[str, ...]:
        """The names of the models that verify."""
        return self._roster.verifiers

    @property
    def weights(self) -> Mapping[str, float]:
        """The prior voting weights by name; 1.0 where a name is missing."""
        return self._roster.weights

    @property
    def context_window(self) -> int:
        """The smallest context window of the ensemble, in tokens of its own model."""
        return self._roster.context_window

    @property
    def declared_window(self) -> int | None:
        """:attr:`context_window` as far as it is known without loading; None if it is not."""
        return self._roster.declared_window

    def warm_up(self) -> None:
        """Load all base models now instead of at the first request.

        Raises:
            ModelLoadError: naming the model, what was tried and what to do.
        """
        self._loader(self.backends)

    def count_prompt_tokens(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        tools: Sequence[Tool | Mapping[str, Any]] = (),
    ) -> int:
        """Length of a conversation's prompt in the first base model's tokens, however long.

        Raises:
            InvalidMessageError: for a message that is none.
            ModelLoadError: if the model could not be loaded.
        """
        turns = [Message.of(message) for message in messages]
        described = [Tool.of(tool) for tool in tools]
        if not turns and not described:
            return 0
        return self.backends[0].count_prompt_tokens(turns, described)

    def with_config(self, config: FusionConfig | None = None, **changes: Any) -> FusionEngine:
        """An engine over the same base models with other knobs."""
        return self._copy(config=(config or self.config).replace(**changes))

    def subset(self, names: Sequence[str]) -> FusionEngine:
        """An engine over some of the base models, in the order of ``names``.

        Raises:
            UnknownModelError: for a name that no base model has.
        """
        return self._copy(roster=self._roster.subset(names))

    def stream(
        self,
        conversation: Conversation | Request,
        *,
        cancel: threading.Event | None = None,
        **options: Any,
    ) -> Generator[Segment, None, None]:
        """Answer, segment by segment, each as soon as it has won.

        Everything that can be wrong with the request is raised here, before any model runs;
        the models run as the segments are asked for. Closing the generator stops them.

        Args:
            conversation: a question, messages, or a ``Request``.
            cancel: once set, the answer ends before its next round, with the finish reason
                ``"cancelled"``.
            options: ``max_new_tokens``, ``stop``, ``constraint``, ``tools``, ``tool_choice``,
                ``parallel_tool_calls``, ``sampling`` or any field of ``SamplingParams``.

        Raises:
            RequestError: for a request that cannot be served.
            ConfigError: for an unknown or bad option.
            ModelLoadError: if a base model could not be loaded.
        """
        request = Request.of(conversation, **options).seeded()
        self._check_score_mode()
        follower = follow(request)
        self.warm_up()
        members = []
        with contextlib.ExitStack() as opened:
            for backend in self.backends:
                name = backend.name
                drafts, verifies = name in self.drafters, name in self.verifiers
                if drafts or verifies:
                    session = backend.start(request)
                    opened.callback(session.close)
                    weight = self._roster.weights.get(name, 1.0)
                    members.append(Member(name, session, drafts, verifies, weight))
            ensemble = Ensemble(members, self.config, self._executor)
            segments = self._run(request, ensemble, follower, cancel or threading.Event())
            next(segments)
            opened.pop_all()
        return segments

    def generate(
        self,
        conversation: Conversation | Request,
        *,
        cancel: threading.Event | None = None,
        **options: Any,
    ) -> Generation:
        """The whole answer: :meth:`stream`, drained. Same arguments and errors."""
        return Generation.of(self.stream(conversation, cancel=cancel, **options))

    async def astream(
        self,
        conversation: Conversation | Request,
        *,
        cancel: threading.Event | None = None,
        **options: Any,
    ) -> AsyncGenerator[Segment, None]:
        """:meth:`stream` without blocking the event loop: one thread job per round, on demand.

        A consumer that is cancelled, or that closes the iterator, stops the models within a
        round.
        """
        segments = await asyncio.to_thread(self.stream, conversation, cancel=cancel, **options)
        async with contextlib.aclosing(pulled(segments)) as pieces:
            async for segment in pieces:
                yield segment

    async def agenerate(
        self,
        conversation: Conversation | Request,
        *,
        cancel: threading.Event | None = None,
        **options: Any,
    ) -> Generation:
        """:meth:`astream`, drained. Same arguments and errors as :meth:`stream`."""
        stream = self.astream(conversation, cancel=cancel, **options)
        return Generation.of([segment async for segment in stream])

    def _run(
        self,
        request: Request,
        ensemble: Ensemble,
        follower: Follower | None,
        cancel: threading.Event,
    ) -> Generator[Segment, None, None]:
        first = self._roster.backend(ensemble.members[0].name)
        budget = Budget(first.count_tokens, request, follower)
        outlet = Outlet(request)
        seed = request.sampling.seed or 0

        def last(
            shown: Sequence[Segment], finish: FinishReason, played: Round | None = None
        ) -> list[Segment]:
            segments = joined([*shown, *outlet.flush(played), Segment("", played)])
            usage = Usage(
                ensemble.members[0].session.cost.prompt_tokens,
                budget.spent,
                seed,
                tuple(member.usage() for member in ensemble.members),
            )
            return [*segments[:-1], replace(segments[-1], finish_reason=finish, usage=usage)]

        try:
            # Taken by stream(): a generator that was never begun would not close the sessions.
            yield Segment("")
            while True:
                if cancel.is_set():
                    yield from last((), "cancelled")
                    return
                if ensemble.room < 1:
                    yield from last((), "context")
                    return
                played = None
                text, ends = follower.forced if follower else "", False
                if not text:
                    played = self._play(ensemble, budget)
                    if played is None:
                        yield from last((), "context")
                        return
                    text, ends = played.candidate.text, played.candidate.ends
                    if follower and ends and not (text or follower.may_end):
                        # Nobody could score a token of it (see Ensemble.play); it is closed, and
                        # has not ended if it cannot be.
                        close = follower.closing()
                        text, ends = close or "", close is not None
                taken = budget.take(text)
                shown = outlet.feed(taken, played)
                finish: FinishReason | None = None
                if outlet.stopped:
                    budget.keep(outlet.written)
                    finish = "stop_sequence"
                elif taken == text and (ends or (follower is not None and follower.done)):
                    finish = "stop"
                elif budget.left < 1:
                    finish = "length"
                if finish is not None:
                    yield from last(shown, finish, played)
                    return
                # Of a round all is told, even where its text is still held back.
                yield from shown or ([Segment("", played)] if played else [])
                ensemble.commit(Candidate(taken))
        finally:
            ensemble.close()

    def _play(self, ensemble: Ensemble, budget: Budget) -> Round | None:
        most = min(budget.left, ensemble.room)
        tokens, calls = min(self.config.segment_tokens, most), self.config.call_segment_tokens
        if calls is None:
            return ensemble.play(tokens)
        calls = min(calls, most)
        return ensemble.play(calls if in_call(budget.text) else tokens, calls)

    def _check_score_mode(self) -> None:
        if self.config.score_mode != "logit":
            return
        for backend in self.backends:
            if backend.name in self.verifiers and not backend.supports_logits:
                raise InvalidOptionError.of(
                    "score_mode",
                    f"must be 'logprob' or 'prob': 'logit' needs raw logits, and {backend.name!r} "
                    "does not give them.",
                )

    def __deepcopy__(self, memo: dict[int, Any]) -> FusionEngine:
        """The engine itself: frameworks copy what holds it, and weights are never copied."""
        return self

    def _copy(
        self, *, roster: Roster | None = None, config: FusionConfig | None = None
    ) -> FusionEngine:
        roster = roster or self._roster
        return FusionEngine(
            roster.backends,
            config or self.config,
            drafters=roster.drafters,
            verifiers=roster.verifiers,
            weights=roster.weights,
            executor=self._executor,
            loader=self._loader,
        )
