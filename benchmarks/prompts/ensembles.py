"""Answers of mixed ensembles in real vocabularies, beside plain forward passes over everything."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from specfuse_core import FusionConfig, FusionEngine, Request
from specfuse_core.algorithm.scoring import score_row
from specfuse_core.hf import LoadedModel, LocalBackend, Runner, template_of
from specfuse_core.types import Candidate, Verification

__all__ = ["largest_deviation"]

#: Which template goes with which tokenizer, by words of their names.
_TEMPLATES = {"qwen": "Qwen3-0.6B", "gpt": "gpt-oss", "deepseek": "DeepSeek-V3.1"}
_PROMPT = (
    "What do <|im_end|>, <|eot_id|>, <start_of_turn>, [INST], </s>, <|channel|> and "
    "<\uff5cend\u2581of\u2581sentence\uff5c> mean? def f(x):\n    return 1  # 東京 😀"
)


def largest_deviation(
    directory: Path, tokenizers: dict[str, PreTrainedTokenizerFast], *, rounds: int = 9
) -> dict[str, Any]:
    """How far scores are from those of plain forward passes, and whether ids are those of texts.

    Args:
        directory: holds the chat templates.
        tokenizers: the vocabularies; one model of random weights is made for each.
        rounds: rounds that are played.
    """
    backends = [_backend(directory, *item, seed) for seed, item in enumerate(tokenizers.items())]
    engine = FusionEngine(backends, FusionConfig(score_mode="logprob"))
    request = Request.of(_PROMPT, max_new_tokens=rounds * 10, temperature=1.0, seed=1)
    worst, wrong, played, text = 0.0, 0, 0, ""
    for segment in engine.stream(request):
        if segment.round is None:
            continue
        played += 1
        for backend, row in zip(backends, segment.round.scores, strict=True):
            plain = [_plain(backend, request, text, each) for each in segment.round.candidates]
            expected = score_row([each for each, _ in plain], "logprob")
            wrong += sum(not same for _, same in plain)
            pairs = zip(row, expected, strict=True)
            worst = max(worst, *(abs((a or 0.0) - (b or 0.0)) for a, b in pairs))
        text += segment.round.candidate.text
    return {
        "models": len(backends),
        "rounds": played,
        "score_deviation": worst,
        "ids_unlike_text": wrong,
    }


def _backend(
    directory: Path, name: str, tokenizer: PreTrainedTokenizerFast, seed: int
) -> LocalBackend:
    wanted = next((part for word, part in _TEMPLATES.items() if word in name), None)
    paths = [path for path in directory.glob("templates/*.jinja") if wanted and wanted in path.name]
    if paths:
        tokenizer.chat_template = paths[0].read_text(encoding="utf-8")
    torch.manual_seed(seed)
    config = LlamaConfig(
        # Padded, as real vocabularies are.
        vocab_size=(len(tokenizer) + 127) // 128 * 128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=4096,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    loaded = LoadedModel(Runner(model))
    return LocalBackend(name, partial(_pair, loaded, tokenizer))


def _pair(loaded: LoadedModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    return loaded, template_of(loaded.runner.model, tokenizer)


def _plain(
    backend: LocalBackend, request: Request, text: str, candidate: Candidate
) -> tuple[Verification, bool]:
    """A verification by one forward pass over everything, and whether the ids spell the text."""
    template, runner = backend.template, backend.model.runner
    session = backend.start(request)
    prompt = list(session.ids)
    session.commit(Candidate(text))
    before = list(session.ids)
    session.commit(Candidate(candidate.text))
    whole = list(session.ids)
    session.close()
    first = next((i for i, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), None)
    first = min(len(before), len(whole)) if first is None else first
    logits, _ = runner.run(whole, use_cache=False)
    rows = logits[first - 1 :].float().log_softmax(-1)
    logprobs = [float(rows[i][id_]) for i, id_ in enumerate(whole[first:])]
    if candidate.ends:
        ends = rows[len(whole) - first][sorted(template.ends)]
        logprobs.append(float(ends.logsumexp(0)))
    speech = template.speech(request.tools)
    pieces = speech.spelling.pieces(text + candidate.text) if speech else []
    expected = "".join(piece.text for piece in pieces) or text + candidate.text
    same = template.codec.decode_marked(whole[len(prompt) :]) == expected
    return Verification(tuple(logprobs)), same
