"""The bytes of tokens: what a token adds to a text, whatever it is called."""

from __future__ import annotations

import random
from typing import Any

import pytest
import tiny
import vocabularies
from tokenizers import Tokenizer

from specfuse_core import FusionEngine, Regex
from specfuse_core.errors import InvalidConstraintError
from specfuse_core.prompts import byte_table
from specfuse_core.prompts.codec import TextCodec

TEXTS = (
    "def f(x):\n    if x:\n\t\treturn 'a  b'\n\n\n",
    "The hall has  12 lamps,   and the attic 3.",
    "caf\u00e9 Ça va? \u20ac 5, 東京",
    "a" + " " * 40 + "b" + "\t" * 5 + "c" + "\n" * 12,
)
#: Tokenizers that give back every text.
LOSSLESS = ("spaces", "normalized spaces", "runs", "words", "added bytes", "prefixed")


def codec(name: str) -> TextCodec:
    made = tiny.tokenizer if name in tiny.FAMILIES else vocabularies.made
    return TextCodec(made(name))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", LOSSLESS)
def test_the_bytes_of_a_text_spell_it(name: str, text: str) -> None:
    owner = codec(name)
    table = owner.token_bytes()
    ids = owner.encode(text, continuing=True).ids
    assert b"".join(table[id_] for id_ in ids).decode() == text


@pytest.mark.parametrize("name", [*tiny.FAMILIES, *vocabularies.SPELLED])
def test_tokens_add_their_bytes_to_any_text(name: str) -> None:
    """Each id is decoded after some others, as a draft is."""
    owner = codec(name)
    table = owner.token_bytes()
    dice = random.Random(name)
    texts = [id_ for id_ in range(owner.vocabulary) if _text(table[id_])]
    for _ in range(300):
        before, ids = dice.choices(texts, k=3), dice.choices(texts, k=4)
        spelled = b"".join(table[id_] for id_ in ids).decode()
        assert spelled == owner.decode(ids, [*owner.anchor, *before])


def _text(raw: bytes) -> bool:
    """Whether ``raw`` is whole characters that a decoder gives back."""
    decoded = raw.decode(errors="replace")
    return bool(raw) and "\ufffd" not in decoded and decoded not in ("caf\u00e9", "\u00c7a")


def test_added_spaces_are_spaces() -> None:
    owner = codec("spaces")
    table = owner.token_bytes()
    id_ = owner.encode("a    b", continuing=True).ids[1]
    assert owner._private.marked.id_to_token(id_) == "\u2581" * 4
    assert table[id_] == b"    "


def test_pieces_of_words_are_spelled_without_their_mark() -> None:
    owner = codec("wordpiece")
    table = owner.token_bytes()
    names = {owner._private.marked.id_to_token(id_): table[id_] for id_ in range(owner.vocabulary)}
    assert names["the"] == b" the"
    assert names["##s"] == b"s"
    assert not [name for name, raw in names.items() if b"##" in raw]


def test_a_replacement_character_that_is_a_token_is_text() -> None:
    owner = codec("added bytes")
    table = owner.token_bytes()
    assert table[owner.encode("\ufffd", continuing=True).ids[0]] == "\ufffd".encode()
    assert table[owner.encode("\x07", continuing=True).ids[0]] == b"\x07"


def test_a_token_for_unknown_characters_has_no_text() -> None:
    owner = codec("unknown is text")
    unknown = owner.encode("東", continuing=True).ids
    assert owner.decode(unknown, owner.anchor) == "?unknown?"
    assert [owner.token_bytes()[id_] for id_ in unknown] == [b""]


@pytest.mark.parametrize("name", vocabularies.REFUSED)
def test_a_tokenizer_whose_tokens_have_no_text_of_their_own_is_refused(name: str) -> None:
    with pytest.raises(InvalidConstraintError, match=r"its token \d+ \('\w+'\) depends on"):
        codec(name).token_bytes()


def test_such_a_model_answers_without_a_constraint_and_is_named_with_one() -> None:
    tokenizer = vocabularies.made("suffixed")
    pairs = [(tiny.model("llama", len(tokenizer)), tokenizer), tiny.pair("gpt2", "bytelevel")]
    engine = FusionEngine.from_models(pairs, names=["odd", "even"])
    assert engine.generate("Where?", max_new_tokens=5, seed=1).finish_reason
    tools = [{"name": "look", "parameters": {"properties": {}}}]
    for options in ({"constraint": Regex("[a-z ]+")}, {"tools": tools}):
        given: Any = options
        with pytest.raises(
            InvalidConstraintError,
            match=r"^'odd': constraints and tools cannot be used with this tokenizer, because the "
            r"text of its token \d+ \('\w'\) depends on the tokens beside it; leave the model out, "
            r"or ask without a constraint and without tools\.$",
        ):
            engine.generate("Where?", max_new_tokens=5, **given)
    assert engine.subset(["even"]).generate("Where?", constraint=Regex("a{3}")).text == "aaa"


