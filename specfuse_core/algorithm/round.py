"""Ensemble: plays the rounds of one answer, and keeps track of which base models are active.

This module knows nothing of tokenizers, stop strings or the limits of an answer (see ``fusion``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass, replace
from typing import TypeVar

from specfuse_core.algorithm.exits import confidence, leaving, shares
from specfuse_core.algorithm.member import Member
from specfuse_core.algorithm.scoring import score_row
from specfuse_core.algorithm.voting import feedback, vote, winner
from specfuse_core.config import FusionConfig
from specfuse_core.errors import NoVerificationError
from specfuse_core.types import Candidate, Round, Verification

__all__ = ["Ensemble"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Ballot:
    """The candidates of one round, and each verifier's verification of each candidate."""

    drafters: Sequence[Member]
    verifiers: Sequence[Member]
    candidates: Sequence[Candidate]
    rows: Sequence[Mapping[Candidate, Verification]]
    draft_seconds: float
    verify_seconds: float


class Ensemble:
    """The base models of one answer, with their voting weights and exits.

    It plays the rounds of SpecFuse and SpecEM (arXiv 2412.07380).

    Args:
        members: the base models, in ensemble order.
        config: options of the fusion algorithm.
        executor: runs the models of a round in parallel; None runs them one after the other.
    """

    def __init__(
        self, members: Sequence[Member], config: FusionConfig, executor: Executor | None = None
    ) -> None:
        self.members = tuple(members)
        self._config = config
        self._executor = executor
        self._round = 0
        # The last round before the most recent recall.
        self._recalled_after = 0
        self._scale_weights()

    @property
    def active(self) -> list[Member]:
        """The active members, in ensemble order."""
        return [member for member in self.members if member.exited is None]

    @property
    def room(self) -> int:
        """Number of tokens that still fit every active session."""
        return min(member.session.room for member in self.active)

    def play(
        self,
        max_tokens: int,
        call_tokens: int | None = None,
        begins_call: Callable[[str], bool] = bool,
    ) -> Round | None:
        """Play one round, except for the commit.

        Args:
            max_tokens: maximum length of a draft, in the drafter's own tokens.
            call_tokens: maximum length of a draft that begins a tool call; None for
                ``max_tokens``.
            begins_call: whether the text of a draft is the beginning of a tool call. It is used
                only with ``call_tokens``.

        Returns:
            The round; None if no candidate fits the context window of any verifier.

        Raises:
            NoVerificationError: if no verifier could score any candidate.
        """
        self._round += 1
        ballot = self._ballot(max_tokens, call_tokens, begins_call)
        recalled = self._recall(ballot)
        if recalled:
            # The sessions do not run tokens again that they have run already.
            ballot = self._ballot(max_tokens, call_tokens, begins_call)
        drafters, verifiers, candidates = ballot.drafters, ballot.verifiers, ballot.candidates
        counted = self._counted(ballot)
        if not any(found.logprobs for row in counted for found in row):
            if not all(found.fits for row in counted for found in row):
                return None
            # No candidate adds a token for any verifier, so the answer has ended.
            candidates = [Candidate("", ends=True)] * len(drafters)
            ballot = replace(
                ballot, candidates=candidates, rows=self._verify(verifiers, candidates)
            )
            counted = self._counted(ballot)
        scores = self._score(candidates, ballot.rows)
        self._learn(verifiers, drafters, scores)
        weights = tuple(member.weight for member in verifiers)
        votes = self._vote(verifiers, drafters, scores)
        if all(vote is None for vote in votes):
            raise NoVerificationError(_reasons(verifiers, counted))
        best = winner(votes, [member.weight for member in drafters])
        for member in self.active:
            member.rounds += 1
        drafters[best].segments += 1
        drafters[best].characters += len(candidates[best].text)
        return Round(
            index=self._round,
            drafters=tuple(member.name for member in drafters),
            candidates=tuple(candidates),
            verifiers=tuple(member.name for member in verifiers),
            scores=tuple(tuple(row) for row in scores),
            weights=weights,
            votes=tuple(votes),
            winner=best,
            exited=self._exit(drafters, votes),
            recalled=recalled,
            draft_seconds=ballot.draft_seconds,
            verify_seconds=ballot.verify_seconds,
        )

    def commit(self, segment: Candidate) -> None:
        """Append ``segment`` to every session that is still needed."""
        # Models that may be recalled get the text too. They run it when they are recalled.
        hearers = self.active if self._config.exit_recall is None else self.members
        self._each(hearers, lambda member: member.session.commit(segment))

    def close(self) -> None:
        """Close every session."""
        for member in self.members:
            member.session.close()

    def _ballot(
        self, max_tokens: int, call_tokens: int | None, begins_call: Callable[[str], bool]
    ) -> _Ballot:
        """Let the active members draft and verify."""
        active = self.active
        drafters = [member for member in active if member.drafts]
        verifiers = [member for member in active if member.verifies]
        started = time.perf_counter()
        candidates = self._draft(drafters, max_tokens, call_tokens, begins_call)
        drafted = time.perf_counter()
        rows = self._verify(verifiers, candidates)
        verified = time.perf_counter()
        return _Ballot(drafters, verifiers, candidates, rows, drafted - started, verified - drafted)

    def _draft(
        self,
        drafters: Sequence[Member],
        max_tokens: int,
        call_tokens: int | None,
        begins_call: Callable[[str], bool],
    ) -> list[Candidate]:
        def draft(member: Member) -> Candidate:
            candidate = member.session.draft(max_tokens)
            if call_tokens and not candidate.ends and begins_call(candidate.text):
                # The session continues its draft: it does not run the first tokens again.
                candidate = member.session.draft(call_tokens)
            return candidate

        return self._each(drafters, draft)

    def _verify(
        self, verifiers: Sequence[Member], candidates: Sequence[Candidate]
    ) -> list[dict[Candidate, Verification]]:
        distinct = list(dict.fromkeys(candidates))
        rows = self._each(verifiers, lambda member: member.session.verify(distinct))
        return [dict(zip(distinct, row, strict=True)) for row in rows]

    def _counted(self, ballot: _Ballot) -> list[list[Verification]]:
        """Return the verifications that count in the vote, per verifier. ``[V][<= D]``"""
        own = self._self_vote(ballot.verifiers, ballot.drafters)
        drafted = list(zip(ballot.drafters, ballot.candidates, strict=True))
        return [
            [row[candidate] for drafter, candidate in drafted if own or drafter is not verifier]
            for verifier, row in zip(ballot.verifiers, ballot.rows, strict=True)
        ]

    def _score(
        self, candidates: Sequence[Candidate], rows: Sequence[Mapping[Candidate, Verification]]
    ) -> list[list[float | None]]:
        mode = self._config.score_mode
        scored = [dict(zip(row, score_row([*row.values()], mode), strict=True)) for row in rows]
        return [[scores[candidate] for candidate in candidates] for scores in scored]

    def _learn(
        self,
        verifiers: Sequence[Member],
        drafters: Sequence[Member],
        scores: Sequence[Sequence[float | None]],
    ) -> None:
        if not self._config.online_feedback:
            return
        updated = feedback(
            scores,
            {member.name: member.weight for member in self.active},
            [member.name for member in verifiers],
            [member.name for member in drafters],
            learning_rate=self._config.learning_rate,
            round_index=self._round,
        )
        for member in self.active:
            member.weight = updated[member.name]

    def _vote(
        self,
        verifiers: Sequence[Member],
        drafters: Sequence[Member],
        scores: Sequence[Sequence[float | None]],
    ) -> list[float | None]:
        return vote(
            scores,
            [member.weight for member in verifiers],
            [member.name for member in verifiers],
            [member.name for member in drafters],
            self_vote=self._self_vote(verifiers, drafters),
        )

    def _self_vote(self, verifiers: Sequence[Member], drafters: Sequence[Member]) -> bool:
        # If the only drafter is the only verifier, no other model could vote.
        return self._config.self_vote or len(verifiers) == len(drafters) == 1

    def _exit(self, drafters: Sequence[Member], votes: Sequence[float | None]) -> tuple[str, ...]:
        current = shares({member.name: v for member, v in zip(drafters, votes, strict=True)})
        for member in drafters:
            member.quality += current[member.name]
        config = self._config
        rounds = self._round - self._recalled_after
        if not config.model_exit or rounds <= config.exit_warmup:
            return ()
        gone = leaving(
            {member.name: member.quality for member in drafters},
            current,
            round_index=rounds,
            temperature=config.exit_temperature,
            threshold=config.exit_threshold,
            min_models=config.min_models,
        )
        verifiers = [member.name for member in self.active if member.verifies]
        if gone and all(name in gone for name in verifiers):
            # At least one verifier must stay: the strongest one.
            gone.remove([name for name in gone if name in verifiers][-1])
        for member in drafters:
            if member.name in gone:
                member.exited = self._round
                if config.exit_recall is None:
                    member.session.close()
        if gone:
            self._scale_weights()
        return tuple(gone)

    def _recall(self, ballot: _Ballot) -> tuple[str, ...]:
        """Recall the models that left if the active ones lack confidence; return their names."""
        threshold = self._config.exit_recall
        gone = [
            member
            for member in self.members
            if member.exited is not None and member.session.room > 0
        ]
        if threshold is None or not gone or confidence(ballot.rows) >= threshold:
            return ()
        self._recalled_after = self._round - 1
        for member in (*gone, *self.active):
            member.exited, member.quality = None, 0.0
        self._scale_weights()
        return tuple(member.name for member in gone)

    def _scale_weights(self) -> None:
        total = math.fsum(member.weight for member in self.active)
        for member in self.active:
            member.weight /= total

    def _each(self, members: Sequence[Member], work: Callable[[Member], T]) -> list[T]:
        """Run ``work`` for each member, in parallel if there is an executor.

        Returns:
            The results, in the order of ``members``.
        """

        def timed(member: Member) -> T:
            started = time.perf_counter()
            try:
                return work(member)
            finally:
                member.seconds += time.perf_counter() - started

        if self._executor is None or len(members) == 1:
            return [timed(member) for member in members]
        jobs = [self._executor.submit(timed, member) for member in members]
        # Wait for all jobs before raising an error, because its handler closes the sessions.
        wait(jobs)
        return [job.result() for job in jobs]


def _reasons(verifiers: Sequence[Member], counted: Sequence[Sequence[Verification]]) -> str:
    """Return the message of NoVerificationError, with the reason of each verifier."""
    causes = []
    for member, row in zip(verifiers, counted, strict=True):
        if any(found.logprobs for found in row):
            causes.append(f"{member.name!r} gave NaN or infinite values")
        if not all(found.fits for found in row):
            causes.append(f"the context window of {member.name!r} is too small")
        if any(found.fits and not found.logprobs for found in row):
            causes.append(f"the tokenizer of {member.name!r} drops the text")
    return (
        f"no verifier could score any candidate: {'; '.join(causes)}. If a model gives NaN or "
        "infinite values, load it with another dtype or leave it out."
    )
