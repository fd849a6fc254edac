"""The trace of an answer as plain data: JSON lines, table rows and summaries.

This module converts segments, rounds and usage to plain values. It knows nothing of terminals.
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
    """Yield the records of an answer, each as soon as its segment arrives.

    All values can be written as JSON. The records are, in order:

    - ``{"type": "request", ...}``: models and configuration if ``engine`` is given; conversation,
      limits and seed if ``request`` is given. It is yielded before the first segment is requested.
    - ``{"type": "round", ...}``: one per round.
    - ``{"type": "segment", ...}``: one for each further segment of a round (another channel or an
      update of a tool call) and for text that needed no round.
    - ``{"type": "end", ...}``: text, reasoning, tool calls, finish reason and usage of the answer.
      A stream that is cut off has no such record.

    Args:
        segments: a stream of segments, or the segments of a generation.
        engine: the engine that generates the segments.
        request: the request that they answer. Pass one with a seed (:meth:`Request.seeded`) so
            that the answer can be reproduced from the record.
    """
    yield _request_record(engine, request)
    kept: list[Segment] = []
    recorded: Round | None = None
    for segment in segments:
        kept.append(segment)
        if segment.round is not None and segment.round is not recorded:
            recorded = segment.round
            yield _round_record(recorded, segment)
        elif segment.text or segment.call:
            yield {"type": "segment", **_shown(segment)}
        if segment.finish_reason is not None:
            answer = Generation.of(kept)
            yield {
                "type": "end",
                "finish_reason": answer.finish_reason,
                "text": answer.text,
                "reasoning": answer.reasoning,
                "closed_by_force": answer.closed_by_force,
                "tool_calls": [asdict(call) for call in answer.tool_calls],
                "invalid_tool_calls": [asdict(call) for call in answer.invalid_tool_calls],
                "usage": _usage_record(answer.usage),
            }


def json_lines(
    run: Generation | Iterable[Segment],
    *,
    engine: FusionEngine | None = None,
    request: Request | None = None,
) -> Iterator[str]:
    """Yield :func:`records` as lines of ASCII JSON, each with its newline.

    Args:
        run: a generation or a stream of segments.
        engine: the engine that generates the segments.
        request: the request that they answer.
    """
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
            "prompt": request.prompt,
            "max_new_tokens": request.max_new_tokens,
            "max_call_tokens": request.max_call_tokens,
            "on_limit": request.on_limit,
            "context_window": request.context_window,
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
    forced = {"closed_by_force": True} if segment.closed_by_force else {}
    return {"text": segment.text, "channel": segment.channel, **call, **forced}


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
        # By verifier: one number per candidate, in the order of the candidates.
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
    """Return the winner, votes, scores and weights of a round as plain values."""
    names = played.drafters
    return {
        # Not "index": LangChain merges list items that have the same "index".
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
    """Return the finish reason, seed and usage of an answer as plain values."""
    return {
        "finish_reason": finish,
        "limit": usage.limit,
        "seed": usage.seed,
        "rounds": max((model.rounds for model in usage.models), default=0),
        "models_per_round": usage.models_per_round,
        "models": {
            model.name: {
                "rounds": model.rounds,
                "segments": model.segments,
                "characters": model.characters,
                "exited": model.exited,
                "method": model.method,
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
    """One candidate of one round, as a row of a table.

    Args:
        round: index of the round; the first one is 1.
        model: name of the drafter.
        text: text of the candidate.
        ends: whether the answer would end with the candidate.
        won: whether the candidate won the round.
        vote: vote of the candidate; None if no verifier could score it.
        scores: score from each verifier, by the verifier's name; None if it could not score the
            candidate.
        weight: voting weight of the drafter; None if it is not a verifier.
        exited: whether the drafter left after this round.
        recalled: whether the drafter had left and came back for this round.
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
    """Yield a row for each candidate of each round, in order."""
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
    """Contribution and cost of one base model in one answer, as a row of a table.

    Args:
        name: name of the model.
        segments: number of rounds that its candidate won.
        characters: number of characters of its winning candidates.
        share: the model's share of all characters, from 0 to 1.
        drafted_tokens: number of tokens that the model sampled.
        verified_tokens: number of tokens that the model ran to score other models' candidates.
        forward_passes: number of forward passes of the model.
        seconds: wall time in seconds of its drafting, verification and commits.
        exited: index of the round after which the model left; None if it stayed.
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
    """Return one row per base model, in ensemble order."""
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
