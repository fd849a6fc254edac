"""Checks that a model and its tokenizer belong together, when both are loaded.

A wrong pair would otherwise fail in the middle of an answer, or answer with noise. This module runs
no model.
"""

from __future__ import annotations

from contextlib import suppress

from specfuse_core.errors import ModelLoadError, TemplateError
from specfuse_core.hf.runner import Runner
from specfuse_core.prompts.template import ChatTemplate
from specfuse_core.request import Message

__all__ = ["check_agreement", "check_embedding"]

_QUESTION = (Message("user", "a"),)
_LOAD_OTHER = "load the tokenizer that belongs to the model"


def check_embedding(runner: Runner) -> None:
    """Check that each id of the vocabulary has an embedding.

    Raises:
        ModelLoadError: if the vocabulary of the configuration is larger than the embedding.
    """
    size, rows = int(runner.config.vocab_size), runner.embeddings
    if rows is not None and size > rows:
        raise ModelLoadError(
            f"{runner.name} has a vocabulary of {size} ids in its configuration, but its embedding "
            f"has only {rows} rows; set vocab_size to {rows}, or resize the embedding with "
            "model.resize_token_embeddings."
        )


def check_agreement(runner: Runner, template: ChatTemplate) -> None:
    """Check that the ids of the tokenizer and the end-of-turn ids are in the model's vocabulary.

    Raises:
        ModelLoadError: if the tokenizer or an end-of-turn id belongs to another model.
    """
    size, codec = int(runner.config.vocab_size), template.codec
    if set(codec.encode("A tree, 1.").ids) <= codec.control:
        raise ModelLoadError(
            "the tokenizer has no tokens for ordinary text, as if its files were missing; put "
            "tokenizer.json into the model's directory, or set ModelConfig(tokenizer=...)."
        )
    largest = codec.largest
    # A template may refuse the question, for example if it needs tools.
    with suppress(TemplateError):
        largest = max(largest, *template.prompt(_QUESTION).ids)
    if largest >= size:
        raise ModelLoadError(
            f"the tokenizer gives ids up to {largest}, but the model's vocabulary has only {size} "
            f"ids; {_LOAD_OTHER}."
        )
    configured = _configured(runner)
    outside = [id_ for id_ in sorted(template.ends | configured) if not 0 <= id_ < size]
    if outside:
        raise ModelLoadError(
            f"the end-of-turn ids {outside} are outside of the model's vocabulary of {size} ids; "
            f"correct eos_token_id in generation_config.json, or {_LOAD_OTHER}."
        )
    _check_ends(configured, template)


def _check_ends(configured: set[int], template: ChatTemplate) -> None:
    """Check that the tokenizer does not have words in place of the model's end-of-turn tokens.

    An ordinary token that is not a word, such as a line break, may end a turn.
    """
    texts = {id_: template.codec.text_of(id_) for id_ in configured - template.codec.control}
    if not configured or len(texts) < len(configured):
        return
    if all(text is None or text.strip().isalnum() for text in texts.values()):
        shown = ", ".join(
            f"{id_} ({'no token' if text is None else repr(text)})"
            for id_, text in sorted(texts.items())
        )
        raise ModelLoadError(
            f"none of the model's end-of-turn ids ends a turn in the tokenizer: {shown}; "
            f"{_LOAD_OTHER}, or correct eos_token_id in generation_config.json."
        )


def _configured(runner: Runner) -> set[int]:
    """The end-of-turn ids of the model's generation config."""
    ends = getattr(runner.model.generation_config, "eos_token_id", None)
    return {ends} if isinstance(ends, int) else {int(id_) for id_ in ends or ()}
