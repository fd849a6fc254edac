"""The engine on scripted models: how answers end, what is refused, and what stays the same."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from specfuse_core.backend import Backend
from specfuse_core.config import FusionConfig, SamplingParams
from specfuse_core.errors import (
    DuplicateNameError,
    EmptyConversationError,
    EmptyEnsembleError,
    EmptyStopStringError,
    FusionError,
    InvalidLimitError,
    InvalidOptionError,
    ModelLoadError,
    NoVerificationError,
    PromptTooLongError,
    UnknownModelError,
    UnknownOptionError,
)
from specfuse_core.fusion import FusionEngine
from specfuse_core.request import Message, Request
from specfuse_core.testing import ScriptedBackend, ScriptedSession
from specfuse_core.types import Candidate, Generation, Round, Segment, Verification

invariant = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)

CAT = "the cat sat on the mat. it was warm, and it was raining outside all day long."
RUG = "the cat lay on a rug. it was cold, and it was snowing outside all night too."
DOG = "a dog ran out of the house! nobody knew why, or when he would be back home."


def trio() -> list[ScriptedBackend]:
    return [
        ScriptedBackend("a", CAT, confidence=0.8),
        ScriptedBackend("b", RUG, confidence=0.7),
        ScriptedBackend("c", DOG, confidence=0.6),
    ]


def engine(*backends: Backend, **options: Any) -> FusionEngine:
    knobs = {name: options.pop(name) for name in list(options) if name in FusionConfig.model_fields}
    return FusionEngine(backends, FusionConfig(**{"method": "specfuse", **knobs}), **options)


def alone(script: Any, **options: Any) -> FusionEngine:
    return engine(ScriptedBackend("a", script), **{"segment_tokens": 3, **options})


def facts(generation: Generation) -> Generation:
    """Return everything in a generation except times."""

    def still(segment: Segment) -> Segment:
        played = segment.round and replace(segment.round, draft_seconds=0.0, verify_seconds=0.0)
        return replace(segment, round=played, usage=None)

    models = tuple(replace(model, seconds=0.0) for model in generation.usage.models)
    return replace(
        generation,
        usage=replace(generation.usage, models=models),
        segments=tuple(still(segment) for segment in generation.segments),
    )


def sessions(fused: FusionEngine) -> list[ScriptedSession]:
    return [session for backend in fused.backends for session in backend.sessions]  # type: ignore[attr-defined]


class Letters(ScriptedBackend):
    """A first base model whose tokens are characters."""

    def count_tokens(self, text: str) -> int:
        return len(text)


# How an answer ends


def test_stop_when_the_winner_ends_the_answer() -> None:
    generation = alone("one two three four five").generate("q")
    assert generation.text == "one two three four five"
    assert generation.finish_reason == "stop"
    assert generation.usage.completion_tokens == 5
    assert generation.usage.prompt_tokens == 2


def test_an_ending_candidate_may_be_empty() -> None:
    generation = alone("").generate("q")
    assert (generation.text, generation.finish_reason) == ("", "stop")
    assert generation.rounds[0].candidate == Candidate("", True)
    assert generation.usage.completion_tokens == 0


def test_an_empty_end_can_win_against_text() -> None:
    def done(request: Request, response: str) -> str:
        return "" if response else "yes. "

    fused = engine(
        ScriptedBackend("a", done),
        ScriptedBackend("b", done),
        ScriptedBackend("c", "yes. but on and on"),
        segment_tokens=1,
    )
    generation = fused.generate("q")
    assert (generation.text, generation.finish_reason) == ("yes.", "stop")


def test_a_stop_string_is_found_across_segments_and_not_shown() -> None:
    fused = alone("one two END of it. three four five", segment_tokens=2)
    segments = list(fused.stream("q", stop="two END of"))
    assert "".join(segment.text for segment in segments) == "one "
    assert segments[-1].finish_reason == "stop_sequence"
    assert len(segments) > 2


def test_a_held_back_tail_is_shown_when_it_turns_out_harmless() -> None:
    generation = alone("one two three four", segment_tokens=2).generate("q", stop=["two four"])
    assert generation.text == "one two three four"
    assert generation.finish_reason == "stop"


@pytest.mark.parametrize("stop", ["five!", "four fiv"])
def test_a_held_back_tail_is_shown_at_every_other_end(stop: str) -> None:
    script = "one two three four more and more"
    limited = alone(script, segment_tokens=1).generate("q", stop=stop, max_new_tokens=4)
    assert (limited.text, limited.finish_reason) == ("one two three four", "length")
    full = engine(ScriptedBackend("a", script, context_window=6), segment_tokens=1)
    filled = full.generate("q", stop=stop)
    assert (filled.text, filled.finish_reason) == ("one two three four", "context")
    cancel = threading.Event()
    shown = []
    for segment in alone(script, segment_tokens=1).stream("q", stop=stop, cancel=cancel):
        shown.append(segment)
        if segment.round and segment.round.index == 4:
            cancel.set()
    assert "".join(segment.text for segment in shown) == "one two three four"
    assert shown[-1].finish_reason == "cancelled"
    ended = alone("one two three four", segment_tokens=1).generate("q", stop=stop)
    assert (ended.text, ended.finish_reason) == ("one two three four", "stop")


def test_length_when_the_budget_is_used_up_exactly() -> None:
    generation = alone("a. b. c. d. e. f.", segment_tokens=2).generate("q", max_new_tokens=4)
    assert (generation.text, generation.finish_reason) == ("a. b. c. d.", "length")
    assert generation.usage.completion_tokens == 4
    assert len(generation.rounds) == 2


def test_stop_when_the_end_uses_the_budget_up_exactly() -> None:
    generation = alone("a. b. c. d.", segment_tokens=2).generate("q", max_new_tokens=4)
    assert (generation.text, generation.finish_reason) == ("a. b. c. d.", "stop")


def test_the_last_draft_is_no_longer_than_the_budget() -> None:
    generation = alone("a. b. c. d. e. f.", segment_tokens=4).generate("q", max_new_tokens=5)
    assert (generation.text, generation.finish_reason) == ("a. b. c. d. e.", "length")
    assert generation.usage.models[0].cost.drafted_tokens == 5


@pytest.mark.parametrize("words", ["one two three four five six", "one two"])
def test_a_winner_longer_than_the_budget_is_clipped(words: str) -> None:
    first = Letters("a", "x", confidence=0.01)
    fused = engine(first, ScriptedBackend("b", words), drafters=["b"])
    generation = fused.generate("q", max_new_tokens=5)
    assert (generation.text, generation.finish_reason) == ("one t", "length")
    assert generation.usage.completion_tokens == 5
    # The round keeps what was drafted; the segment shows what fitted.
    assert generation.rounds[0].candidate.text.startswith("one two")


def test_the_budget_is_counted_in_the_first_models_tokens() -> None:
    generation = engine(Letters("a", "one two"), segment_tokens=2).generate("q", max_new_tokens=7)
    assert (generation.text, generation.finish_reason) == ("one two", "stop")
    assert generation.usage.completion_tokens == 7
    words = engine(ScriptedBackend("b", "one two"), Letters("a", "one two"))
    assert words.generate("q").usage.completion_tokens == 2


@pytest.mark.parametrize("segment_tokens", [1, 2, 3, 20])
@pytest.mark.parametrize(
    ("stop", "text", "tokens"),
    [
        ("three", "one two ", 3),
        (" three", "one two", 2),
        ("o three fo", "one tw", 2),
        ("one", "", 0),
        ("never", "one two three four five six", 6),
    ],
)
def test_only_what_is_emitted_before_a_stop_string_counts(
    segment_tokens: int, stop: str, text: str, tokens: int
) -> None:
    for kind, expected in ((ScriptedBackend, tokens), (Letters, len(text))):
        fused = engine(kind("a", "one two three four five six"), segment_tokens=segment_tokens)
        generation = fused.generate("q", stop=stop)
        assert (generation.text, generation.usage.completion_tokens) == (text, expected)


def test_what_a_stop_string_cuts_off_does_not_count_after_a_final_assistant_message() -> None:
    messages = [Message("user", "count"), Message("assistant", "one two thr")]
    fused = alone(lambda request, response: "ee four five six"[len(response) :])
    generation = fused.generate(messages, stop="five")
    assert (generation.text, generation.usage.completion_tokens) == ("ee four ", 2)
    assert fused.generate(messages, stop="e fou").usage.completion_tokens == 0


def test_a_stop_string_at_the_limit_counts_no_more_than_the_limit() -> None:
    generation = alone("one two three four five").generate("q", stop="four", max_new_tokens=4)
    assert (generation.text, generation.finish_reason) == ("one two three ", "stop_sequence")
    assert generation.usage.completion_tokens == 4
    more = alone("one two three four five").generate("q", stop="our", max_new_tokens=4)
    assert (more.text, more.usage.completion_tokens) == ("one two three f", 4)


def test_a_final_assistant_message_is_counted_only_from_its_end() -> None:
    messages = [Message("user", "count"), Message("assistant", "one two thr")]
    fused = alone(lambda request, response: "ee four five"[len(response) :], segment_tokens=2)
    generation = fused.generate(messages, max_new_tokens=1)
    # "ee" completes a token of the message; " four" is the first new one.
    assert (generation.text, generation.finish_reason) == ("ee four", "length")
    assert generation.usage.completion_tokens == 1


def test_a_final_message_of_the_user_is_not_counted() -> None:
    generation = alone("ee four five").generate("one two thr", max_new_tokens=1)
    assert (generation.text, generation.usage.completion_tokens) == ("ee", 1)


def test_a_character_of_several_tokens_is_not_cut() -> None:
    class Bytes(ScriptedBackend):
        def count_tokens(self, text: str) -> int:
            return len(text.encode())

    generation = engine(Bytes("a", "n\u00e9 et")).generate("q", max_new_tokens=2)
    assert (generation.text, generation.finish_reason) == ("n", "length")
    assert generation.usage.completion_tokens == 2


def test_context_when_a_session_is_full() -> None:
    fused = engine(
        ScriptedBackend("a", "a. b. c. d. e. f."),
        ScriptedBackend("b", "a. b. c. d. e. f.", context_window=6),
        segment_tokens=3,
    )
    segments = list(fused.stream("q"))
    assert [segment.text for segment in segments] == ["a. b. c.", " d.", ""]
    assert segments[-1].finish_reason == "context"
    assert segments[-1].round is None
    assert segments[-1].author is None
    assert fused.context_window == 6


class Special(ScriptedBackend):
    """A backend with another class of session."""

    def __init__(self, name: str, kind: type[ScriptedSession], **options: Any) -> None:
        super().__init__(name, CAT, **options)
        self.kind = kind

    def start(self, request: Request) -> ScriptedSession:
        self.sessions.append(self.kind(self, request, 2))
        return self.sessions[-1]


def test_context_when_what_was_drafted_fits_no_verifier() -> None:
    class Full(ScriptedSession):
        def verify(self, candidates: Sequence[Candidate]) -> list[Verification]:
            fits = not self.response
            return [Verification((-1.0,) * fits, fits=fits) for _ in candidates]

    fused = engine(
        ScriptedBackend("a", CAT),
        Special("b", Full),
        drafters=["a"],
        verifiers=["b"],
        segment_tokens=3,
    )
    generation = fused.generate("q")
    assert (generation.text, generation.finish_reason) == ("the cat", "context")
    assert generation.segments[-1].round is None
    assert [model.rounds for model in generation.usage.models] == [1, 1]


def test_stop_when_no_verifier_has_a_token_for_what_was_drafted() -> None:
    class Blank(ScriptedSession):
        def draft(self, max_tokens: int) -> Candidate:
            return Candidate("\n\n" if self.response else "one")

    def deaf(response: str, candidate: Candidate) -> list[float]:
        return [0.5] * (bool(candidate.text.strip()) + candidate.ends)

    generation = engine(Special("a", Blank, scorer=deaf)).generate("q", stop="one more")
    assert (generation.text, generation.finish_reason) == ("one", "stop")
    assert generation.rounds[-1].candidate == Candidate("", True)


def test_the_context_of_a_model_that_left_limits_nothing() -> None:
    fused = engine(
        ScriptedBackend("a", CAT),
        ScriptedBackend("b", CAT),
        ScriptedBackend("c", DOG, context_window=8),
        segment_tokens=2,
        exit_warmup=0,
    )
    generation = fused.generate("q")
    assert generation.usage.models[2].exited is not None
    assert (generation.text, generation.finish_reason) == (CAT, "stop")


def test_cancelled_before_the_first_round() -> None:
    cancel = threading.Event()
    cancel.set()
    fused = alone(CAT)
    generation = fused.generate("q", cancel=cancel)
    assert (generation.text, generation.finish_reason) == ("", "cancelled")
    assert generation.rounds == ()
    assert sessions(fused)[0].cost.forward_passes == 0


def test_cancelled_between_rounds() -> None:
    cancel = threading.Event()
    fused = alone(CAT)
    shown = []
    for segment in fused.stream("q", cancel=cancel):
        shown.append(segment)
        cancel.set()
    assert [segment.finish_reason for segment in shown] == [None, "cancelled"]
    assert CAT.startswith(shown[0].text)
    assert shown[0].text
    assert sessions(fused)[0].closed


# What is equal to what


def test_the_stream_is_the_generation() -> None:
    for config in (FusionConfig(method="specfuse"), FusionConfig(), FusionConfig(segment_tokens=3)):
        fused = FusionEngine(trio(), config)
        segments = list(fused.stream("q", seed=1))
        generation = fused.generate("q", seed=1)
        assert "".join(segment.text for segment in segments) == generation.text
        assert facts(Generation.of(segments)) == facts(generation)


def test_only_the_last_segment_has_an_end_and_a_usage() -> None:
    for options in ({}, {"max_new_tokens": 7}, {"stop": "warm"}):
        *rest, last = FusionEngine(trio(), FusionConfig(segment_tokens=3)).stream("q", **options)
        assert rest
        assert all(segment.finish_reason is None and segment.usage is None for segment in rest)
        assert last.finish_reason is not None
        assert last.usage is not None


def test_usage_adds_up() -> None:
    generation = FusionEngine(trio(), FusionConfig(segment_tokens=3)).generate("q", seed=5)
    usage, rounds = generation.usage, generation.rounds
    assert [model.name for model in usage.models] == ["a", "b", "c"]
    assert usage.seed == 5
    assert sum(model.segments for model in usage.models) == len(rounds)
    assert sum(model.characters for model in usage.models) == len(generation.text)
    assert usage.models_per_round == sum(len(r.drafters) for r in rounds) / len(rounds)
    for model in usage.models:
        assert model.segments == sum(played.author == model.name for played in rounds)
        assert model.rounds == sum(model.name in played.drafters for played in rounds)
        assert model.exited == next((r.index for r in rounds if model.name in r.exited), None)


def test_an_executor_changes_nothing_but_the_time() -> None:
    with ThreadPoolExecutor(3) as workers:
        for method in ("specfuse", "specem"):
            one = engine(*trio(), method=method, segment_tokens=3)
            other = engine(*trio(), method=method, segment_tokens=3, executor=workers)
            assert facts(one.generate("q", seed=1)) == facts(other.generate("q", seed=1))


def test_requests_from_several_threads_equal_those_one_by_one() -> None:
    def answer(request: Request, response: str) -> str:
        return f"{request.messages[0].content} is a fine question, and here is more."[
            len(response) :
        ]

    fused = engine(
        ScriptedBackend("a", answer),
        ScriptedBackend("b", CAT),
        segment_tokens=3,
        method="specem",
        weights={"a": 5},
    )
    questions = [f"question {i}" for i in range(12)]
    expected = [facts(fused.generate(question, seed=1)) for question in questions]
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda question: fused.generate(question, seed=1), questions))
    assert [facts(generation) for generation in found] == expected
    assert len({generation.text for generation in expected}) == len(questions)


def test_interleaved_streams_do_not_disturb_each_other() -> None:
    fused = engine(*trio(), segment_tokens=2, method="specem")
    alone_text = fused.generate("q").text
    streams = [fused.stream("q") for _ in range(3)]
    texts = ["", "", ""]
    for row in itertools.zip_longest(*streams, fillvalue=Segment("")):
        texts = [text + segment.text for text, segment in zip(texts, row, strict=True)]
    assert texts == [alone_text] * 3


sentences = st.lists(
    st.sampled_from(["one", "two", "red.", "blue,", "cat", "dog"]), min_size=1, max_size=8
).map(" ".join)


@invariant
@given(
    st.lists(st.tuples(sentences, st.floats(0.2, 0.99)), min_size=2, max_size=4),
    st.sampled_from(["specfuse", "specem"]),
    st.randoms(),
)
def test_the_order_of_models_changes_only_ties(models: Any, method: str, random: Any) -> None:
    def build(order: Sequence[int]) -> FusionEngine:
        backends = [ScriptedBackend(f"m{i}", models[i][0], confidence=models[i][1]) for i in order]
        return engine(*backends, method=method, segment_tokens=2, exit_warmup=1)

    order = random.sample(range(len(models)), len(models))
    first = build(range(len(models))).generate("q", seed=1)
    for played in first.rounds:
        votes = sorted(
            (vote or 0.0, c) for c, vote in zip(played.candidates, played.votes, strict=True)
        )
        # Two models may write the same; that two others are level is a tie.
        assume(all(c == votes[-1][1] or v < votes[-1][0] - 1e-9 for v, c in votes))
    second = build(order).generate("q", seed=1)
    assert second.text == first.text
    assert second.finish_reason == first.finish_reason
    for one, other in zip(first.rounds, second.rounds, strict=True):
        assert set(one.drafters) == set(other.drafters)
        assert set(one.exited) == set(other.exited)
        assert one.candidate == other.candidate


def test_a_tie_goes_to_the_earlier_model() -> None:
    def level(response: str, candidate: Candidate) -> list[float]:
        return [0.5]

    a, b = ScriptedBackend("a", "left", scorer=level), ScriptedBackend("b", "right", scorer=level)
    assert engine(a, b).generate("q").text == "left"
    assert engine(b, a).generate("q").text == "right"


# The two methods, and their parts


def poor_third() -> list[ScriptedBackend]:
    """Two models that differ in one word, and one that gets low scores."""
    twin = CAT.replace("warm", "nice")
    return [ScriptedBackend("a", CAT), ScriptedBackend("b", twin), ScriptedBackend("c", DOG)]


def row_sums(played: Round) -> list[float]:
    """The sum of each verifier's scores of the distinct candidates."""
    rows = [dict(zip(played.candidates, row, strict=True)) for row in played.scores]
    return [sum(score or 0.0 for score in row.values()) for row in rows]


