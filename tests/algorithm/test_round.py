"""One round (draft, verify, vote, commit, exit) and the state of the ensemble."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from specfuse_core.algorithm.exits import leaving, shares
from specfuse_core.algorithm.member import Member
from specfuse_core.algorithm.round import Ensemble
from specfuse_core.config import FusionConfig
from specfuse_core.errors import NoVerificationError
from specfuse_core.request import Request
from specfuse_core.testing import ScriptedBackend, ScriptedSession
from specfuse_core.types import Candidate, Round, Verification

NO_EXIT = FusionConfig(method="specfuse", model_exit=False)
EAGER_EXIT = FusionConfig(method="specfuse", exit_warmup=0, exit_temperature=0.2)


class Scores:
    """A scorer that gives each text its own probability and records its calls."""

    def __init__(self, **table: float) -> None:
        self.table = table
        self.asked: list[Candidate] = []

    def __call__(self, response: str, candidate: Candidate) -> list[float]:
        self.asked.append(candidate)
        return [self.table.get(candidate.text.strip(), 0.01)]


def judge(name: str, script: str, **table: float) -> ScriptedBackend:
    """A model that writes ``script`` and scores texts by ``table``."""
    return ScriptedBackend(name, script, scorer=Scores(**table))


def asked(backend: ScriptedBackend) -> list[str]:
    assert isinstance(backend.scorer, Scores)
    return [candidate.text for candidate in backend.scorer.asked]


def member(backend: ScriptedBackend, role: str = "both", weight: float = 1.0) -> Member:
    session = backend.start(Request.of("q"))
    return Member(backend.name, session, role != "verifies", role != "drafts", weight)


def ensemble(
    *backends: ScriptedBackend,
    config: FusionConfig = NO_EXIT,
    workers: ThreadPoolExecutor | None = None,
) -> Ensemble:
    return Ensemble([member(backend) for backend in backends], config, workers)


def timeless(played: Round) -> Round:
    return replace(played, draft_seconds=0.0, verify_seconds=0.0)


def session(backend: ScriptedBackend) -> ScriptedSession:
    (only,) = backend.sessions
    return only


def test_the_record_of_a_round_by_hand() -> None:
    a = judge("a", "x x1", x=0.6, y=0.2)
    b = judge("b", "y y1", x=0.5, y=0.4)
    played = timeless(ensemble(a, b).play(1))
    assert played == Round(
        index=1,
        drafters=("a", "b"),
        candidates=(Candidate("x"), Candidate("y")),
        verifiers=("a", "b"),
        scores=(pytest.approx((0.6, 0.2)), pytest.approx((0.5, 0.4))),  # type: ignore[arg-type]
        weights=(0.5, 0.5),
        votes=pytest.approx((0.55, 0.3)),  # type: ignore[arg-type]
        winner=0,
    )
    assert played.author == "a"


def test_rounds_are_numbered_from_one_and_timed() -> None:
    both = ensemble(judge("a", "x x x", x=0.9), judge("b", "y y y", y=0.1))
    rounds = [both.play(1) for _ in range(3)]
    assert [played.index for played in rounds] == [1, 2, 3]
    assert all(played.draft_seconds >= 0 and played.verify_seconds >= 0 for played in rounds)


def test_the_limit_goes_to_every_drafter() -> None:
    both = ensemble(judge("a", "one two three"), judge("b", "uno dos tres"))
    played = both.play(2)
    assert played.candidates == (Candidate("one"), Candidate("uno"))
    assert [one.session.cost.drafted_tokens for one in both.members] == [2, 2]


def test_equal_candidates_are_verified_once_and_score_alike() -> None:
    a, b = judge("a", "x x1", x=0.6, y=0.2), judge("b", "x x2", x=0.5, y=0.4)
    c = judge("c", "y y1", x=0.3, y=0.7)
    played = ensemble(a, b, c).play(1)
    assert [asked(backend) for backend in (a, b, c)] == [["x", "y"]] * 3
    assert all(row[0] == row[1] != row[2] for row in played.scores)
    assert played.votes[0] == played.votes[1]


def test_the_same_text_with_and_without_an_end_are_two_candidates() -> None:
    a, b = judge("a", "x"), judge("b", "x more")
    played = ensemble(a, b).play(1)
    assert played.candidates == (Candidate("x", True), Candidate("x"))
    assert asked(a) == ["x", "x"]


def test_verifiers_need_not_draft_nor_drafters_verify() -> None:
    a, b = judge("a", "x x1", x=0.9), judge("b", "y y1", y=0.9)
    c = judge("c", "z z1", x=0.1, y=0.2)
    three = Ensemble([member(a, "drafts"), member(b, "drafts"), member(c, "verifies")], NO_EXIT)
    played = three.play(1)
    assert played.drafters == ("a", "b")
    assert played.verifiers == ("c",)
    assert played.scores == (pytest.approx((0.1, 0.2)),)
    assert played.author == "b"
    assert asked(a) == asked(b) == []
    assert session(c).cost.drafted_tokens == 0
    three.commit(played.candidate)
    assert all(session(backend).response == "y" for backend in (a, b, c))


def test_priors_are_scaled_and_weigh_the_vote() -> None:
    a, b = judge("a", "x x1", x=0.6, y=0.5), judge("b", "y y1", x=0.1, y=0.4)
    equal = ensemble(a, b).play(1)
    assert (equal.weights, equal.author) == ((0.5, 0.5), "b")
    a_counts = Ensemble([member(a, weight=9.0), member(b, weight=1.0)], NO_EXIT).play(1)
    assert a_counts.weights == pytest.approx((0.9, 0.1))
    assert a_counts.author == "a"


def test_a_tie_goes_to_the_larger_weight_then_to_the_earlier_model() -> None:
    a, b = judge("a", "x x1", x=0.5, y=0.5), judge("b", "y y1", x=0.5, y=0.5)
    assert ensemble(a, b).play(1).author == "a"
    assert ensemble(b, a).play(1).author == "b"
    heavy_b = Ensemble([member(a, weight=1.0), member(b, weight=2.0)], NO_EXIT)
    assert heavy_b.play(1).author == "b"


def test_commit_gives_every_session_the_same_text() -> None:
    a, b = judge("a", "x x1"), judge("b", "y y1")
    both = ensemble(a, b)
    both.commit(Candidate("mine"))
    both.commit(Candidate(" too"))
    assert session(a).commits == session(b).commits == [Candidate("mine"), Candidate(" too")]


def test_online_feedback_is_used_in_the_vote_of_its_own_round() -> None:
    def three(config: FusionConfig) -> Ensemble:
        return ensemble(
            judge("a", "x x1", x=0.5, y=0.3, z=0.2),
            judge("b", "y y1", x=0.5, y=0.3, z=0.2),
            judge("c", "z z1", x=0.5, y=0.3, z=0.2),
            config=config,
        )

    config = FusionConfig(method="specem", learning_rate=0.5)
    played = three(config).play(1)
    # a wins all four pairs; b loses to a and is level with itself: 2; c is level with itself: 2.
    # Of b: {a, c} judge it against a (lost) and c (won): 2. Of c: lost all four, counted as one.
    eta = 0.5 * math.sqrt(1 / 3)
    raw = [math.exp(eta), math.exp(eta / 2), math.exp(eta / 4)]
    assert played.weights == pytest.approx([value / sum(raw) for value in raw])
    assert three(config.replace(online_feedback=False)).play(1).weights == (1 / 3,) * 3
    assert three(config.replace(learning_rate=0)).play(1).weights == pytest.approx([1 / 3] * 3)


def test_feedback_weakens_with_the_rounds_of_an_answer() -> None:
    table = {"x": 0.5, "y": 0.3, "z": 0.2}
    models = [
        judge(name, f"{text} {text} {text}", **table)
        for name, text in zip("abc", "xyz", strict=True)
    ]
    three = ensemble(*models, config=FusionConfig(method="specem", learning_rate=0.5))
    # The wins of every round: all four pairs, two of them, none (counted as one).
    raw = [1.0, 1.0, 1.0]
    for t in (1, 2, 3):
        eta = 0.5 * math.sqrt(1 / 3) / t
        raw = [w * math.exp(eta * r) for w, r in zip(raw, (1, 1 / 2, 1 / 4), strict=True)]
        played = three.play(1)
        assert played.weights == pytest.approx([value / sum(raw) for value in raw])
        three.commit(Candidate(" x"))


def test_feedback_adds_up_over_the_rounds_of_an_answer_only() -> None:
    def models() -> list[ScriptedBackend]:
        table = {"x": 0.5, "y": 0.3, "z": 0.2}
        return [
            judge(name, f"{text} {text} {text}", **table)
            for name, text in zip("abc", "xyz", strict=True)
        ]

    one = ensemble(*models(), config=FusionConfig(method="specem"))
    weights = [one.play(1).weights[0] for _ in range(3)]
    assert weights == sorted(weights)
    assert weights[0] < weights[-1]
    assert (
        ensemble(*models(), config=FusionConfig(method="specem")).play(1).weights[0] == weights[0]
    )


def test_without_self_vote_a_model_cannot_elect_itself() -> None:
    vain, modest = judge("a", "x x1", x=1.0, y=0.1), judge("b", "y y1", x=0.05, y=0.1)
    assert ensemble(vain, modest).play(1).author == "a"
    played = ensemble(vain, modest, config=FusionConfig(method="specfuse", self_vote=False)).play(1)
    assert played.author == "b"
    assert played.votes == pytest.approx((0.05, 0.1))


def test_without_self_vote_one_model_alone_still_answers() -> None:
    played = ensemble(
        judge("a", "x x1", x=0.4), config=FusionConfig(method="specfuse", self_vote=False)
    ).play(1)
    assert played.votes == pytest.approx((0.4,))


class NanSession(ScriptedSession):
    """A verifier that gives NaN."""

    def verify(self, candidates: Sequence[Candidate]) -> list[Verification]:
        return [Verification((math.nan,), (math.nan,)) for _ in candidates]


def nan_member(name: str, script: str) -> Member:
    return Member(
        name, NanSession(ScriptedBackend(name, script), Request.of("q"), 2), True, True, 1.0
    )


@pytest.mark.parametrize("mode", ["prob", "logit", "logprob"])
def test_a_broken_verifier_voids_its_row_and_not_the_round(mode: str) -> None:
    config = FusionConfig(score_mode=mode, model_exit=False)
    sound = judge("a", "x x1", x=0.2, y=0.6)
    played = Ensemble([member(sound), nan_member("b", "y y1")], config).play(1)
    assert played.scores[1] == (None, None)
    assert played.votes == played.scores[0]
    assert played.author == "b"


@pytest.mark.parametrize("config", [NO_EXIT, FusionConfig(method="specem")])
def test_no_sound_verifier_is_an_error(config: FusionConfig) -> None:
    broken = Ensemble([nan_member("a", "x x1"), nan_member("b", "y y1")], config)
    with pytest.raises(NoVerificationError, match="'a' gave NaN or infinite values; 'b' gave NaN"):
        broken.play(1)


def deaf(name: str, **options: int) -> ScriptedBackend:
    """A model whose tokenizer drops white space, but has an end-of-turn token."""

    def scorer(response: str, candidate: Candidate) -> list[float]:
        return [0.5] * (bool(candidate.text.strip()) + candidate.ends)

    return ScriptedBackend(name, "none", scorer=scorer, **options)


def writing(text: str, backend: ScriptedBackend, role: str = "both") -> Member:
    """Return ``backend`` as a member that drafts ``text``."""
    made = member(backend, role)
    made.session.draft = lambda max_tokens: Candidate(text)  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize("config", [NO_EXIT, FusionConfig(method="specem")])
def test_drafts_that_have_no_token_for_any_verifier_end_the_answer(config: FusionConfig) -> None:
    both = Ensemble([writing("\n\n", deaf("a")), writing("\t", deaf("b"))], config)
    played = both.play(1)
    assert played.candidates == (Candidate("", True),) * 2
    assert None not in played.votes


def test_drafts_that_one_verifier_has_tokens_for_go_on() -> None:
    both = Ensemble([writing("\n", judge("a", "")), member(deaf("b"), "verifies")], NO_EXIT)
    played = both.play(1)
    assert played.candidates == (Candidate("\n"),)
    assert played.scores == (pytest.approx((0.01,)), (None,))


def test_a_model_that_may_not_vote_for_its_own_draft_does_not_keep_it_alive() -> None:
    both = [writing("\n", judge("a", "")), member(deaf("b"), "verifies")]
    played = Ensemble(both, FusionConfig(method="specfuse", self_vote=False)).play(1)
    assert played.candidates == (Candidate("", True),)


def test_candidates_that_fit_no_verifier_make_no_round() -> None:
    a, b = judge("a", "one two three"), deaf("b", context_window=4)
    both = Ensemble([member(a, "drafts"), member(b, "verifies")], NO_EXIT)
    assert both.play(3) is None
    assert both.play(1).candidate == Candidate("one")


def test_the_error_names_what_kept_each_verifier_from_voting() -> None:
    def message(text: str, other: ScriptedBackend) -> str:
        broken = nan_member("b", "none")
        broken.drafts = False
        members = [writing(text, judge("a", ""), "drafts"), broken, member(other, "verifies")]
        with pytest.raises(NoVerificationError) as caught:
            Ensemble(members, NO_EXIT).play(3)
        return str(caught.value)

    lost = message("\n", deaf("c"))
    assert "'b' gave NaN or infinite values; the tokenizer of 'c' drops the text." in lost
    assert lost.endswith("or leave it out.")
    assert "the context window of 'c' is too small" in message("1 2 3", deaf("c", context_window=4))


LONG = " ".join(["x"] * 20)


def losing_three(config: FusionConfig = EAGER_EXIT) -> tuple[Ensemble, list[ScriptedBackend]]:
    """Two good models and a poor one, ``c``."""
    table = {"x": 0.8, "y": 0.79, "z": 0.01}
    models = [
        judge(name, " ".join([text] * 20), **table) for name, text in zip("abc", "xyz", strict=True)
    ]
    return ensemble(*models, config=config), models


def test_a_clear_loser_leaves_and_its_session_is_closed_at_once() -> None:
    three, models = losing_three()
    played = three.play(1)
    assert played.exited == ("c",)
    assert [session(backend).closed for backend in models] == [False, False, True]
    assert [one.exited for one in three.members] == [None, None, 1]
    assert [one.name for one in three.active] == ["a", "b"]


def test_who_has_left_neither_drafts_nor_verifies_nor_hears_of_the_answer() -> None:
    three, models = losing_three()
    three.play(1)
    left = session(models[2])
    cost, questions = left.cost, len(asked(models[2]))
    three.commit(Candidate("x"))
    played = three.play(1)
    assert played.drafters == played.verifiers == ("a", "b")
    assert left.cost == cost
    assert left.commits == []
    assert len(asked(models[2])) == questions
    assert sum(played.weights) == pytest.approx(1.0)


def test_usage_of_who_left_and_who_stayed() -> None:
    three, _ = losing_three()
    for _ in range(3):
        three.commit(three.play(1).candidate)
    a, _, c = [one.usage() for one in three.members]
    assert (a.rounds, a.segments, a.exited) == (3, 3, None)
    assert a.characters == len("x x x")
    assert (c.rounds, c.segments, c.exited) == (1, 0, 1)
    assert a.cost.drafted_tokens == 3
    assert a.seconds >= 0


def test_exits_follow_the_rule_on_the_shares_of_all_rounds() -> None:
    table = {"x": 0.5, "y": 0.3, "z": 0.2}
    models = [
        judge(name, " ".join([text] * 20), **table) for name, text in zip("abc", "xyz", strict=True)
    ]
    three = ensemble(
        *models, config=FusionConfig(method="specfuse", exit_warmup=0, exit_temperature=0.5)
    )
    quality, exited = dict.fromkeys("abc", 0.0), {}
    for t in range(1, 13):
        played = three.play(1)
        current = shares(dict(zip(played.drafters, played.votes, strict=True)))
        for name, share in current.items():
            quality[name] += share
        assert played.exited == tuple(
            leaving(quality, current, round_index=t, temperature=0.5, threshold=0.5, min_models=1)
        )
        exited.update(dict.fromkeys(played.exited, t))
        three.commit(Candidate(" x"))
    # The weaker leaves first, and neither at once.
    assert 1 < exited["c"] < exited["b"]


@pytest.mark.parametrize("warmup", [0, 1, 2, 5])
def test_nobody_leaves_during_the_warm_up(warmup: int) -> None:
    three, _ = losing_three(EAGER_EXIT.replace(exit_warmup=warmup))
    left = []
    for _ in range(warmup + 1):
        played = three.play(1)
        left.append(played.exited)
        three.commit(played.candidate)
    assert left == [()] * warmup + [("c",)]


def test_min_models_stay() -> None:
    three, _ = losing_three(EAGER_EXIT.replace(min_models=3))
    assert [three.play(1).exited for _ in range(5)] == [()] * 5


def test_without_model_exit_all_stay() -> None:
    three, _ = losing_three(EAGER_EXIT.replace(model_exit=False))
    assert [three.play(1).exited for _ in range(5)] == [()] * 5


def test_a_model_that_only_verifies_never_leaves() -> None:
    good, poor = judge("a", LONG, x=0.9, z=0.01), judge("c", "z " * 20, x=0.9, z=0.01)
    only_judge = judge("j", "none", x=0.9, z=0.01)
    three = Ensemble([member(good), member(poor), member(only_judge, "verifies")], EAGER_EXIT)
    assert three.play(1).exited == ("c",)
    assert three.play(1).verifiers == ("a", "j")


def test_the_last_verifier_stays_however_poor_its_drafts() -> None:
    good, poor = judge("a", LONG), judge("c", "z " * 20, x=0.9, z=0.01)
    two = Ensemble([member(good, "drafts"), member(poor)], EAGER_EXIT)
    for _ in range(5):
        played = two.play(1)
        assert played.verifiers == ("c",)
        assert played.author == "a"
        two.commit(played.candidate)


def test_of_several_poor_verifiers_the_strongest_stays() -> None:
    table = {"x": 0.9, "y": 0.02, "z": 0.01}
    good, poor, poorer = (
        judge("a", LONG, **table),
        judge("b", "y " * 20, **table),
        judge("c", "z " * 20, **table),
    )
    three = Ensemble([member(good, "drafts"), member(poorer), member(poor)], EAGER_EXIT)
    assert three.play(1).exited == ("c",)
    assert three.play(1).verifiers == ("b",)


def test_the_room_is_that_of_the_fullest_active_session() -> None:
    table = {"x": 0.8, "z": 0.01}
    wide, narrow = judge("a", LONG, **table), judge("c", "z " * 20, **table)
    narrow.context_window = 12
    both = ensemble(wide, narrow, config=EAGER_EXIT)
    assert both.room == 10
    both.commit(Candidate("x"))
    assert both.room == 9
    assert both.play(1).exited == ("c",)
    assert both.room == wide.context_window - 3


def returning(recall: float | None) -> tuple[Ensemble, list[ScriptedBackend]]:
    """``a`` knows the x, ``c`` the y that follow; each gives the other part low probabilities."""
    sure_of_x = judge("a", "x x q q", x=0.8, y=0.3, q=0.05, p=0.01)
    sure_of_y = judge("c", "p p y y", x=0.7, y=0.9, q=0.02, p=0.02)
    config = EAGER_EXIT.replace(exit_recall=recall)
    return ensemble(sure_of_x, sure_of_y, config=config), [sure_of_x, sure_of_y]


def answer_of(two: Ensemble, rounds: int) -> list[Round]:
    played = []
    for _ in range(rounds):
        played.append(two.play(1))
        two.commit(played[-1].candidate)
    return played


def test_who_left_comes_back_where_those_who_stayed_are_in_doubt() -> None:
    two, (_, knows_y) = returning(0.1)
    played = answer_of(two, 4)
    assert "".join(each.candidate.text for each in played) == "x x y y"
    assert [each.drafters for each in played] == [("a", "c"), ("a",), ("a", "c"), ("c",)]
    assert [each.recalled for each in played] == [(), (), ("c",), ()]
    assert [each.exited for each in played] == [("c",), (), ("a",), ()]
    # What it missed it has heard, without running anything for it.
    assert [each.text for each in session(knows_y).commits] == ["x", " x", " y", " y"]
    assert session(knows_y).cost.drafted_tokens == 3
    assert [one.usage().rounds for one in two.members] == [3, 3]
    assert [one.usage().exited for one in two.members] == [3, None]
    assert all(sum(each.weights) == pytest.approx(1.0) for each in played)
    two.close()
    assert session(knows_y).closed


def test_without_recall_who_left_is_gone() -> None:
    two, (_, knows_y) = returning(None)
    played = answer_of(two, 4)
    assert "".join(each.candidate.text for each in played) == "x x q q"
    assert {each.recalled for each in played} == {()}
    assert session(knows_y).closed


def test_exits_begin_anew_after_a_recall() -> None:
    two, _ = returning(0.1)
    two._config = two._config.replace(exit_warmup=1)
    played = answer_of(two, 4)
    assert [each.exited for each in played] == [(), ("c",), (), ("a",)]
    assert [one.quality for one in two.members] == pytest.approx(
        [
            sum(shares({"a": each.votes[0], "c": each.votes[1]})[name] for each in played[2:])
            for name in "ac"
        ]
    )


def test_nobody_is_brought_back_whose_context_window_is_full() -> None:
    two, (_, knows_y) = returning(0.1)
    knows_y.context_window = session(knows_y).cost.prompt_tokens + 2
    assert {each.recalled for each in answer_of(two, 4)} == {()}


def test_close_closes_every_session_and_may_be_repeated() -> None:
    three, models = losing_three()
    three.play(1)
    three.close()
    three.close()
    assert all(session(backend).closed for backend in models)


def test_an_executor_changes_nothing_but_the_time() -> None:
    def play_all(workers: ThreadPoolExecutor | None) -> list[Round]:
        models = [
            ScriptedBackend("a", "the cat sat on the mat today"),
            ScriptedBackend("b", "the cat lay on a rug all day"),
            ScriptedBackend("c", "a dog ran out of the red house"),
        ]
        config = FusionConfig(method="specem", model_exit=True, exit_warmup=1)
        three = ensemble(*models, config=config, workers=workers)
        rounds = []
        for _ in range(3):
            played = three.play(2)
            three.commit(played.candidate)
            rounds.append(timeless(played))
        return rounds

    with ThreadPoolExecutor(3) as workers:
        assert play_all(workers) == play_all(None)


def test_the_models_of_a_round_really_run_side_by_side() -> None:
    # Each draft waits for the others: one after the other, they would break the barrier.
    barrier = threading.Barrier(3, timeout=10)

    def script(request: Request, response: str) -> str:
        barrier.wait()
        return "x y"

    def scorer(response: str, candidate: Candidate) -> list[float]:
        barrier.wait()
        return [0.5]

    models = [ScriptedBackend(name, script, scorer=scorer) for name in "abc"]
    with ThreadPoolExecutor(3) as workers:
        assert ensemble(*models, workers=workers).play(1).drafters == ("a", "b", "c")


def test_an_error_in_one_job_waits_for_the_others() -> None:
    # The handler of the error closes the sessions: none may still be at work then.
    failed, handled = threading.Event(), threading.Event()
    seen = []

    def fails(request: Request, response: str) -> str:
        failed.set()
        raise OSError("no power")

    def works(request: Request, response: str) -> str:
        assert failed.wait(10)
        seen.append(handled.wait(0.1))
        return "x y"

    with ThreadPoolExecutor(2) as workers:
        both = ensemble(ScriptedBackend("a", fails), ScriptedBackend("b", works), workers=workers)
        with pytest.raises(OSError, match="no power"):
            both.play(1)
        handled.set()
    assert seen == [False]


def test_an_error_in_a_draft_goes_up_as_it_is() -> None:
    def fails(request: Request, response: str) -> str:
        raise OSError("no power")

    with pytest.raises(OSError, match="no power"):
        ensemble(judge("a", "x"), ScriptedBackend("b", fails)).play(1)
