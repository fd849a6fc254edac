"""Tokenizers for chat templates: real ones from a directory, and small ones made to measure."""

from __future__ import annotations

import re
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

__all__ = ["made_for", "real_tokenizers"]

#: What control tokens look like in chat templates.
_MARKS = re.compile(
    r"<\|[^<>|\s]+\|?>|<[^<>|\s]+\|>|<\uff5c[^<>\s]+\uff5c>|<(?:start|end)_of_\w+>|</?s>"
    r"|\[/?(?:INST|THINK|TOOL_CALLS|ARGS|CALL_ID|AVAILABLE_TOOLS|TOOL_RESULTS|SYSTEM_PROMPT)\]"
)


def made_for(template: str) -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes that has the control tokens of a chat template."""
    letters = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {letter: id_ for id_, letter in enumerate(sorted(letters))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=template
    )
    marks = sorted(set(_MARKS.findall(template)) | {"<|im_end|>"})
    made.add_special_tokens({"additional_special_tokens": marks})
    return made


def real_tokenizers(directory: Path) -> dict[str, PreTrainedTokenizerFast]:
    """The tokenizers of a directory, by the names of their folders."""
    return {
        path.parent.name: AutoTokenizer.from_pretrained(path.parent)
        for path in sorted(directory.glob("tokenizers/*/tokenizer.json"))
    }