def test_specfuse_has_equal_weights_and_lets_models_leave() -> None:
    generation = engine(*poor_third(), method="specfuse", segment_tokens=2).generate("q")
    for played in generation.rounds:
        assert played.weights == pytest.approx([1 / len(played.verifiers)] * len(played.verifiers))
    assert generation.usage.models[2].exited is not None
    assert generation.usage.models_per_round < 3


def test_specem_moves_the_weights_and_keeps_all_models() -> None:
    generation = engine(*poor_third(), method="specem", segment_tokens=2).generate("q")
    assert all(played.verifiers == ("a", "b", "c") for played in generation.rounds)
    assert all(
        total == pytest.approx(1) for played in generation.rounds for total in row_sums(played)
    )
    last = generation.rounds[-1].weights
    assert last[2] < 1 / 3 < last[0]
    assert generation.usage.models_per_round == 3


@pytest.mark.parametrize("mode", ["prob", "logit", "logprob"])
@pytest.mark.parametrize("method", ["specfuse", "specem"])
def test_every_score_mode_follows_the_models_that_agree(method: str, mode: str) -> None:
    fused = engine(*poor_third(), method=method, score_mode=mode, segment_tokens=3)
    generation = fused.generate("q")
    assert generation.text.startswith("the cat sat on the mat.")
    for played in generation.rounds:
        # The rows of "prob" are probabilities of their own; the others share out one.
        normalised = all(total == pytest.approx(1) for total in row_sums(played))
        assert normalised == (mode != "prob")


