"""A run as data: JSON lines while it goes, rows for tables when it is done, summaries in between.

This module knows nothing of terminals; it turns segments into plain values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from specfuse_core.fusion import FusionEngine
from specfuse_core.request import Request
from specfuse_core.types import FinishReason, Generation, Round, Segment, Usage

__all__ = [
    "CandidateRow",
    "ModelRow",
    "answer_summary",
    "candidate_rows",
    "json_lines",
    "model_rows",
    "records",
    "round_summary",
]

Record = dict[str, Any]


def records(
    segments: Iterable[Segment],
    *,
    engine: FusionEngine | None = None,
    request: Request | None = None,
) -> Iterator[Record]:
    """The records of a run, each as soon as its segment arrives.

    The first is ``{"type": "request", ...}``: models, configuration, conversation, limits and
    seed, as far as ``engine`` and ``request`` are given; it comes before the first segment is
    asked for. Then one ``{"type": "round", ...}`` per round, a ``{"type": "segment", ...}`` for
    each further part of it (another channel, a step of a call) and for text that needed no round,
    and at last ``{"type": "end", ...}`` with all that was said, thought and called, the finish
    reason and the usage. A stream that is cut off has no end record. All values are ready for
    JSON.

    Args:
        segments: a stream of segments, or those of a generation.
        engine: what writes them.
        request: what they answer. One with a seed (:meth:`Request.seeded`) can be drawn again.
    """
    yield _request_record(engine, request)
    kept: list[Segment] = []
    told: Round | None = None
    for segment in segments:
        kept.append(segment)
        if segment.round is not None and segment.round is not told:
            told = segment.round
            yield _round_record(told, segment)
        elif segment.text or segment.call:
            yield {"type": "segment", **_shown(segment)}
        if segment.finish_reason is not None:
            answer = Generation.of(kept)
            yield {
                "type": "end",
                "finish_reason": answer.finish_reason,
                "text": answer.text,
                "reasoning": answer.reasoning,
                "tool_calls": [asdict(call) for call in answer.tool_calls],
                "usage": _usage_record(answer.usage),
            }


def json_lines(
    run: Generation | Iterable[Segment],
    *,
    engine: FusionEngine | None = None,
    request: Request | None = None,
) -> Iterator[str]:
    """:func:`records` as lines of JSON, each with its newline, in ASCII (so safe to show)."""
    segments = run.segments if isinstance(run, Generation) else run
    for record in records(segments, engine=engine, request=request):
        yield json.dumps(record, allow_nan=False) + "\n"


def _request_record(engine: FusionEngine | None, request: Request | None) -> Record:
    record: Record = {"type": "request"}
    if engine is not None:
        record |= {
            "models": list(engine.models),
            "drafters": list(engine.drafters),
            "verifiers": list(engine.verifiers),
            "config": engine.config.model_dump(),
        }
    if request is not None:
        record |= {
            "messages": [asdict(message) for message in request.messages],
            "max_new_tokens": request.max_new_tokens,
            "stop": list(request.stop),
            "sampling": request.sampling.model_dump(),
            "constraint": _constraint_record(request),
            "tools": [tool.as_dict() for tool in request.tools],
            "tool_choice": request.tool_choice,
            "parallel_tool_calls": request.parallel_tool_calls,
        }
    return record


def _constraint_record(request: Request) -> Record | None:
    if request.constraint is None:
        return None
    return {"type": type(request.constraint).__name__, **asdict(request.constraint)}


def _shown(segment: Segment) -> Record:
    call = {"call": asdict(segment.call)} if segment.call else {}
    return {"text": segment.text, "channel": segment.channel, **call}


def _round_record(played: Round, segment: Segment) -> Record:
    return {
        "type": "round",
        "index": played.index,
        "author": played.author,
        **_shown(segment),
        "winner": played.winner,
        "candidates": [
            {"model": name, "text": candidate.text, "ends": candidate.ends, "vote": vote}
            for name, candidate, vote in zip(
                played.drafters, played.candidates, played.votes, strict=True
            )
        ],
        # One number per candidate, in their order.
        "scores": {
            name: list(row) for name, row in zip(played.verifiers, played.scores, strict=True)
        },
        "weights": dict(zip(played.verifiers, played.weights, strict=True)),
        "exited": list(played.exited),
        "recalled": list(played.recalled),
        "draft_seconds": played.draft_seconds,
        "verify_seconds": played.verify_seconds,
    }


def _usage_record(usage: Usage) -> Record:
    return asdict(usage) | {"models_per_round": usage.models_per_round}


def round_summary(played: Round) -> Record:
    """A round as plain values; ``round`` counts from 1."""
    names = played.drafters
    return {
        # Not "index": lists whose items share one are merged by it.
        "round": played.index,
        "model": played.author,
        "chars": len(played.candidate.text),
        "votes": dict(zip(names, played.votes, strict=True)),
        "scores": {
            name: dict(zip(names, row, strict=True))
            for name, row in zip(played.verifiers, played.scores, strict=True)
        },
        "weights": dict(zip(played.verifiers, played.weights, strict=True)),
        "exited": list(played.exited),
        "recalled": list(played.recalled),
    }


def answer_summary(finish: FinishReason, usage: Usage) -> Record:
    """What the ensemble did and spent for one answer."""
    return {
        "finish_reason": finish,
        "seed": usage.seed,
        "rounds": max((model.rounds for model in usage.models), default=0),
        "models_per_round": usage.models_per_round,
        "models": {
            model.name: {
                "rounds": model.rounds,
                "segments": model.segments,
                "characters": model.characters,
                "exited": model.exited,
                "prompt_tokens": model.cost.prompt_tokens,
                "drafted_tokens": model.cost.drafted_tokens,
                "verified_tokens": model.cost.verified_tokens,
                "forward_passes": model.cost.forward_passes,
                "seconds": model.seconds,
            }
            for model in usage.models
        },
    }


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One candidate of one round, for a table of rounds.

    Args:
        round: index of the round, from 1.
        model: who drafted it.
        text: what it drafted.
        ends: whether the answer would end with it.
        won: whether it was emitted.
        vote: its vote, None where no verifier could score it.
        scores: each verifier's score of it, by the verifier's name; None where void.
        weight: the voting weight of its drafter, None if that does not verify.
        exited: whether its drafter left after this round.
        recalled: whether its drafter had left and was brought back for this round.
    """

    round: int
    model: str
    text: str
    ends: bool
    won: bool
    vote: float | None
    scores: dict[str, float | None]
    weight: float | None
    exited: bool
    recalled: bool


