"""FusionEngine: answers a request round by round, within its limits, as one stream of segments.

``generate`` and the async methods use that stream. This module knows nothing of tokenizers or
tensors; base models are behind the interface in ``backend``.
"""

from __future__ import annotations

import contextlib
import reprlib
import threading
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Never

from specfuse_core.algorithm.member import Member
from specfuse_core.algorithm.round import Ensemble
from specfuse_core.answer.async_stream import pulled
from specfuse_core.answer.budget import Gauge
from specfuse_core.answer.follower import Follower, follow
from specfuse_core.answer.growth import Growth
from specfuse_core.answer.jobs import run_in_thread
from specfuse_core.answer.limits import prompt_size
from specfuse_core.backend import Backend
from specfuse_core.config import FusionConfig
from specfuse_core.errors import InvalidOptionError, NotPicklableError
from specfuse_core.grammar.openings import Offered
from specfuse_core.grammar.tools import Tool
from specfuse_core.model_report import ModelReport
from specfuse_core.models.constructors import Constructors
from specfuse_core.models.roster import Loader, Roster, load_quietly
from specfuse_core.request import Conversation, Message, Request, messages_of
from specfuse_core.types import Candidate, FinishReason, Generation, Round, Segment
from specfuse_core.values import listed, shown

__all__ = ["FusionEngine"]

#: Shortens a long list of names in the middle, so that a ``repr`` fits in a line.
_brief = reprlib.Repr()
_brief.maxstring = 36