def test_logit_mode_is_refused_before_anything_runs_where_a_verifier_has_no_logits() -> None:
    a, b = ScriptedBackend("a", CAT), ScriptedBackend("b", RUG, supports_logits=False)
    fused = engine(a, b, score_mode="logit")
    with pytest.raises(
        InvalidOptionError,
        match=r"^score_mode must be 'logprob' or 'prob', because 'b' does not give the raw logits",
    ):
        fused.stream("q")
    assert a.loads == b.loads == 0
    assert sessions(fused) == []
    # One that only drafts needs none.
    assert engine(a, b, score_mode="logit", verifiers=["a"]).generate("q").finish_reason == "stop"


def test_a_verifier_with_broken_numbers_does_not_stop_the_answer() -> None:
    broken = ScriptedBackend("b", RUG, scorer=lambda response, candidate: [float("nan")])
    generation = engine(ScriptedBackend("a", CAT), broken).generate("q")
    assert all(row == (None, None) for r in generation.rounds for row in r.scores[1:])
    assert generation.text == CAT


def test_no_sound_verifier_is_an_error_and_closes_the_sessions() -> None:
    fused = alone(CAT, method="specem")
    fused.backends[0].scorer = lambda response, candidate: [0.0]  # type: ignore[attr-defined]
    with pytest.raises(NoVerificationError):
        fused.generate("q")
    assert sessions(fused)[0].closed


