"""Private copies of tokenizers: one for each distinct tokenizer, and no one else changes it."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import tiny
import vocabularies
from tokenizers import AddedToken, pre_tokenizers

from specfuse_core import FusionEngine, Regex
from specfuse_core.prompts.codec import TextCodec
from specfuse_core.prompts.private import PrivateTokenizer
from specfuse_core.prompts.template import ChatTemplate

KINDS = [*tiny.FAMILIES, *vocabularies.SPELLED]
TEXTS = (*tiny.CORPUS[:9], " <s> a</s>b <|im_end|>", "a    b\t\tc\n\n\nd", " lamps12 e ")


def tokenizer(kind: str) -> Any:
    return (tiny.tokenizer if kind in tiny.FAMILIES else vocabularies.made)(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_the_tokenizer(kind: str) -> None:
    own = tokenizer(kind).backend_tokenizer
    private = PrivateTokenizer.of(own)
    assert private.marked.to_str() == own.to_str()
    for text in TEXTS:
        ours, theirs = (
            each.encode(text, add_special_tokens=False) for each in (private.marked, own)
        )
        assert (ours.ids, ours.offsets) == (theirs.ids, theirs.offsets)


@pytest.mark.parametrize("kind", KINDS)
def test_codecs_of_one_tokenizer_share_its_copy(kind: str) -> None:
    first, second = TextCodec(tokenizer(kind)), TextCodec(tokenizer(kind))
    assert first._private is second._private
    assert first.key == second.key
    assert first._plain is second._plain
    ended = first.with_ends([tokenizer(kind).convert_tokens_to_ids("a")])
    assert ended._private is first._private


def test_a_template_has_one_copy_though_it_finds_more_ends() -> None:
    plain = tiny.tokenizer("bytelevel")
    plain.add_tokens([AddedToken("<end>")])
    end = plain.convert_tokens_to_ids("<end>")
    template = ChatTemplate(plain, None, {}, [end])
    assert end in template.codec.control
    assert template.codec._private is TextCodec(plain)._private
    assert end not in template.codec.encode("<end>").ids
    assert end in template.codec.encode_marked("<end>")
    assert end in TextCodec(plain).encode("<end>").ids


def test_what_the_owner_changes_later_changes_no_codec() -> None:
    owned_by_user = tiny.tokenizer("bytelevel")
    codec = TextCodec(owned_by_user)
    before = codec.encode("The <new> lamps").ids
    backend = owned_by_user.backend_tokenizer
    backend.pre_tokenizer.add_prefix_space = True
    backend.model.dropout = 1.0
    backend.add_tokens(["<new>"])
    backend.enable_truncation(2)
    backend.enable_padding(length=9)
    assert codec.encode("The <new> lamps").ids == before
    assert codec.encode_marked("The <new> lamps") == before
    changed = TextCodec(owned_by_user)
    assert changed._private is not codec._private
    assert backend.token_to_id("<new>") in changed.encode("The <new> lamps").ids


def test_padding_and_truncation_make_no_other_tokenizer() -> None:
    codec = TextCodec(tiny.tokenizer("metaspace"))
    padded = tiny.tokenizer("metaspace")
    padded(["a", "a b c"], padding=True, truncation=True, max_length=2)
    assert TextCodec(padded)._private is codec._private
    assert len(TextCodec(padded).encode("a b c d e").ids) > 2


def test_other_content_is_another_copy() -> None:
    one, other = tiny.tokenizer("bytelevel"), tiny.tokenizer("bytelevel")
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    first, second = TextCodec(one), TextCodec(other)
    assert first._private is not second._private
    assert first.encode("a").ids != second.encode("a").ids


def test_a_copy_goes_when_no_model_needs_it() -> None:
    made = tiny.tokenizer("bytelevel")
    made.add_tokens(["<unique to this test>"])
    codec = TextCodec(made)
    key = codec._private.key
    assert key in PrivateTokenizer._shared
    del codec
    gc.collect()
    assert key not in PrivateTokenizer._shared


def test_a_tokenizer_that_only_specfuse_has_shares_the_vocabulary_itself() -> None:
    first, second = tiny.tokenizer("metaspace"), tiny.tokenizer("metaspace")
    for each in (first, second):
        each.add_tokens(["<of this test alone>"])
    codecs = [TextCodec(each, owned=True) for each in (first, second)]
    assert codecs[0]._private is codecs[1]._private
    text = " ".join(tiny.CORPUS)
    assert codecs[0].encode_marked(text) == first(text, add_special_tokens=False)["input_ids"]
    assert first(text)["input_ids"] == second(text)["input_ids"]
    # One object: what is changed in one is changed in the other.
    first.backend_tokenizer.model.unk_token = "<pad>"
    assert second.backend_tokenizer.model.unk_token == "<pad>"


def test_models_of_one_tokenizer_share_everything_across_engines(tmp_path: Path) -> None:
    # A tokenizer that no other test has, whose engines may still be in use.
    owned = {"additional_special_tokens": ["<|own|>"]}
    paths = []
    for seed, name in enumerate(("one", "other")):
        model, made = tiny.pair("llama", "sentencepiece", seed=seed)
        made.add_special_tokens(owned)
        model.save_pretrained(tmp_path / name)
        made.save_pretrained(tmp_path / name)
        paths.append(str(tmp_path / name))
    engines = [FusionEngine.from_pretrained([path]) for path in paths]
    model, made = tiny.pair("gpt2", "sentencepiece", seed=2)
    made.add_special_tokens(owned)
    engines.append(FusionEngine.from_models([(model, made)]))
    for engine in engines:
        engine.generate("Where?", constraint=Regex("[a-z]{3}"), max_new_tokens=9)
    backends: Any = [engine.backends[0] for engine in engines]
    assert len({id(backend.template.codec._private) for backend in backends}) == 1
    assert len({id(backend._vocabulary) for backend in backends}) == 1
    assert sorted(backends[0]._vocabulary._tokenizers) == [None]


def test_a_padded_vocabulary_has_masks_of_its_own() -> None:
    made = tiny.tokenizer("bytelevel")
    sizes = (len(made), len(made) + 64)
    engines = [FusionEngine.from_models([(tiny.model("llama", size), made)]) for size in sizes]
    for engine in engines:
        engine.generate("Where?", constraint=Regex("[a-z]{3}"), max_new_tokens=9)
    first, second = (engine.backends[0]._vocabulary for engine in engines)  # type: ignore[attr-defined]
    assert (first.size, second.size) == sizes
    assert first.tokens[: sizes[0]] == second.tokens[: sizes[0]]
