"""FusionEngine: the rounds of an answer, its limits, and the one stream that all else drains.

This module knows nothing of tokenizers or tensors; base models are behind ``backend``.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

from specfuse_core.backend import Backend
from specfuse_core.budget import Budget
from specfuse_core.calls import in_call
from specfuse_core.config import FusionConfig, ModelConfig
from specfuse_core.errors import (
    DuplicateNameError,
    EmptyEnsembleError,
    InvalidLimitError,
    InvalidOptionError,
    UnknownModelError,
)
from specfuse_core.follower import Follower, follow
from specfuse_core.member import Member
from specfuse_core.outlet import Outlet, joined
from specfuse_core.request import Conversation, Message, Request
from specfuse_core.round import Ensemble
from specfuse_core.tools import Tool
from specfuse_core.types import Candidate, FinishReason, Generation, Round, Segment, Usage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["FusionEngine", "pulled"]


def _load_each(backends: Sequence[Backend]) -> None:
    for backend in backends:
        backend.load()


async def pulled(segments: Generator[Segment, None, None]) -> AsyncGenerator[Segment, None]:
    """A stream that is open already, one thread job per segment, each when it is asked for.

    A consumer that is cancelled, or that closes the iterator, closes ``segments``: at once, or when
    the round that runs is over.
    """
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    job: asyncio.Future[Segment | None] | None = None
    try:
        while True:
            # A future, not a task: a loop that shuts down cancels all tasks, and would then
            # call the round ended while its thread still runs.
            job = loop.run_in_executor(None, lambda: context.run(next, segments, None))
            segment = await asyncio.shield(job)
            if segment is None:
                return
            yield segment
    finally:
        if job is None or job.done():
            segments.close()
        else:
            # A running generator cannot be closed: its round ends first.
            job.add_done_callback(lambda _: segments.close())


class FusionEngine:
    """One chat model made of several base models.

    Usually made by :meth:`bundled`, :meth:`from_pretrained` or :meth:`from_models`. Engines are
    cheap; the weights belong to the backends, which any number of engines and requests share.

    Args:
        backends: the base models. Their order decides only ties, and whose tokens count.
        config: the algorithm's knobs.
        drafters: names of the models that draft; all by default.
        verifiers: names of the models that verify; all by default.
        weights: prior voting weights by name; 1.0 where nothing is said.
        executor: runs the models of a round in parallel; sequential by default.
        loader: loads the backends before the first request; by default one after the other.

    Raises:
        EmptyEnsembleError: without a single model, drafter or verifier.
        DuplicateNameError: if two models share a name.
        UnknownModelError: if ``drafters``, ``verifiers`` or ``weights`` name no model.
        InvalidLimitError: for a weight that is not a positive number.
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
        loader: Callable[[Sequence[Backend]], None] = _load_each,
    ) -> None:
        if not backends:
            raise EmptyEnsembleError("no base model was given; name at least one.")
        self.backends = tuple(backends)
        self.config = config or FusionConfig()
        self.models = tuple(backend.name for backend in self.backends)
        for name in self.models:
            if self.models.count(name) > 1:
                raise DuplicateNameError(
                    f"two base models are named {name!r}; give each its own ModelConfig(name=...)."
                )
        self.drafters = self._known(drafters, "drafters")
        self.verifiers = self._known(verifiers, "verifiers")
        self._weights = dict(weights or {})
        self._known(tuple(self._weights) or None, "weights")
        for name, weight in self._weights.items():
            if not 0 < weight < math.inf:
                raise InvalidLimitError(
                    f"the weight of {name!r} must be a positive number, got {weight}; "
                    "leave a model out with drafters= and verifiers= instead."
                )
        self._executor = executor
        self._loader = loader

    @classmethod
    def from_pretrained(
        cls,
        models: Sequence[str | PathLike[str] | ModelConfig | Mapping[str, Any]],
        config: FusionConfig | None = None,
        **options: Any,
    ) -> FusionEngine:
        """An engine over models named by hub id, local path or ``ModelConfig``.

        Options: see :func:`specfuse_core.load.from_pretrained`.
        """
        from specfuse_core.load import from_pretrained

        return from_pretrained(models, config, **options)

    @classmethod
    def from_models(
        cls,
        models: Sequence[tuple[PreTrainedModel, PreTrainedTokenizerBase]],
        config: FusionConfig | None = None,
        **options: Any,
    ) -> FusionEngine:
        """An engine over models that are already loaded.

        Options: see :func:`specfuse_core.load.from_models`.
        """
        from specfuse_core.load import from_models

        return from_models(models, config, **options)

    @classmethod
    def bundled(cls, config: FusionConfig | None = None, **options: Any) -> FusionEngine:
        """An engine over the small models that come with the package: no download.

        Options: see :func:`specfuse_core.load.bundled`.
        """
        from specfuse_core.load import bundled

        return bundled(config, **options)

    @property
    def context_window(self) -> int:
        """The smallest context window of the ensemble, in tokens of its own model."""
        return min(backend.context_window for backend in self.backends)

    @property
    def declared_window(self) -> int | None:
        """:attr:`context_window` as far as it is known without loading; None if it is not."""
        known = [backend.declared_window for backend in self.backends]
        return min((window for window in known if window is not None), default=None)

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
        kept = self._known(names, "the subset")
        backends = [self.backends[self.models.index(name)] for name in kept]
        return self._copy(
            backends=backends,
            drafters=[name for name in kept if name in self.drafters],
            verifiers=[name for name in kept if name in self.verifiers],
            weights={name: weight for name, weight in self._weights.items() if name in kept},
        )

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
                    weight = self._weights.get(name, 1.0)
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
        first = self.backends[self.models.index(ensemble.members[0].name)]
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
                raise InvalidOptionError(
                    f"score_mode='logit' needs raw logits, which {backend.name!r} does not give; "
                    "use 'logprob' or 'prob'."
                )

    def _known(self, names: Sequence[str] | None, what: str) -> tuple[str, ...]:
        if names is None:
            return self.models
        if not names:
            raise EmptyEnsembleError(f"{what}: no base model is left; name at least one.")
        for name in names:
            if name not in self.models:
                raise UnknownModelError(
                    f"{what}: no base model is named {name!r}; there are {', '.join(self.models)}."
                )
        return tuple(dict.fromkeys(names))

    def __deepcopy__(self, memo: dict[int, Any]) -> FusionEngine:
        """The engine itself: frameworks copy what holds it, and weights are never copied."""
        return self

    def _copy(self, **changes: Any) -> FusionEngine:
        kept: dict[str, Any] = {
            "backends": self.backends,
            "config": self.config,
            "drafters": self.drafters,
            "verifiers": self.verifiers,
            "weights": self._weights,
            "executor": self._executor,
            "loader": self._loader,
        }
        return FusionEngine(**{**kept, **changes})