def test_all_active_sessions_get_the_same_commits() -> None:
    fused = engine(*trio(), model_exit=False, segment_tokens=3)
    generation = fused.generate("q")
    expected = [Candidate(played.candidate.text) for played in generation.rounds[:-1]]
    assert expected
    assert [session.commits for session in sessions(fused)] == [expected] * 3


def test_who_left_gets_no_more_commits_and_costs_no_more() -> None:
    fused = engine(*poor_third(), segment_tokens=2)
    generation = fused.generate("q")
    left = generation.usage.models[2]
    assert left.exited is not None
    assert left.exited < len(generation.rounds)
    assert len(sessions(fused)[2].commits) == left.exited - 1
    assert left.cost.drafted_tokens == 2 * left.exited
    assert left.rounds == left.exited


def test_who_left_is_closed_while_the_answer_goes_on() -> None:
    fused = engine(*poor_third(), segment_tokens=2)
    for segment in fused.stream("q"):
        if segment.round and segment.round.exited:
            assert [session.closed for session in sessions(fused)] == [False, False, True]
            return
    pytest.fail("nobody left")


class Recording(ScriptedBackend):
    """A backend that records its requests."""

    def start(self, request: Request) -> ScriptedSession:
        self.requests = [*getattr(self, "requests", []), request]
        return super().start(request)


