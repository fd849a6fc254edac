"""``max_new_tokens`` is exact: it counts the tokens of the first model, in any tokenizer."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import tiny

from specfuse_core import FusionConfig, FusionEngine, JsonSchema, Message, Regex, Request
from specfuse_core.hf import LoadedModel, LocalBackend, Runner, template_of
from specfuse_core.prompts.codec import TextCodec
from specfuse_core.prompts.tokens import ResponseTokens

_TURN = "<|im_start|>{{ m.content }}<|im_end|>"
#: The answer follows a control token.
CONTROL = (
    "{% for m in messages %}{% if m.role == 'assistant' %}" + _TURN + "{% else %}{{ m.content }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
TEMPLATES = {
    "a line break": tiny.CHATML,
    "a space of the turn's own": tiny.STRICT,
    "a control token": CONTROL,
    "a line break of the turn's own": CONTROL.replace(_TURN, _TURN.replace("{{", "\n{{")),
}
SCRIPTS = (
    "(The) hall has 12 lamps, and 3 chairs. The attic has 30 lamps (or so), and nobody knows why.",
    "who didn't like the rain? def add(a, b): return a + b {1: [2, 3]}\n\nnew lines  and spaces",
    "x y z a b c 1 2 3 4 5 6 7 8 9",
)
FAMILIES = tiny.FAMILIES


class Reads:
    """Draws the ids of a text, again and again."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def choose(self, logits: Any, position: int, context: Any) -> int:
        return self.ids[position % len(self.ids)]


@cache
def loaded(seed: int, size: int) -> LoadedModel:
    return LoadedModel(Runner(tiny.model("llama", size, seed=seed)))


@cache
def reader(name: str, family: str, template: str, script: str) -> LocalBackend:
    tokenizer = tiny.tokenizer(family, TEMPLATES[template])
    model = loaded(0, len(tokenizer))
    backend = LocalBackend(name, lambda: (model, template_of(model.runner.model, tokenizer)))
    ids = backend.template.codec.encode(script, continuing=True).ids
    backend._chooser = lambda request: Reads(ids)  # type: ignore[assignment, return-value]
    return backend


def ensemble(families: tuple[str, ...], template: str, segment_tokens: int) -> FusionEngine:
    backends = [
        reader("abc"[i], family, template, SCRIPTS[i % len(SCRIPTS)])
        for i, family in enumerate(families)
    ]
    return FusionEngine(backends, FusionConfig(segment_tokens=segment_tokens))


def counted(backend: LocalBackend, conversation: Any, answer: str) -> int:
    """The tokens of an answer as the session reads it, by encoding everything."""
    session = backend.start(Request.of(conversation))
    count = session.count_tokens(answer)
    session.close()
    return count


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("first", FAMILIES)
@pytest.mark.parametrize("opening", ["", "It is in la"])
def test_an_answer_that_the_limit_ends_has_exactly_so_many_tokens(
    first: str, template: str, opening: str
) -> None:
    conversation = [Message("user", "Where?")]
    if opening:
        conversation.append(Message("assistant", opening))
    place = FAMILIES.index(first) + list(TEMPLATES).index(template)
    for limit in (1, 2, 5, 11):
        others = [(), (FAMILIES[(place + limit) % 5],), (FAMILIES[(place + 1) % 5], "bytelevel")]
        engine = ensemble((first, *others[limit % 3]), template, 1 + 3 * (limit % 4))
        answer = engine.generate(conversation, max_new_tokens=limit, seed=limit)
        assert answer.finish_reason == "length"
        backend: Any = engine.backends[0]
        assert counted(backend, conversation, answer.text) == limit, answer.text
        assert answer.usage.completion_tokens == limit
        streamed = engine.stream(conversation, max_new_tokens=limit, seed=limit)
        assert "".join(segment.text for segment in streamed) == answer.text


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("first", FAMILIES)
def test_one_token_is_not_nothing(first: str, template: str) -> None:
    """A tokenizer may put a space before a text, which is a token of its own before a bracket."""
    engine = FusionEngine([reader("a", first, template, "(")], FusionConfig())
    answer = engine.generate("Where?", max_new_tokens=1)
    assert (answer.text, answer.usage.completion_tokens) == ("(", 1)


CONSTRAINTS = [Regex(r"[a-zA-Z0-9 (),.?{}:\[\]+'\n]+"), JsonSchema({"type": "object"})]


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=["regex", "schema"])
@pytest.mark.parametrize("first", FAMILIES)
def test_a_constrained_answer_has_at_most_so_many_tokens(first: str, constraint: Any) -> None:
    for place, template in enumerate(TEMPLATES):
        families = [(first,), (first, "bytelevel"), (first, "metaspace")][place % 3]
        engine = FusionEngine(
            [random_model(f, template, i) for i, f in enumerate(families)],
            FusionConfig(segment_tokens=4),
        )
        for limit in (1, 4, 9):
            options: dict[str, Any] = {"seed": limit, "temperature": 1.0, "constraint": constraint}
            answer = engine.generate("Where?", max_new_tokens=limit, **options)
            backend: Any = engine.backends[0]
            count = counted(backend, "Where?", answer.text)
            assert count <= limit, answer.text
            if answer.finish_reason == "stop":
                assert answer.usage.completion_tokens in (count, limit)
            elif isinstance(constraint, Regex):
                assert count == limit, answer.text
            streamed = engine.stream("Where?", max_new_tokens=limit, **options)
            assert "".join(segment.text for segment in streamed) == answer.text


@cache
def random_model(family: str, template: str, seed: int) -> LocalBackend:
    tokenizer = tiny.tokenizer(family, TEMPLATES[template])
    model = loaded(seed, len(tokenizer))
    return LocalBackend("abc"[seed], lambda: (model, template_of(model.runner.model, tokenizer)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lead", ["", " ", "\n"])
@pytest.mark.parametrize("continuing", [False, True])
def test_the_count_of_a_growing_answer_is_that_of_the_whole(
    family: str, lead: str, continuing: bool
) -> None:
    codec = TextCodec(tiny.tokenizer(family))
    response = ResponseTokens(codec, lead, continuing=continuing)
    text = " ".join(SCRIPTS) * 2
    for end in range(0, len(text), 7):
        fresh = ResponseTokens(codec, lead, continuing=continuing)
        assert response.count(text[: end + 7]) == fresh.count(text[: end + 7])
        # A shorter answer than what was committed, as after a stop string.
        assert response.count(text[: end // 2]) == fresh.count(text[: end // 2])
        response.push(text[end : end + 7])


@pytest.mark.parametrize(
    ("family", "lead", "continuing", "answer", "tokens"),
    [
        ("metaspace", "", False, "(", ["("]),
        ("metaspace", "", True, "(", ["("]),
        ("metaspace", " ", True, "(", ["("]),
        ("metaspace", "", False, " (", ["\u2581", "("]),
        ("metaspace", "", False, "The hall", ["\u2581The", "\u2581hall"]),
        ("sentencepiece", "", False, " a", ["\u2581a"]),
        ("unigram", "\n", False, "1", ["1"]),
        ("bytelevel", "\n", True, "The", ["The"]),
        ("bytelevel", " ", True, " hall", ["\u0120hall"]),
        ("wordpiece", " ", True, "the hall", ["the", "hall"]),
    ],
)
def test_white_space_before_an_answer_does_not_count(
    family: str, lead: str, continuing: bool, answer: str, tokens: list[str]
) -> None:
    response = ResponseTokens(TextCodec(tiny.tokenizer(family)), lead, continuing=continuing)
    assert response.count(answer) == len(tokens)
    assert response.count("") == 0
