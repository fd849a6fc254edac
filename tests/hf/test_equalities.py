"""The local backend equals the naive engine, and one model alone equals its own ``generate``."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import pytest
import tiny
import torch
from ensembles import engine, parts
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import assert_same_answer, never_ending
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from specfuse_core import FusionConfig, FusionEngine, Generation, Message
from specfuse_core.hf import LocalBackend
from specfuse_core.request import Request
from specfuse_core.types import Candidate

QUESTION = "How many lamps are in the <|im_end|> hall?"
Pair = tuple[PreTrainedModel, PreTrainedTokenizerFast]
ARCHITECTURES = list(tiny.ARCHITECTURES)
RECURRENT = ("mamba", "mamba2", "lfm2")
MODES = ("prob", "logprob", "logit")


def tolerance(members: list[tuple[str, str]]) -> float:
    recurrent = any(architecture in RECURRENT for architecture, _ in members)
    return 5e-4 if recurrent else 1e-4


def family(index: int) -> str:
    return tiny.FAMILIES[index % len(tiny.FAMILIES)]


@pytest.mark.parametrize("exits", [False, True], ids=["all-stay", "some-leave"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_answers_as_the_naive_engine_does(
    architecture: str, exits: bool
) -> None:
    index = ARCHITECTURES.index(architecture)
    temperature = 0.8 if (index + exits) % 2 else 0.0
    members = [
        (architecture, family(index)),
        ("llama", family(index + 1)),
        ("gpt_neox", family(index + 3)),
    ]
    config = FusionConfig(
        method="specfuse" if exits else "specem",
        score_mode=MODES[(index + exits) % 3],
        segment_tokens=7 if exits else 5,
        exit_temperature=0.02,
    )
    answer = assert_same_answer(
        engine(members, config),
        QUESTION,
        tolerance(members),
        temperature=temperature,
        seed=index,
        max_new_tokens=60,
    )
    assert len(answer.rounds) > 1
    assert not exits or any(played.exited for played in answer.rounds)


@pytest.mark.parametrize("architecture", ["gemma3", "gpt2", "bloom", "mamba"])
def test_a_long_answer_equals_the_naive_engines(architecture: str) -> None:
    members = [(architecture, "bytelevel"), ("qwen3", "unigram")]
    answer = assert_same_answer(
        never_ending(engine(members, FusionConfig(method="specem", segment_tokens=12))),
        QUESTION,
        tolerance(members),
        temperature=0.8,
        seed=3,
        max_new_tokens=200,
    )
    assert answer.usage.completion_tokens >= 200


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3", "bloom", "mamba"])
def test_who_comes_back_has_missed_nothing(architecture: str) -> None:
    members = [(architecture, "bytelevel"), ("llama", "unigram"), ("gpt_neox", "metaspace")]
    config = FusionConfig(
        method="specfuse",
        segment_tokens=6,
        exit_warmup=0,
        exit_temperature=0.01,
        exit_recall=2e-3,
    )
    answer = assert_same_answer(
        never_ending(engine(members, config)),
        QUESTION,
        tolerance(members),
        temperature=0.9,
        seed=6,
        max_new_tokens=120,
    )
    assert any(played.recalled for played in answer.rounds)
    assert any(not played.recalled and played.index > 1 for played in answer.rounds)


def test_if_all_always_come_back_nobody_was_gone() -> None:
    members = [("qwen3", "bytelevel"), ("llama", "unigram"), ("gpt_neox", "metaspace")]
    leaving = FusionConfig(method="specfuse", exit_warmup=0, exit_temperature=0.01, exit_recall=1.0)
    options = {"temperature": 0.9, "seed": 4, "max_new_tokens": 80}
    one, other = (
        engine(members, config).generate(QUESTION, **options)
        for config in (leaving, leaving.replace(model_exit=False))
    )
    assert any(played.exited for played in one.rounds)
    assert [played.candidates for played in one.rounds] == [p.candidates for p in other.rounds]
    assert one.text == other.text


@pytest.mark.parametrize("method", ["specem", "specfuse"])
def test_drafters_and_verifiers_may_differ(method: str) -> None:
    members = [("mistral", "bytelevel"), ("gemma2", "metaspace"), ("bloom", "unigram")]
    config = FusionConfig(method=method, segment_tokens=6)
    fused = engine(members, config, drafters=["a", "b"], verifiers=["b", "c"])
    answer = assert_same_answer(fused, QUESTION, temperature=0.8, seed=5, max_new_tokens=60)
    assert all(set(played.drafters) <= {"a", "b"} for played in answer.rounds)
    assert all(set(played.verifiers) <= {"b", "c"} for played in answer.rounds)


@pytest.mark.parametrize("families", list(itertools.pairwise(tiny.FAMILIES)), ids="-".join)
def test_a_final_assistant_turn_is_continued_as_the_naive_engine_does(
    families: tuple[str, str],
) -> None:
    members = [("gemma3", families[0]), ("lfm2", families[1])]
    conversation = [Message("user", QUESTION), Message("assistant", "The hall has 12 la")]
    answer = assert_same_answer(
        engine(members, FusionConfig(method="specem", segment_tokens=6)),
        conversation,
        tolerance(members),
        max_new_tokens=40,
    )
    assert len(answer.rounds) > 2


@pytest.mark.parametrize("seed", range(4))
def test_copies_of_one_model_draw_differently_and_as_the_naive_engine_does(seed: int) -> None:
    copies = [LocalBackend(name, partial(parts, "llama", "metaspace", 0)) for name in "abc"]
    fused = FusionEngine(copies, FusionConfig(method="specem", segment_tokens=6))
    answer = assert_same_answer(fused, QUESTION, temperature=0.8, seed=seed, max_new_tokens=40)
    assert any(len(set(played.candidates)) > 1 for played in answer.rounds)


class _Writes:
    """Draws the ids of a text, and after that always the same id."""

    def __init__(self, ids: list[int], then: int, start: int) -> None:
        self._ids, self._then, self._start = ids, then, start

    def choose(self, logits: torch.Tensor, position: int, context: list[int]) -> int:
        at = position - self._start
        return self._ids[at] if at < len(self._ids) else self._then


@pytest.mark.parametrize("verifiers", [["b"], ["b", "c"]])
def test_text_that_every_verifier_drops_ends_the_answer_as_the_naive_engine_does(
    verifiers: list[str],
) -> None:
    members = [("llama", "bytelevel"), ("gpt2", "wordpiece"), ("bloom", "wordpiece")]
    fused = engine(members, FusionConfig(segment_tokens=3), drafters=["a"], verifiers=verifiers)
    first = fused.backends[0]
    prompt = len(first.template.prompt([Message("user", QUESTION)]).ids)
    encode = first.template.codec.encode
    written, newline = encode("The hall has 12 lamps.").ids, encode("a\n").ids[-1]
    first._chooser = lambda request: _Writes(written, newline, prompt)
    answer = assert_same_answer(fused, QUESTION, max_new_tokens=60)
    assert (answer.text.rstrip(), answer.finish_reason) == ("The hall has 12 lamps.", "stop")
    assert answer.rounds[-1].candidate == Candidate("", True)


@pytest.mark.parametrize("stop_at", [3, 20, 35])
def test_the_tokens_before_a_stop_string_are_those_of_the_text(stop_at: int) -> None:
    members = [("llama", "metaspace"), ("gemma3", "bytelevel")]
    config = FusionConfig(method="specem", segment_tokens=8)
    options = {"temperature": 0.8, "seed": 6, "max_new_tokens": 60}
    text = never_ending(engine(members, config)).generate(QUESTION, **options).text
    stop = text[stop_at : stop_at + 3]
    fused = never_ending(engine(members, config))
    answer = assert_same_answer(fused, QUESTION, stop=stop, **options)
    assert (answer.text, answer.finish_reason) == (text[: text.index(stop)], "stop_sequence")
    session = fused.backends[0].start(Request.of(QUESTION))
    assert answer.usage.completion_tokens == session.count_tokens(answer.text)


def test_all_sampling_parameters_together_equal_the_naive_engine() -> None:
    members = [("qwen2", "sentencepiece"), ("phi", "wordpiece")]
    assert_same_answer(
        engine(members, FusionConfig(method="specem", segment_tokens=9)),
        QUESTION,
        temperature=1.1,
        top_k=40,
        top_p=0.9,
        min_p=0.01,
        repetition_penalty=1.3,
        seed=2,
        max_new_tokens=80,
    )


@settings(deadline=None, max_examples=15, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    segment_tokens=st.integers(1, 16),
    method=st.sampled_from(["specem", "specfuse"]),
    score_mode=st.sampled_from(MODES),
    self_vote=st.booleans(),
    families=st.permutations(tiny.FAMILIES),
    temperature=st.sampled_from([0.0, 0.5, 1.0]),
    max_new_tokens=st.integers(1, 40),
)
def test_any_request_is_answered_as_the_naive_engine_does(
    seed: int,
    segment_tokens: int,
    method: str,
    score_mode: str,
    self_vote: bool,
    families: list[str],
    temperature: float,
    max_new_tokens: int,
) -> None:
    config = FusionConfig(
        method=method,
        score_mode=score_mode,
        segment_tokens=segment_tokens,
        self_vote=self_vote,
        exit_temperature=0.05,
    )
    members = list(zip(["llama", "gemma3", "bloom"], families, strict=False))
    assert_same_answer(
        engine(members, config),
        QUESTION,
        temperature=temperature,
        seed=seed,
        max_new_tokens=max_new_tokens,
    )


# One model alone


@cache
def _alone(architecture: str, seed: int = 7) -> Pair:
    tokenizer = tiny.characters()
    return tiny.model(architecture, len(tokenizer), seed=seed), tokenizer


def _generated(alone: Pair, question: str, max_new_tokens: int) -> tuple[list[int], bool]:
    """Return the text of transformers' greedy ``generate``, and whether it ended by itself."""
    model, tokenizer = alone
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    control = {"<unk>", "<s>", "</s>", "<pad>", "<|im_start|>"}
    with torch.inference_mode():
        whole = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            suppress_tokens=tokenizer.convert_tokens_to_ids(sorted(control)),
            pad_token_id=tokenizer.pad_token_id,
        )
    ids = whole[0, prompt.shape[1] :].tolist()
    ended = ids[-1] == tokenizer.eos_token_id
    return ids[:-1] if ended else ids, ended