def test_every_verifier_sees_the_whole_conversation_and_the_same_request() -> None:
    backends = [
        Recording(name, script) for name, script in zip("abc", (CAT, RUG, DOG), strict=True)
    ]
    fused = engine(*backends, drafters=["a"], verifiers=["b", "c"])
    messages = [Message("system", "be brief"), Message("user", "hi"), Message("user", "why")]
    generation = fused.generate(messages, max_new_tokens=9, temperature=0.5)
    (request,) = backends[0].requests
    assert request.messages == tuple(messages)
    assert (request.max_new_tokens, request.sampling.temperature) == (9, 0.5)
    assert backends[1].requests == backends[2].requests == [request]
    assert generation.rounds[0].drafters == ("a",)
    assert generation.rounds[0].verifiers == ("b", "c")
    assert CAT.startswith(generation.text)


def test_a_model_that_neither_drafts_nor_verifies_is_not_asked() -> None:
    fused = engine(*trio(), drafters=["a"], verifiers=["a", "c"])
    generation = fused.generate("q")
    assert fused.backends[1].sessions == []  # type: ignore[attr-defined]
    assert [model.name for model in generation.usage.models] == ["a", "c"]


def test_prior_weights_are_relative() -> None:
    def prefers(word: str) -> Callable[[str, Candidate], list[float]]:
        return lambda response, candidate: [0.6 if candidate.text == word else 0.4]

    def fused(**weights: float) -> FusionEngine:
        a = ScriptedBackend("a", "left", scorer=prefers("left"))
        b = ScriptedBackend("b", "right", scorer=prefers("right"))
        return engine(a, b, weights=weights)

    assert fused(b=3).generate("q").text == "right"
    assert fused(a=3).generate("q").text == "left"
    assert fused(a=1, b=1).generate("q").text == fused().generate("q").text == "left"
    assert fused(b=3).generate("q").rounds[0].weights == (0.25, 0.75)


