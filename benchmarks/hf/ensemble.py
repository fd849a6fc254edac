"""Models with random weights and scripted drafts for the speed benchmark.

There are five families with five tokenizers and 30 to 50 M parameters each. The computation is
real. The drafts are taken from real text, with a different text for each model, so that no two
candidates are equal. That is the worst case for the engine, which shares common beginnings.
"""

from __future__ import annotations

import pydoc_data.topics
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from specfuse_core.hf import LoadedModel, LocalBackend, Runner, template_of
from specfuse_core.hf.context import Path as Continuation
from specfuse_core.hf.rows import PackedContext, Trie
from specfuse_core.hf.sampling import Chooser
from specfuse_core.hf.session import LocalSession
from specfuse_core.request import Request
from specfuse_core.types import Candidate, Verification

#: Splits text into words, numbers and punctuation like the tokenizers of Llama 3 and Qwen.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_COMMON = {"num_hidden_layers": 8, "max_position_embeddings": 4096, "hidden_size": 512}

#: name -> (config class, options, tokenizer family, vocabulary)
MODELS: dict[str, tuple[str, dict[str, Any], str, int]] = {
    "llama": (
        "LlamaConfig",
        {
            **_COMMON,
            "intermediate_size": 1408,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
        },
        "words",
        24_000,
    ),
    "gpt_neox": (
        "GPTNeoXConfig",
        {**_COMMON, "intermediate_size": 2048, "num_attention_heads": 8},
        "bytelevel",
        20_000,
    ),
    "qwen3": (
        "Qwen3Config",
        {
            **_COMMON,
            "intermediate_size": 1408,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 64,
        },
        "words",
        16_000,
    ),
    "gemma3": (
        "Gemma3TextConfig",
        {
            **_COMMON,
            "intermediate_size": 1408,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 64,
            "sliding_window": 512,
        },
        "metaspace",
        18_000,
    ),
    "gpt2": (
        "GPT2Config",
        {"n_embd": 512, "n_layer": 8, "n_head": 8, "n_positions": 4096},
        "bytelevel",
        12_000,
    ),
}


@cache
def prose() -> str:
    """Return real English text that every Python includes: its language reference."""
    return "\n\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))


@cache
def _library() -> list[str]:
    """Return the training text of the tokenizers: the prose and Python's standard library."""
    files = sorted(Path(pydoc_data.__file__).parents[1].glob("*.py"))
    return [prose(), *(file.read_text("utf-8") for file in files)]