def _assert_writes_alone(alone: Pair, max_new_tokens: int, segment_tokens: int) -> Generation:
    config = FusionConfig(segment_tokens=segment_tokens)
    fused = FusionEngine.from_models([alone], config, progress=False)
    answer = fused.generate("How many lamps?", max_new_tokens=max_new_tokens)
    expected, ended = _generated(alone, "How many lamps?", max_new_tokens)
    assert fused.backends[0].template.codec.encode(answer.text).ids == expected
    assert answer.finish_reason == ("stop" if ended else "length")
    return answer


@pytest.mark.parametrize(("max_new_tokens", "segment_tokens"), [(1, 10), (9, 1), (64, 10), (90, 7)])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2", "bloom", "mamba", "lfm2"])
def test_one_model_alone_writes_what_its_own_generate_writes(
    architecture: str, max_new_tokens: int, segment_tokens: int
) -> None:
    answer = _assert_writes_alone(_alone(architecture), max_new_tokens, segment_tokens)
    assert answer.text


def test_one_model_alone_ends_where_its_own_generate_ends() -> None:
    reasons = {
        _assert_writes_alone(_alone("qwen3", seed), 48, 10).finish_reason for seed in range(12)
    }
    assert reasons == {"stop", "length"}


# Seeds, order, cost