def test_a_name_given_twice_counts_once() -> None:
    fused = engine(*trio(), drafters=["b", "a", "b"])
    assert fused.generate("q").rounds[0].drafters == ("a", "b")
    assert fused.subset(["a", "c", "a"]).models == ("a", "c")


# Seeds


def test_a_given_seed_is_used_and_reported() -> None:
    backends = [Recording("a", CAT), Recording("b", RUG)]
    assert engine(*backends).generate("q", seed=0).usage.seed == 0
    assert [backend.requests[0].sampling.seed for backend in backends] == [0, 0]


def test_a_request_without_a_seed_draws_one_for_all_models_and_reports_it() -> None:
    backends = [Recording("a", CAT), Recording("b", RUG)]
    fused = engine(*backends)
    seeds = [fused.generate("q", sampling=SamplingParams(temperature=1)).usage.seed for _ in "12"]
    assert seeds[0] != seeds[1]
    for backend in backends:
        assert [request.sampling.seed for request in backend.requests] == seeds
        assert backend.requests[0].sampling.temperature == 1


# Sessions are closed


def open_sessions(fused: FusionEngine) -> list[ScriptedSession]:
    assert sessions(fused)
    return [session for session in sessions(fused) if not session.closed]


def test_sessions_are_open_during_the_answer_and_closed_after_it() -> None:
    fused = engine(*trio(), segment_tokens=3, model_exit=False)
    stream = fused.stream("q")
    next(stream)
    assert len(open_sessions(fused)) == 3
    list(stream)
    assert open_sessions(fused) == []


@pytest.mark.parametrize("begun", [0, 1, 2])
def test_closing_the_stream_closes_the_sessions_and_stops_the_models(begun: int) -> None:
    fused = alone(CAT)
    stream = fused.stream("q")
    for _ in range(begun):
        next(stream)
    stream.close()
    assert open_sessions(fused) == []
    assert sessions(fused)[0].cost.forward_passes == 4 * begun
    assert list(stream) == []


@pytest.mark.parametrize("begun", [0, 1])
def test_a_stream_that_is_dropped_closes_the_sessions(begun: int) -> None:
    fused = alone(CAT)
    stream = fused.stream("q")
    for _ in range(begun):
        next(stream)
    del stream
    gc.collect()
    assert open_sessions(fused) == []


class BadSession(ScriptedSession):
    def fail(self, *_: Any) -> Any:
        raise OSError("no power")


class Bad(ScriptedBackend):
    """A backend that fails in one of its steps."""

    def __init__(self, name: str, step: str) -> None:
        super().__init__(name, CAT)
        self.step = step

    def start(self, request: Request) -> ScriptedSession:
        session = BadSession(self, request, 2)
        if self.step == "start":
            session.fail()
        self.sessions.append(session)
        setattr(session, self.step, session.fail)
        return session