@cache
def tokenizer_of(family: str, vocabulary: int) -> Tokenizer:
    """Train a byte-level or Metaspace tokenizer with ``vocabulary`` tokens."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=family == "metaspace"))
    alphabet: list[str] = []
    if family == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
    else:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=family != "words")
        tokenizer.pre_tokenizer = byte_level
        if family == "words":
            split = pre_tokenizers.Split(Regex(_WORDS), "isolated")
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["</s>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_library(), trainer)
    return tokenizer


def build(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Build a model of ``MODELS`` and its tokenizer."""
    config_class, options, family, vocabulary = MODELS[name]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of(family, vocabulary),
        eos_token="</s>",
        chat_template="{{ messages[0].content }}",
    )
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(
        vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, pad_token_id=0, **options
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    model.generation_config.eos_token_id = 0
    return model, tokenizer


class ScriptedChooser:
    """Chooses the next token of a text. After foreign text it continues at the start of a word.

    Like that of a sampler, the choice at a position depends only on the position and the ids
    before it.
    """

    def __init__(self, script: Sequence[int], openings: Sequence[int]) -> None:
        self._script = script
        self._openings = openings
        self._drawn: dict[int, int] = {}

    def choose(self, logits: Tensor, position: int, context: Sequence[int]) -> int:
        logits.argmax()  # the cost of a greedy sampler
        before = self._drawn.get(position - 1)
        if before is not None and self._script[before] == context[-1]:
            place = before + 1
        else:
            place = self._openings[position * 7 % len(self._openings)]
        self._drawn[position] = place
        return self._script[place]


class ScriptedLocalBackend(LocalBackend):
    """A local backend whose drafts follow a script.

    Args:
        name: name of the model.
        model: the model.
        tokenizer: its tokenizer.
        place: position of the model in the ensemble, which selects its text.
        reencode: whether to run all ids again for each draft and each verification, as the
            authors' code does.
        onednn: whether linear layers use oneDNN.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        place: int,
        *,
        reencode: bool = False,
        onednn: bool = True,
    ) -> None:
        runner = Runner(model, onednn=onednn)
        super().__init__(name, lambda: (LoadedModel(runner), template_of(model, tokenizer)))
        self.load()
        self._reencode = reencode
        # Each model drafts from its own part of the text.
        codec = self.template.codec
        text = prose()[100_000 + 80_000 * place :][:60_000]
        encoded = codec.encode(text)
        self._script = encoded.ids
        # Drafts begin with a word. Tokenizers place its space in one of two ways.
        last = len(self._script) - 2000
        self._openings = [
            i
            for i, (start, end) in enumerate(pairwise(encoded.starts[:last]))
            if text[start:end].strip().isalpha() and " " in text[max(start - 1, 0) : start + 1]
        ]

    def _chooser(self, request: Request) -> Chooser:
        return ScriptedChooser(self._script, self._openings)

    def start(self, request: Request) -> LocalSession:
        session = super().start(request)
        return ReencodingSession.made_of(session) if self._reencode else session


class _OnePass(PackedContext):
    """Runs line and paths in one forward pass without a cache, with logits at every position."""

    def _run_line(self, ids: Sequence[int]) -> Tensor:
        return torch.empty(0)  # the line is run together with the paths

    def _run_paths(self, paths: Sequence[Continuation]) -> list[Tensor]:
        trie, line = Trie(paths), len(self.ids)
        logits, _ = self._run(
            [*self.ids, *trie.tokens],
            use_cache=False,
            positions=[*range(line), *trie.positions],
            mask=self._mask(trie),
        )
        self._after[line - 1] = logits[line - 1]
        return [logits[line:][nodes] for nodes in trie.nodes]

    def _mask(self, trie: Trie) -> Tensor | dict[str, Tensor]:
        line = len(self.ids)
        causal = np.eye(line, line + len(trie.tokens), dtype=bool)
        causal[:, :line] = np.tri(line, dtype=bool)
        positions = np.array([*range(line), *trie.positions])
        return self._masks(np.concatenate([causal, self._seen(trie)]), positions, positions)

    def _keep_path(self, index: int) -> None:
        return


class ReencodingSession(LocalSession):
    """A session with the cost of the authors' code: it runs the prefix again each time.

    As in their code, a verification is one forward pass over the prefix and all candidates, with a
    4-D mask and logits at every position. A draft computes only the last logits of its prefix, as
    ``generate`` does.
    """

    drafting: PackedContext
    verifying: PackedContext

    @classmethod
    def made_of(cls, session: LocalSession) -> ReencodingSession:
        """Change ``session`` into one that keeps no cache, and return it."""
        context = session._context
        if not isinstance(context, PackedContext):
            raise TypeError(f"only packed contexts can run in one pass, got {context!r}")
        session.__class__ = cls
        made = cast(ReencodingSession, session)
        made.drafting = context
        made.verifying = _OnePass(context._runner, form=context._form)
        return made

    def draft(self, max_tokens: int) -> Candidate:
        self._begin(self.drafting)
        return super().draft(max_tokens)

    def verify(self, candidates: Sequence[Candidate]) -> list[Verification]:
        self._begin(self.verifying)
        return super().verify(candidates)

    def _begin(self, context: PackedContext) -> None:
        self.close()
        self._context = context
        context.release()


def prompt_of(tokens: int, backend: LocalBackend) -> str:
    """Return the beginning of the prose that has ``tokens`` tokens for ``backend``."""
    encoded = backend.template.codec.encode(prose()[:20_000])
    return prose()[: encoded.starts[tokens]]


__all__ = [
    "MODELS",
    "ReencodingSession",
    "ScriptedChooser",
    "ScriptedLocalBackend",
    "build",
    "prompt_of",
    "prose",
    "tokenizer_of",
]
