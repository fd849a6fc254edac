"""A session has the correct ids and scores, and verification does not change it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache, partial

import pytest
import tiny
import torch

from specfuse_core.hf import LoadedModel, LocalBackend, Runner, template_of
from specfuse_core.hf.session import LocalSession
from specfuse_core.prompts.template import ChatTemplate
from specfuse_core.request import Message, Request
from specfuse_core.types import Candidate

QUESTION = "How many lamps are in the hall?"
#: One per way to hold a context.
METHODS = {
    "llama": "packed-full",
    "mistral": "packed-window",
    "gemma3": "packed-both",
    "bloom": "cropped",
    "mamba2": "snapshot",
    "mamba": "stepwise",
}
RECURRENT = ("mamba", "mamba2")


@cache
def parts(
    architecture: str, family: str, template: str | None = tiny.CHATML
) -> tuple[LoadedModel, ChatTemplate]:
    """``family`` may also be ``"characters"``: then every draft is canonical."""
    if family == "characters":
        tokenizer = tiny.characters(template)
        model = tiny.model(architecture, len(tokenizer))
    else:
        model, tokenizer = tiny.pair(architecture, family, template=template)
    return LoadedModel(Runner(model)), template_of(model, tokenizer)


def backend(architecture: str, family: str, template: str | None = tiny.CHATML) -> LocalBackend:
    return LocalBackend("m", partial(parts, architecture, family, template))


def request(messages: Sequence[tuple[str, str]] = (), **options: object) -> Request:
    turns = [Message(role, content) for role, content in messages or [("user", QUESTION)]]
    return Request.of(turns, **{"temperature": 0.8, "seed": 3, **options})


def expected_logprobs(session: LocalSession, owner: LocalBackend, whole: list[int]) -> torch.Tensor:
    """Return log-probabilities ``[T, V]`` after each of the ids ``whole``, from a plain pass."""
    logits, _ = owner.model.runner.run(whole, use_cache=False)
    return logits.float().log_softmax(-1)


PIECES = [
    *tiny.CORPUS[:9],
    " \n\n\t  \n",
    "aaaaaaaaaaaaaaaa",
    "<|im_end|></s><s>",
    "e\u0301\u0301n\u0303 ﬁﬂ½",
    "東京" * 8,
    "\u200b\ufeff",
    "x" * 40,
]


@pytest.mark.parametrize("template", [tiny.CHATML, tiny.STRICT, None], ids=["ml", "strict", "no"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_ids_are_those_of_the_prompt_and_the_whole_response(
    family: str, template: str | None
) -> None:
    """For segments of any model, with any cuts and any length of the response."""
    owner = backend("llama", family, template)
    codec = owner.template.codec
    prompt = owner.template.prompt(request().messages)
    session = owner.start(request())
    draw = random.Random(f"{family}{template}")
    text = ""
    others = 0
    while len(session.ids) < len(prompt.ids) + 310:
        own = session.draft(9)
        piece = draw.choice(PIECES)
        start = draw.randrange(len(piece))
        other = Candidate(piece[start : start + draw.randint(1, 30)])
        session.verify([own, other])
        winner = draw.choice([own, other])
        others += winner == other
        session.commit(Candidate(winner.text))
        text += winner.text
        whole = codec.encode(prompt.lead + text, continuing=prompt.continuing).ids
        assert session.ids == [*prompt.ids, *whole]
        assert session.room == owner.context_window - len(session.ids)
    assert others > 3
    session.close()


@pytest.mark.parametrize("architecture", METHODS)
def test_scores_and_next_draws_are_those_of_plain_forward_passes(architecture: str) -> None:
    """After own and other segments, some of which branch far back or merge with the last one."""
    owner = backend(architecture, "metaspace")
    assert owner.model.method == METHODS[architecture]
    limit = 5e-4 if architecture in RECURRENT else 1e-4
    ends = sorted(owner.template.ends)
    session = owner.start(request())
    draw = random.Random(architecture)
    for index in range(12):
        own = session.draft(6)
        others = [Candidate(p[:12], ends=i == 0) for i, p in enumerate(draw.sample(PIECES, 3))]
        ids = session.ids
        for candidate, found in zip([own, *others], session.verify([own, *others]), strict=True):
            whole = session._prompt + session._response.peek(candidate.text)
            first = next(
                (i for i, (a, b) in enumerate(zip(ids, whole, strict=False)) if a != b), len(ids)
            )
            after = expected_logprobs(session, owner, whole)
            logprobs = [float(after[at - 1, whole[at]]) for at in range(first, len(whole))]
            if candidate.ends:
                logprobs.append(float(after[-1, ends].logsumexp(0)))
            assert found.logprobs == pytest.approx(logprobs, abs=limit)
            assert len(found.logits) == len(logprobs)
        session.commit(Candidate((own if index % 3 == 0 else others[index % 3]).text))
        ids = session._catch_up()
        kept = session._context.logits_after(len(ids) - 1).float().log_softmax(-1)
        expected = expected_logprobs(session, owner, ids)[-1]
        assert float((kept - expected).abs().max()) <= limit


@pytest.mark.parametrize("architecture", METHODS)
def test_verifying_leaves_the_session_as_it_was(architecture: str) -> None:
    owner = backend(architecture, "bytelevel")
    looked, left = owner.start(request()), owner.start(request())
    limit = 5e-4 if architecture in RECURRENT else 1e-4
    for index in range(6):
        own = looked.draft(7)
        assert own == left.draft(7)
        others = [Candidate(text[index : index + 15]) for text in tiny.CORPUS[:3]]
        ending = Candidate("The end.", ends=True)
        ids = looked.ids
        first = looked.verify([own, *others, ending])
        second = looked.verify([own, *others, ending])
        turned = looked.verify([ending, *others[::-1], own])[::-1]
        alone = [looked.verify([candidate])[0] for candidate in (own, *others, ending)]
        for again in (second, turned, alone):
            for mine, theirs in zip(first, again, strict=True):
                assert mine.logprobs == pytest.approx(theirs.logprobs, abs=limit)
                assert mine.logits == pytest.approx(theirs.logits, abs=limit)
        assert looked.ids == ids == left.ids
        assert looked.draft(7) == own
        winner = Candidate((own, others[1])[index % 2].text)
        looked.commit(winner)
        left.commit(winner)


@pytest.mark.parametrize("architecture", METHODS)
def test_what_the_cut_left_over_opens_the_next_draft(architecture: str) -> None:
    """The words equal those of a session whose drafts are never cut."""
    owner = backend(architecture, "characters")
    kept = owner.start(request(temperature=4.0, seed=5))
    text = ""
    reused = 0
    for _ in range(8):
        own = kept.draft(16)
        kept.verify([own])
        text += own.text
        kept.commit(Candidate(own.text))
        fresh = owner.start(
            request(temperature=4.0, seed=5, messages=[("user", QUESTION), ("assistant", text)])
        )
        assert fresh.ids == kept.ids
        drafted = kept.cost.drafted_tokens
        assert kept.draft(16) == fresh.draft(16)
        reused += fresh.cost.drafted_tokens - (kept.cost.drafted_tokens - drafted)
    assert reused > 0


def test_a_candidate_that_does_not_fit_the_window_is_void_and_harms_nobody() -> None:
    owner = backend("llama", "bytelevel")
    session = owner.start(request())
    long = Candidate("東" * 400)
    short = Candidate(" lamps")
    void, scored = session.verify([long, short])
    assert void.logprobs == void.logits == ()
    assert scored == session.verify([short])[0]


def test_a_candidate_that_just_fits_is_scored_and_one_that_ends_needs_room_for_the_end() -> None:
    owner = backend("llama", "bytelevel")
    session = owner.start(request())
    session.commit(Candidate("a b" * 20))
    room = session.room
    text = " "
    while len(owner.template.codec.encode(text).ids) < room:
        text += "東"[:1] if len(text) % 2 else "x"
    while len(session._response.peek(text)) - len(session._response.ids) > room:
        text = text[:-1]
    missing = room - (len(session._response.peek(text)) - len(session._response.ids))
    text += "z" * missing
    assert len(session._response.peek(text)) - len(session._response.ids) == room
    open_, ending = session.verify([Candidate(text), Candidate(text, ends=True)])
    assert open_.logprobs
    assert not ending.logprobs


def test_an_empty_candidate_has_a_score_only_where_it_ends() -> None:
    session = backend("gemma3", "unigram").start(request())
    empty, ending = session.verify([Candidate(""), Candidate("", ends=True)])
    assert empty.logprobs == ()
    assert len(ending.logprobs) == 1


def test_a_draft_within_a_character_goes_on_until_the_character_is_whole() -> None:
    """Byte-level tokens: a limit of one token may fall within a character."""
    owner = backend("llama", "bytelevel")
    for seed in range(40):
        session = owner.start(request(seed=seed, temperature=1.5))
        text = session.draft(1).text
        assert not text.endswith("\ufffd") or set(text) == {"\ufffd"}
        assert session.cost.drafted_tokens <= 5


def test_closing_twice_is_harmless_and_frees_the_cache() -> None:
    for architecture in METHODS:
        session = backend(architecture, "bytelevel").start(request())
        session.draft(3)
        session.close()
        session.close()
        assert session._context.ids == []