@pytest.mark.parametrize("step", ["start", "draft", "verify", "commit"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_backend_goes_up_as_it_is_and_closes_the_sessions(
    step: str, workers: int
) -> None:
    with ThreadPoolExecutor(workers or 1) as pool:
        executor = pool if workers else None
        fused = engine(
            ScriptedBackend("a", CAT), Bad("b", step), segment_tokens=3, executor=executor
        )
        with pytest.raises(OSError, match="no power"):
            fused.generate("q")
    assert open_sessions(fused) == []


def test_an_error_in_counting_closes_the_sessions() -> None:
    class Uncounted(ScriptedBackend):
        def count_tokens(self, text: str) -> int:
            raise OSError("no power")

    fused = engine(Uncounted("a", CAT))
    for conversation in ("q", [Message("assistant", "going on")]):
        with pytest.raises(OSError, match="no power"):
            fused.generate(conversation)
    assert len(sessions(fused)) == 2
    assert open_sessions(fused) == []


def test_the_engine_is_unharmed_by_a_failed_request() -> None:
    flaky = {"fails": True}

    def script(request: Request, response: str) -> str:
        if flaky["fails"]:
            raise OSError("no power")
        return "fine"

    fused = alone(script)
    with pytest.raises(OSError, match="no power"):
        fused.generate("q")
    flaky["fails"] = False
    assert fused.generate("q").text == "fine"


# What is refused, and when


@pytest.mark.parametrize(
    ("conversation", "options", "error"),
    [
        ("", {}, EmptyConversationError),
        ([], {}, EmptyConversationError),
        ("q", {"stop": ""}, EmptyStopStringError),
        ("q", {"max_new_tokens": 0}, InvalidLimitError),
        ("q", {"top_k": 0}, InvalidLimitError),
        ("q", {"max_tokens": 5}, UnknownOptionError),
    ],
)
def test_a_bad_request_is_refused_by_the_call_itself(
    conversation: Any, options: dict[str, Any], error: type[FusionError]
) -> None:
    fused = engine(*trio())
    with pytest.raises(error):
        fused.stream(conversation, **options)
    with pytest.raises(error):
        fused.generate(conversation, **options)
    assert sessions(fused) == []
    assert [backend.loads for backend in fused.backends] == [0, 0, 0]  # type: ignore[attr-defined]


def test_nothing_is_drafted_until_a_segment_is_asked_for_and_then_one_round() -> None:
    fused = engine(*trio(), segment_tokens=2)
    stream = fused.stream("q")
    assert [session.cost.forward_passes for session in sessions(fused)] == [0, 0, 0]
    next(stream)
    assert [session.cost.drafted_tokens for session in sessions(fused)] == [2, 2, 2]
    assert [session.commits for session in sessions(fused)] == [[], [], []]
    stream.close()


def test_a_prompt_too_long_for_one_model_is_refused_before_any_model_runs() -> None:
    fused = engine(ScriptedBackend("a", CAT), ScriptedBackend("b", RUG, context_window=4))
    with pytest.raises(PromptTooLongError, match="'b'"):
        fused.stream("one two three four")
    (session,) = sessions(fused)
    assert session.cost.forward_passes == 0
    assert session.closed
    # Without the small model it can be answered.
    assert fused.subset(["a"]).generate("one two three four").text == CAT


def test_an_empty_ensemble_is_refused() -> None:
    with pytest.raises(EmptyEnsembleError, match="at least one"):
        FusionEngine([])
    for option in ("drafters", "verifiers"):
        with pytest.raises(EmptyEnsembleError, match=option):
            engine(*trio(), **{option: []})
    with pytest.raises(EmptyEnsembleError):
        engine(*trio()).subset([])


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(DuplicateNameError, match="'a'"):
        engine(ScriptedBackend("a", CAT), ScriptedBackend("b", CAT), ScriptedBackend("a", DOG))


@pytest.mark.parametrize(
    "options", [{"drafters": ["a", "x"]}, {"verifiers": ["x"]}, {"weights": {"x": 1.0}}]
)
def test_unknown_names_are_refused_with_the_known_ones(options: dict[str, Any]) -> None:
    (what,) = options
    with pytest.raises(UnknownModelError, match=rf"{what}: .*'x'.* a, b, c"):
        engine(*trio(), **options)


def test_an_unknown_name_in_a_subset_is_refused() -> None:
    with pytest.raises(UnknownModelError, match="'x'"):
        engine(*trio()).subset(["a", "x"])


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_that_is_no_positive_number_is_refused(weight: float) -> None:
    with pytest.raises(InvalidLimitError, match="'b' must be a positive number"):
        engine(*trio(), weights={"b": weight})


# Engines that share backends; loading


def test_a_subset_shares_backends_and_keeps_what_concerns_it() -> None:
    fused = engine(*trio(), drafters=["a", "b"], weights={"a": 2, "c": 3}, segment_tokens=4)
    part = fused.subset(["c", "a"])
    assert part.models == ("c", "a")
    assert all(
        one is other for one, other in zip(part.backends, fused.backends[2::-2], strict=True)
    )
    assert part.config is fused.config
    assert part.drafters == ("a",)
    played = part.generate("q").rounds[0]
    assert played.verifiers == ("c", "a")
    assert played.weights == (0.6, 0.4)
    assert fused.models == ("a", "b", "c")


def test_with_config_shares_backends_and_changes_knobs() -> None:
    fused = engine(*trio(), drafters=["a"], segment_tokens=4)
    other = fused.with_config(method="specem")
    assert other.backends == fused.backends
    assert other.config == FusionConfig(method="specem", segment_tokens=4)
    assert other.drafters == ("a",)
    assert fused.config.method == "specfuse"
    assert fused.with_config(FusionConfig(min_models=2), segment_tokens=2).config == FusionConfig(
        min_models=2, segment_tokens=2
    )
    with pytest.raises(UnknownOptionError, match="segment_tokens"):
        fused.with_config(segment_token=3)


def test_engines_made_from_an_engine_keep_its_weights_its_loader_and_its_executor() -> None:
    class Counting(ThreadPoolExecutor):
        jobs = 0

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            self.jobs += 1
            return super().submit(*args, **kwargs)

    loads: list[int] = []
    with Counting(2) as workers:
        fused = engine(
            *trio(),
            weights={"a": 3},
            executor=workers,
            loader=lambda backends: loads.append(len(backends)),
        )
        for number, other in enumerate((fused.with_config(min_models=2), fused.subset(["a", "b"]))):
            before = workers.jobs
            share = 3 / (3 + len(other.models) - 1)
            assert other.generate("q").rounds[0].weights[0] == pytest.approx(share)
            assert workers.jobs > before
            assert loads[number:] == [len(other.models)]


def test_the_default_config_is_that_of_specem() -> None:
    assert FusionEngine(trio()).config == FusionConfig()


def test_models_are_loaded_at_the_first_request_and_not_before() -> None:
    calls = []

    def loader(backends: Sequence[Backend]) -> None:
        calls.append([backend.name for backend in backends])
        assert sessions(fused) == []

    fused = engine(*trio(), loader=loader)
    fused.subset(["a"])
    fused.with_config(min_models=2)
    assert calls == []
    stream = fused.stream("q")
    assert calls == [["a", "b", "c"]]
    stream.close()


def test_by_default_each_backend_is_loaded() -> None:
    fused = engine(*trio())
    assert [backend.loads for backend in fused.backends] == [0, 0, 0]  # type: ignore[attr-defined]
    fused.warm_up()
    assert [backend.loads for backend in fused.backends] == [1, 1, 1]  # type: ignore[attr-defined]
    assert sessions(fused) == []


def test_an_error_in_loading_goes_up_before_any_session_opens() -> None:
    def loader(backends: Sequence[Backend]) -> None:
        raise ModelLoadError("no such model")

    fused = engine(*trio(), loader=loader)
    with pytest.raises(ModelLoadError, match="no such model"):
        fused.stream("q")
    assert sessions(fused) == []


def test_an_answer_of_text_without_tokens_ends_all_the_same() -> None:
    class Blind(ScriptedBackend):
        def count_tokens(self, text: str) -> int:
            return 0

    fused = engine(Blind("blind", "word " * 100), segment_tokens=1)
    generation = fused.generate("q", max_new_tokens=7)
    assert generation.finish_reason == "length"
    assert len(generation.rounds) == 8


def test_an_engine_is_shown_in_one_line_and_nothing_is_loaded_for_it() -> None:
    fused = engine(*trio(), method="specem")
    shown = "FusionEngine(models='a, b, c', method='specem', device='not loaded')"
    assert repr(fused) == shown
    assert [backend.device for backend in fused.backends] == [None, None, None]
    fused.warm_up()
    assert repr(fused) == shown.replace("not loaded", "cpu")
    fused = FusionEngine([*fused.backends, ScriptedBackend("d", DOG)])
    assert repr(fused).endswith("device='cpu, not loaded')")


def test_an_engine_of_many_models_is_shown_in_one_line_too() -> None:
    names = [f"organisation-{i}-a-model-with-a-long-name" for i in range(40)]
    shown = repr(engine(*(ScriptedBackend(name, CAT) for name in names)))
    assert shown.startswith("FusionEngine(models='organisation-0")
    assert "..." in shown
    assert len(shown) < 100