def test_a_wrong_table_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each added token by its name, as if names were texts."""

    def named(tokenizer: Tokenizer, size: int) -> list[bytes]:
        table = build(tokenizer, size)
        for id_, token in tokenizer.get_added_tokens_decoder().items():
            table[id_] = token.content.encode()
        return table

    build = byte_table._built
    monkeypatch.setattr(byte_table, "_built", named)
    for name in ("spaces", "normalized spaces"):
        with pytest.raises(InvalidConstraintError, match="'\u2581\u2581'"):
            codec(name).token_bytes()
    codec("runs").token_bytes()


class Writes:
    """Draws the ids of a text, and then the end."""

    def __init__(self, ids: list[int], start: int) -> None:
        self.ids, self.start = ids, start

    def choose(self, logits: Any, position: int, context: Any) -> int:
        return self.ids[position - self.start]


CODE = "def f(x):\n    if x:\n        return 1\n\t\treturn  2"


@pytest.mark.parametrize("name", ["spaces", "normalized spaces", "runs"])
@pytest.mark.parametrize("bound", [False, True])
def test_code_keeps_its_spaces_whether_or_not_tools_are_bound(name: str, bound: bool) -> None:
    tokenizer = vocabularies.made(name)
    engine = FusionEngine.from_models([(tiny.model("llama", len(tokenizer)), tokenizer)])
    backend: Any = engine.backends[0]
    tools: Any = [{"name": "look", "parameters": {"properties": {}}}] if bound else []
    ids = [*backend.template.codec.encode(CODE, continuing=True).ids, tokenizer.eos_token_id]
    start = engine.count_prompt_tokens([{"role": "user", "content": "Where?"}], tools)
    backend._chooser = lambda request: Writes(ids, start)
    assert engine.generate("Where?", tools=tools, max_new_tokens=200).text == CODE


def test_a_run_of_spaces_is_drafted_where_a_constraint_allows_one() -> None:
    tokenizer = vocabularies.made("spaces")
    engine = FusionEngine.from_models([(tiny.model("llama", len(tokenizer)), tokenizer)])
    backend: Any = engine.backends[0]
    ids = tokenizer.convert_tokens_to_ids(["a", "\u2581" * 4, "b", "\u2581" * 3, "c", "<|im_end|>"])
    start = engine.count_prompt_tokens([{"role": "user", "content": "Where?"}])
    backend._chooser = lambda request: Writes(ids, start)
    answer = engine.generate("Where?", constraint=Regex("[abc ]+"))
    assert answer.text == "a    b   c"


def test_pieces_of_words_write_words_under_a_constraint() -> None:
    """The first word has no space before it, and a piece goes on within its word."""
    tokenizer = tiny.tokenizer("wordpiece")
    engine = FusionEngine.from_models([(tiny.model("llama", len(tokenizer)), tokenizer)])
    backend: Any = engine.backends[0]
    names = ["the", "lamp", "##s", "is", "on"]
    ids = tokenizer.convert_tokens_to_ids([*names, "<|im_end|>"])
    start = engine.count_prompt_tokens([{"role": "user", "content": "Where?"}])
    backend._chooser = lambda request: Writes(ids, start)
    answer = engine.generate("Where?", constraint=Regex("[a-z ]+"))
    assert (answer.text, answer.finish_reason) == ("the lamps is on", "stop")


@pytest.mark.parametrize("constraint", [None, Regex("[a-z ]+")])
def test_an_answer_may_begin_with_a_piece_of_a_word(constraint: Any) -> None:
    tokenizer = tiny.tokenizer("wordpiece")
    engine = FusionEngine.from_models([(tiny.model("llama", len(tokenizer)), tokenizer)])
    backend: Any = engine.backends[0]
    ids = tokenizer.convert_tokens_to_ids(["##s", "on", "<|im_end|>"])
    start = engine.count_prompt_tokens([{"role": "user", "content": "Where?"}])
    backend._chooser = lambda request: Writes(ids, start)
    assert engine.generate("Where?", constraint=constraint).text == "s on"