def candidate_rows(rounds: Iterable[Round]) -> Iterator[CandidateRow]:
    """All candidates of all rounds, in order."""
    for played in rounds:
        weights = dict(zip(played.verifiers, played.weights, strict=True))
        for d, (name, candidate) in enumerate(zip(played.drafters, played.candidates, strict=True)):
            yield CandidateRow(
                round=played.index,
                model=name,
                text=candidate.text,
                ends=candidate.ends,
                won=d == played.winner,
                vote=played.votes[d],
                scores={v: row[d] for v, row in zip(played.verifiers, played.scores, strict=True)},
                weight=weights.get(name),
                exited=name in played.exited,
                recalled=name in played.recalled,
            )


@dataclass(frozen=True, slots=True)
class ModelRow:
    """What one base model wrote of an answer, and what it cost.

    Args:
        name: the model.
        segments: rounds that its candidate won.
        characters: characters of its winning candidates.
        share: its part of all characters, 0 to 1.
        drafted_tokens: tokens it sampled.
        verified_tokens: tokens of other models' candidates that it scored.
        forward_passes: calls of the model.
        seconds: wall seconds of its own work.
        exited: the round after which it left, None if it stayed.
    """

    name: str
    segments: int
    characters: int
    share: float
    drafted_tokens: int
    verified_tokens: int
    forward_passes: int
    seconds: float
    exited: int | None


def model_rows(usage: Usage) -> list[ModelRow]:
    """One row per base model, in ensemble order."""
    total = sum(model.characters for model in usage.models)
    return [
        ModelRow(
            name=model.name,
            segments=model.segments,
            characters=model.characters,
            share=model.characters / total if total else 0.0,
            drafted_tokens=model.cost.drafted_tokens,
            verified_tokens=model.cost.verified_tokens,
            forward_passes=model.cost.forward_passes,
            seconds=model.seconds,
            exited=model.exited,
        )
        for model in usage.models
    ]