def _texts(rounds: Generation) -> list[list[Candidate]]:
    return [list(played.candidates) for played in rounds.rounds]


MEMBERS = [("llama", "bytelevel"), ("gemma2", "unigram"), ("mamba2", "sentencepiece")]


def test_the_same_seed_gives_the_same_answer_whatever_runs_beside_it() -> None:
    config = FusionConfig(method="specem", segment_tokens=6)
    options = {"temperature": 0.8, "max_new_tokens": 40}
    alone = engine(MEMBERS, config).generate(QUESTION, seed=11, **options)
    shared = engine(MEMBERS, config)
    with ThreadPoolExecutor(3) as pool:
        jobs = [
            pool.submit(shared.generate, question, seed=seed, **options)
            for question, seed in (("Another?", 1), (QUESTION, 11), (QUESTION, 12))
        ]
        beside = [job.result() for job in jobs]
    with ThreadPoolExecutor(3) as pool:
        parallel = engine(MEMBERS, config, executor=pool).generate(QUESTION, seed=11, **options)
    assert _texts(beside[1]) == _texts(alone)
    assert _texts(parallel) == _texts(alone)
    assert beside[1].text == parallel.text == alone.text
    assert beside[2].text != alone.text


def test_the_order_of_the_models_changes_only_whose_tokens_count() -> None:
    backends = engine(MEMBERS, FusionConfig()).backends
    found = []
    for order in itertools.permutations(backends):
        fused = FusionEngine(order, FusionConfig(method="specem", segment_tokens=6))
        answer = fused.generate(QUESTION, temperature=0.8, seed=4, max_new_tokens=50)
        found.append(answer.rounds)
    shared = min(len(rounds) for rounds in found) - 1
    assert shared > 2
    for rounds in found[1:]:
        for mine, first in zip(rounds[:shared], found[0][:shared], strict=True):
            drafted = dict(zip(mine.drafters, mine.candidates, strict=True))
            assert drafted == dict(zip(first.drafters, first.candidates, strict=True))
            assert mine.author == first.author


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "bloom", "mamba", "mamba2"])
def test_one_model_alone_costs_as_many_passes_as_tokens(architecture: str) -> None:
    model, tokenizer = _alone(architecture)
    for segment_tokens in (1, 6, 10):
        fused = FusionEngine.from_models(
            [(model, tokenizer)], FusionConfig(segment_tokens=segment_tokens), progress=False
        )
        answer = fused.generate("How many?", max_new_tokens=60)
        tokens = answer.usage.completion_tokens + (answer.finish_reason == "stop")
        cost = answer.usage.models[0].cost
        assert cost.forward_passes == tokens
        assert cost.verified_tokens == 0


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_nothing_is_run_twice(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [("llama", "bytelevel"), ("gemma3", "metaspace"), ("gpt2", "unigram")]
    fused = engine(members, FusionConfig(method="specem", segment_tokens=6))
    fused.warm_up()
    run: dict[str, list[int]] = {name: [] for name in fused.models}
    for backend in fused.backends:
        runner = backend.model.runner
        monkeypatch.setattr(runner, "run", _counted(runner.run, run[backend.name]))
    segments = fused.stream(QUESTION, temperature=temperature, seed=1, max_new_tokens=60)
    rounds, answer = 0, None
    for segment in segments:
        rounds += segment.round is not None
        answer = segment
    for model in answer.usage.models:
        lengths = run[model.name]
        prompt, rest = lengths[0], lengths[1:]
        assert prompt == model.cost.prompt_tokens
        assert len(lengths) == model.cost.forward_passes
        # A round drafts up to six tokens, or four more where these make up no character.
        assert len(rest) <= model.cost.drafted_tokens + 1
        # What was drafted once, and what others drafted, once each.
        assert sum(rest) <= model.cost.drafted_tokens + model.cost.verified_tokens


def _counted(run: Callable[..., object], lengths: list[int]) -> Callable[..., object]:
    def counted(ids: list[int], **options: object) -> object:
        lengths.append(len(ids))
        return run(ids, **options)

    return counted