class FusionEngine(Constructors):
    """A chat model that fuses several base models.

    An answer is generated in rounds: every model drafts a segment, every model scores every draft,
    and the draft with the most votes becomes part of the answer (SpecFuse and SpecEM, arXiv
    2412.07380). :class:`FusionConfig` has the options of the algorithm.

    Use :meth:`bundled`, :meth:`from_pretrained` or :meth:`from_models` to create an engine. The
    weights belong to the backends, which any number of engines and requests can share.

    Example:
        >>> engine = FusionEngine.bundled()
        >>> engine.generate("The attic has 7 lamps. How many lamps are in the attic?").text
        'The attic has 7 lamps.'

    Args:
        backends: the base models. Their order decides ties. ``max_new_tokens`` counts tokens of
            the first one.
        config: options of the fusion algorithm.
        drafters: names of the models that draft; all by default.
        verifiers: names of the models that verify; all by default.
        weights: prior voting weights by model name; 1.0 by default.
        executor: runs the models of a round in parallel; by default they run one after the other.
        loader: loads the backends before the first request; by default one after the other.

    Attributes:
        config: the options of the fusion algorithm.

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
        self.config = _config(config) or FusionConfig()
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
        """The prior voting weights by model name. A model that is not listed has 1.0."""
        return self._roster.weights

    @property
    def context_window(self) -> int:
        """The smallest context window of the base models, in tokens. Loads them if needed."""
        return self._roster.context_window

    @property
    def declared_window(self) -> int | None:
        """The smallest context window that is known without loading; None if none is known."""
        return self._roster.declared_window

    def warm_up(self) -> None:
        """Load all base models now instead of at the first request.

        Raises:
            ModelLoadError: if a base model could not be loaded.
        """
        self._loader(self.backends)

    def report(self) -> tuple[ModelReport, ...]:
        """Describe every base model, in ensemble order, and say what is wrong with it.

        The models are loaded if needed. A model that cannot be loaded does not raise an error: its
        report has the reason. ``specfuse check`` shows the same reports.

        Example:
            >>> [(report.name, report.fits) for report in FusionEngine.bundled().report()]
            [('clerk', True), ('reader', True), ('reckoner', True)]
        """
        return tuple(backend.report() for backend in self.backends)

    def count_prompt_tokens(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        tools: Sequence[Tool | Mapping[str, Any]] = (),
        *,
        context_window: int | None = None,
    ) -> int:
        """Count the prompt tokens of a conversation.

        It is the largest count of the models that draft or verify. If their context windows differ,
        the count of a model is reduced by what its window has more than the smallest one. A request
        is accepted if and only if this number is below the smallest context window. It is also
        ``usage.prompt_tokens``.

        Args:
            messages: the conversation. It may be longer than the context window.
            tools: tools that the prompt describes.
            context_window: the limit of the request, as in :class:`Request`.

        Raises:
            InvalidMessageError: if a message is invalid.
            InvalidToolError: if a tool is invalid.
            ModelLoadError: if the model could not be loaded.
        """
        turns = messages_of(messages)
        described = [Tool.of(tool) for tool in listed(tools, "tools", "tools")]
        if not turns and not described:
            return 0
        prompts = []
        for backend in self.backends:
            if backend.name in self.drafters or backend.name in self.verifiers:
                window = backend.context_window
                limit = window if context_window is None else min(window, context_window)
                prompts.append((backend.count_prompt_tokens(turns, described), limit))
        return prompt_size(prompts)

    def with_config(self, config: FusionConfig | None = None, **changes: Any) -> FusionEngine:
        """Return an engine over the same base models with other options.

        Args:
            config: options that replace the engine's; None keeps them.
            changes: options to change, by their names in :class:`FusionConfig`.

        Raises:
            ConfigError: if an option is unknown or its value is invalid.
        """
        return self._copy(config=(_config(config) or self.config).replace(**changes))

    def subset(self, names: Sequence[str]) -> FusionEngine:
        """Return an engine over some of the base models. It shares their weights with this one.

        Args:
            names: names of the base models, in the order that they have in the new engine.

        Raises:
            UnknownModelError: if no base model has one of the names.
            EmptyEnsembleError: if no drafter or no verifier is left.
        """
        return self._copy(roster=self._roster.subset(names))

    def stream(
        self,
        conversation: Conversation | Request,
        *,
        cancel: threading.Event | None = None,
        **options: Any,
    ) -> Generator[Segment, None, None]:
        """Generate an answer and yield each segment as soon as it has won its round.

        The call itself checks the request and loads the base models. The models run while the
        generator is read. Close the generator to stop them.

        Args:
            conversation: a question, a list of messages, or a ``Request``.
            cancel: an event that ends the answer before the next round once it is set. The finish
                reason is then ``"cancelled"``.
            options: any field of :class:`Request` except ``messages``, and any field of
                :class:`SamplingParams`.

        Raises:
            RequestError: if the request is invalid or its prompt is too long.
            ConfigError: if an option is unknown or its value is invalid.
            ModelLoadError: if a base model could not be loaded.
        """
        request = Request.of(conversation, **options).seeded()
        if cancel is not None and not callable(getattr(cancel, "is_set", None)):
            raise InvalidOptionError.of(
                "cancel", f"must be a threading.Event or a Deadline, got {shown(cancel)}."
            )
        self._check_score_mode()
        follow(request)
        self.warm_up()
        if request.reasoning is None and not any(
            getattr(backend, "thinks", True) for backend in self.backends
        ):
            request = replace(request, reasoning=False)
        follower = follow(request)
        members = []
        with contextlib.ExitStack() as opened:
            for backend in self.backends:
                name = backend.name
                drafts, verifies = name in self.drafters, name in self.verifiers
                if drafts or verifies:
                    session = backend.start(request)
                    opened.callback(session.close)
                    weight = self._roster.weights.get(name, 1.0)
                    members.append(Member(name, session, drafts, verifies, weight, backend.method))
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
        """Generate a complete answer.

        The arguments are those of :meth:`stream`, and so are the errors before it starts.

        Raises:
            GenerationError: if generation fails after it has started.
        """
        return Generation.of(self.stream(conversation, cancel=cancel, **options))

    def complete(
        self,
        prompt: str,
        *,
        special_tokens: bool = False,
        cancel: threading.Event | None = None,
        **options: Any,
    ) -> Generation:
        """Continue a text. No chat template touches it.

        This is for base models that are no chat models, and for prompts that are formatted already.
        ``engine.stream(Request(prompt=...))`` streams the same answer.

        Args:
            prompt: the text. It needs no special token at its start: each model adds its own.
            special_tokens: whether special tokens in the prompt count as such; by default they are
                text.
            cancel: as in :meth:`stream`.
            options: the options of :meth:`stream`, except for those of conversations and tools.

        Raises:
            RequestError: if the request is invalid or its prompt is too long. The other errors are
                those of :meth:`generate`.
        """
        request = Request(prompt=prompt, special_tokens=special_tokens)
        return self.generate(request, cancel=cancel, **options)

    async def astream(
        self,
        conversation: Conversation | Request,
        *,
        cancel: threading.Event | None = None,
        **options: Any,
    ) -> AsyncGenerator[Segment, None]:
        """Like :meth:`stream`, but without blocking the event loop.

        Each segment is generated in a thread when it is requested. If the consumer is cancelled or
        closes the iterator, the models stop within one round.
        """
        segments = await run_in_thread(self.stream, conversation, cancel=cancel, **options)
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
        """Like :meth:`generate`, but without blocking the event loop."""
        stream = self.astream(conversation, cancel=cancel, **options)
        return Generation.of([segment async for segment in stream])

    def _run(
        self,
        request: Request,
        ensemble: Ensemble,
        follower: Follower | None,
        cancel: threading.Event,
    ) -> Generator[Segment, None, None]:
        starts = {
            member.name: Gauge(member.session.count_tokens, member.session.room)
            for member in ensemble.members
        }
        lengths = [member.session.cost.prompt_tokens for member in ensemble.members]
        prompt_tokens = prompt_size(
            [
                (used, used + gauge.limit)
                for used, gauge in zip(lengths, starts.values(), strict=True)
            ]
        )
        growth = Growth(
            request,
            ensemble.members[0].session.count_tokens,
            follower,
            lambda: [starts[member.name] for member in ensemble.active],
        )

        def last(
            shown: Sequence[Segment], finish: FinishReason, played: Round | None = None
        ) -> list[Segment]:
            models = tuple(member.usage() for member in ensemble.members)
            return growth.end(shown, finish, played, prompt_tokens, models)

        try:
            # stream() takes this segment: a generator that has not started would not run the
            # finally clause, which closes the sessions.
            yield Segment("")
            while True:
                if cancel.is_set():
                    yield from last((), "cancelled")
                    return
                if ensemble.room < 1:
                    yield from last(growth.close(), "context")
                    return
                played = None
                text, ends = growth.forced, False
                if not text:
                    played = self._play(ensemble, growth, request.offered)
                    if played is None:
                        yield from last(growth.close(), "context")
                        return
                    text, ends = played.candidate.text, played.candidate.ends
                    if ends and not (text or growth.may_end):
                        # No verifier could score a token of it (see Ensemble.play), so the models
                        # cannot go on.
                        yield from last(growth.close(), "stop", played)
                        return
                shown, finish = growth.take(text, played, ends=ends)
                if finish is not None:
                    yield from last(shown, finish, played)
                    return
                # Every round emits a segment, even if all of its text is held back.
                yield from shown or ([Segment("", played)] if played else [])
                ensemble.commit(Candidate(growth.taken))
        finally:
            ensemble.close()

    def _play(self, ensemble: Ensemble, growth: Growth, offered: Offered) -> Round | None:
        budget, calls = growth.budget, self.config.call_segment_tokens
        room = ensemble.room
        if growth.left_to_think is not None:
            room = min(room, growth.left_to_think)
        tokens = min(self.config.segment_tokens, budget.left, room)
        if calls is None:
            return ensemble.play(tokens)
        calls, before = min(calls, budget.left_for_call, room), budget.text
        return ensemble.play(
            calls if offered.in_call(before) else tokens,
            calls,
            lambda text: offered.begins_call(before, text),
        )

    def _check_score_mode(self) -> None:
        if self.config.score_mode != "logit":
            return
        for backend in self.backends:
            if backend.name in self.verifiers and not backend.supports_logits:
                raise InvalidOptionError.of(
                    "score_mode",
                    f"must be 'logprob' or 'prob', because {backend.name!r} does not give the raw "
                    "logits that 'logit' needs.",
                )

    def __getstate__(self) -> Never:
        raise NotPicklableError(
            "a FusionEngine cannot be pickled, because its base models are in the memory of this "
            "process. Create it in the other process."
        )

    def __copy__(self) -> FusionEngine:
        return self._copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> FusionEngine:
        """Return the engine itself, so that frameworks that copy a model do not copy weights."""
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


def _config(config: Any) -> FusionConfig | None:
    if config is None or isinstance(config, FusionConfig):
        return config
    raise InvalidOptionError.of("config", f"must be a FusionConfig, got {shown(config)}.")
