"""The public test double keeps every promise of the backend protocol."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specfuse_core.backend import Backend, Session
from specfuse_core.errors import PromptTooLongError
from specfuse_core.request import Message, Request
from specfuse_core.testing import ScriptedBackend, ScriptedSession
from specfuse_core.types import Candidate

invariant = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

QUESTION = Request.of("why so")
SCRIPT = "because it is so, and so on."


def start(backend: ScriptedBackend, request: Request = QUESTION) -> ScriptedSession:
    return backend.start(request)


def test_it_is_a_backend_and_its_sessions_are_sessions() -> None:
    backend: Backend = ScriptedBackend("a", SCRIPT)
    session: Session = backend.start(QUESTION)
    for protocol, thing in ((Backend, backend), (Session, session)):
        for name in vars(protocol):
            assert name.startswith("_") or hasattr(thing, name), name


def test_it_drafts_its_script_in_whole_words() -> None:
    session = start(ScriptedBackend("a", SCRIPT))
    assert session.draft(1) == Candidate("because")
    # The second of two tokens could still go on, so its word is not complete yet.
    assert session.draft(2) == Candidate("because")
    assert session.draft(3) == Candidate("because it")
    session.commit(Candidate("because it"))
    assert session.draft(2) == Candidate(" is so,")
    assert session.draft(99) == Candidate(" is so, and so on.", ends=True)


@invariant
@given(st.text(alphabet="ab ,.\n", max_size=30), st.integers(1, 5))
def test_drafts_and_commits_write_the_script_and_end(script: str, tokens: int) -> None:
    session = start(ScriptedBackend("a", script))
    for _ in range(len(script) + 1):
        candidate = session.draft(tokens)
        if candidate.ends:
            assert session.response + candidate.text == script
            return
        assert candidate.text
        session.commit(candidate)
    pytest.fail("the script never ended")


def test_an_empty_rest_is_an_ending_candidate() -> None:
    session = start(ScriptedBackend("a", "yes"))
    session.commit(Candidate("yes"))
    assert session.draft(5) == Candidate("", ends=True)


def test_it_goes_on_after_the_words_of_others() -> None:
    session = start(ScriptedBackend("a", "one two three four"))
    session.commit(Candidate("uno dos"))
    assert session.draft(9) == Candidate(" three four", ends=True)


def test_a_script_may_be_a_function_of_request_and_response() -> None:
    backend = ScriptedBackend(
        "a", lambda request, response: f"{request.messages[0].content}!{response}"
    )
    session = start(backend)
    session.commit(Candidate("x"))
    assert session.draft(9) == Candidate("why so!x", ends=True)


def test_drafting_and_verifying_leave_the_state_alone() -> None:
    session = start(ScriptedBackend("a", SCRIPT))
    first = session.draft(3)
    room = session.room
    rows = session.verify([first, Candidate("other words")])
    assert session.draft(3) == first
    assert session.verify([first, Candidate("other words")]) == rows
    assert session.room == room
    assert session.response == ""


def test_it_trusts_its_own_words_and_doubts_others() -> None:
    session = start(ScriptedBackend("a", SCRIPT, confidence=0.9, doubt=0.05))
    same, other, partly = session.verify(
        [Candidate("because it"), Candidate("no reason"), Candidate("because of")]
    )
    assert same.logprobs == pytest.approx((math.log(0.9), math.log(0.9)))
    assert all(0.025 <= math.exp(value) <= 0.075 for value in other.logprobs)
    assert partly.logprobs[0] == same.logprobs[0]
    assert partly.logprobs[1] < math.log(0.08)


def test_an_end_is_one_more_token_of_the_verification() -> None:
    session = start(ScriptedBackend("a", "yes it is"))
    right, early, empty = session.verify(
        [Candidate("yes it is", True), Candidate("yes it", True), Candidate("", True)]
    )
    assert right.logprobs == pytest.approx((math.log(0.9),) * 4)
    assert len(early.logprobs) == 3
    assert early.logprobs[-1] < math.log(0.08)
    assert len(empty.logprobs) == 1


def test_a_scorer_replaces_the_agreement() -> None:
    seen = []

    def scorer(response: str, candidate: Candidate) -> list[float]:
        seen.append((response, candidate))
        return [0.5, 0.0]

    session = start(ScriptedBackend("a", SCRIPT, scorer=scorer))
    session.commit(Candidate("so"))
    (verification,) = session.verify([Candidate(" far")])
    assert verification.logprobs == (math.log(0.5), -math.inf)
    assert seen == [("so", Candidate(" far"))]


def test_logits_only_where_they_are_supported() -> None:
    with_logits = start(ScriptedBackend("a", SCRIPT)).verify([Candidate("because it")])[0]
    assert with_logits.logits == tuple(value + 1 for value in with_logits.logprobs)
    without = ScriptedBackend("a", SCRIPT, supports_logits=False)
    assert start(without).verify([Candidate("because it")])[0].logits == ()


def test_room_shrinks_with_what_is_committed() -> None:
    session = start(ScriptedBackend("a", SCRIPT, context_window=10))
    assert session.cost.prompt_tokens == 3
    assert session.room == 7
    session.commit(Candidate("because it"))
    assert session.room == 5


def test_a_candidate_without_room_gets_a_verification_without_tokens() -> None:
    session = start(ScriptedBackend("a", SCRIPT, context_window=6))
    fits, does_not = session.verify([Candidate("one two three"), Candidate("one two three four")])
    assert len(fits.logprobs) == 3
    assert does_not.logprobs == ()


def test_a_prompt_that_does_not_fit_is_refused_by_name_window_and_length() -> None:
    backend = ScriptedBackend("small", SCRIPT, context_window=5)
    request = Request.of([Message("system", "one two"), Message("user", "three")])
    with pytest.raises(PromptTooLongError, match=r"5 tokens for 'small'.* window is 5"):
        backend.start(request)
    assert backend.sessions == []


def test_cost_counts_what_was_done() -> None:
    session = start(ScriptedBackend("a", SCRIPT))
    session.draft(2)
    session.verify([Candidate("one two three"), Candidate("four", True)])
    assert session.cost.drafted_tokens == 2
    assert session.cost.verified_tokens == 4
    assert session.cost.forward_passes == 3


def test_it_keeps_its_sessions_loads_commits_and_ends_for_tests_to_see() -> None:
    backend = ScriptedBackend("a", SCRIPT)
    backend.load()
    backend.load()
    session = start(backend)
    session.commit(Candidate("x"))
    session.close()
    session.close()
    assert backend.loads == 2
    assert backend.sessions == [session]
    assert session.commits == [Candidate("x")]
    assert session.closed
    assert backend.count_tokens("one two\n three ") == 4
