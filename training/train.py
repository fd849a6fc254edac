"""The training loop: samples to token ids, loss on the answers only, weights to a directory.

Knows recipes, not trades. Deterministic for a seed, up to floating point.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from training.drills import IGNORED, Encoded, draw_drills
from training.recipe import CONTEXT_WINDOW, Recipe, draw_texts, draw_training
from training.sample import Sample
from training.tokenizer import train_tokenizer


@dataclass(frozen=True, slots=True)
class Trained:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    loss: float  # mean over the last tenth of the steps, nats per answer token
    seconds: float


def render(tokenizer: PreTrainedTokenizerFast, sample: Sample) -> list[tuple[str, bool]]:
    """The conversation as pieces of text, each with whether it is to be learnt.

    An answer is cut off from its header just where an engine would begin to write it.
    """
    pieces: list[tuple[str, bool]] = []
    done = ""
    for end, message in enumerate(sample.messages):
        if message.role != "assistant":
            continue
        turns = [turn.as_dict() for turn in sample.messages[:end]]
        header = str(
            tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        )
        answer = f"{message.content}{tokenizer.eos_token}"
        pieces += [(header[len(done) :], False), (answer, True)]
        done = header + answer
    return pieces


def encode(tokenizer: PreTrainedTokenizerFast, samples: Sequence[Sample]) -> list[Encoded]:
    """Each sample as token ids, its answers to be learnt."""
    pieces = [render(tokenizer, sample) for sample in samples]
    flat = [text for sample in pieces for text, _ in sample]
    ids = iter(tokenizer(flat, add_special_tokens=False)["input_ids"])
    encoded = []
    for sample in pieces:
        tokens: list[int] = []
        labels: list[int] = []
        for _, learnt in sample:
            piece = next(ids)
            tokens += piece
            labels += piece if learnt else [IGNORED] * len(piece)
        encoded.append(Encoded(tokens, labels))
    return encoded


# Few different shapes: kernels are compiled, and kept, for each.
_WIDTHS, _ROWS = 64, 512


def collate(encoded: Sequence[Encoded], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels, [B, S]. Causal attention never looks at the padding."""
    longest = max(len(sample.ids) for sample in encoded)
    longest += -longest % _WIDTHS
    ids = torch.full((len(encoded), longest), pad)
    labels = torch.full((len(encoded), longest), IGNORED)
    for row, sample in enumerate(encoded):
        ids[row, : len(sample.ids)] = torch.tensor(sample.ids)
        labels[row, : len(sample.ids)] = torch.tensor(sample.labels)
    return ids, labels


def batches(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, *, window: int = 16
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The drills, then the conversations: each batch of like lengths, cut from `window` of them."""
    pad = tokenizer.pad_token_id
    rng = random.Random(f"{recipe.name}:{recipe.seed}:batches")
    words = range(len(tokenizer.all_special_ids), len(tokenizer))
    for _ in range(recipe.drills):
        yield collate(draw_drills(rng, words, recipe.batch_size), pad)
    stream = draw_training(recipe)
    while several := list(islice(stream, window)):
        encoded = encode(tokenizer, [sample for batch in several for sample in batch])
        encoded.sort(key=lambda sample: len(sample.ids))
        for index in rng.sample(range(len(several)), len(several)):
            start = index * recipe.batch_size
            yield collate(encoded[start : start + recipe.batch_size], pad)


def answer_loss(model: PreTrainedModel, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the answer tokens; the head runs on no other position."""
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    learnt = targets != IGNORED
    hidden, targets = hidden[learnt], targets[learnt]
    missing = -len(targets) % _ROWS
    hidden = torch.nn.functional.pad(hidden, (0, 0, 0, missing))
    targets = torch.nn.functional.pad(targets, (0, missing), value=IGNORED)
    logits = model.get_output_embeddings()(hidden)
    return torch.nn.functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED)


def optimizers(model: PreTrainedModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embeddings and the norms."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, weight in model.named_parameters():
        (matrices if weight.ndim == 2 and "embed" not in name else others).append(weight)
    return [
        torch.optim.Muon(
            matrices,
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(others, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=0.0),
    ]


def schedule(recipe: Recipe) -> Callable[[int], float]:
    """Linear warm-up, then a cosine down to a fiftieth."""

    def factor(step: int) -> float:
        if step < recipe.warmup:
            return (step + 1) / recipe.warmup
        done = (step - recipe.warmup) / max(1, recipe.all_steps - recipe.warmup)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))

    return factor


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Random weights; ends, padding and beginning as the tokenizer has them."""
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        recipe.config(len(tokenizer)),
        attn_implementation="eager",  # the fastest on a CPU at these lengths
    )
    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    for name, token in ends.items():
        setattr(model.config, name, token)
    model.generation_config = GenerationConfig(do_sample=False, **ends)
    return model


def train(
    recipe: Recipe,
    log: Callable[[str], None],
    *,
    watch: Callable[[PreTrainedModel, PreTrainedTokenizerFast], str] | None = None,
    every: int = 500,
) -> Trained:
    """Tokenizer and model from nothing. Matrices multiply in bfloat16, weights are float32.

    `watch` is asked every so many steps what to log of the model so far.
    """
    began = time.monotonic()
    torch.manual_seed(recipe.seed)
    texts = draw_texts(recipe, recipe.tokenizer_texts)
    tokenizer = train_tokenizer(
        texts, recipe.vocabulary, recipe.chat, max_length=CONTEXT_WINDOW, words=recipe.words
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = new_model(recipe, tokenizer).to(device)  # type: ignore[arg-type]
    log(f"{recipe.name}: {model.num_parameters():,} parameters, {len(tokenizer):,} tokens")
    steppers = optimizers(model, recipe)
    rates = [torch.optim.lr_scheduler.LambdaLR(each, schedule(recipe)) for each in steppers]
    losses: list[float] = []
    model.train()
    for step, (ids, labels) in enumerate(batches(recipe, tokenizer), start=1):
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = answer_loss(model, ids.to(device), labels.to(device))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper, rate in zip(steppers, rates, strict=True):
            stepper.step()
            rate.step()
            stepper.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % 50 == 0:
            recent = sum(losses[-50:]) / 50
            log(
                f"{recipe.name}: step {step}/{recipe.all_steps} loss {recent:.4f}"
                f" {time.monotonic() - began:.0f} s"
            )
        if watch is not None and step % every == 0:
            model.train(False)
            log(f"{recipe.name}: step {step}/{recipe.all_steps} {watch(model, tokenizer)}")
            model.train()
    tail = losses[-max(1, len(losses) // 10) :]
    model.train(False)
    model.to("cpu")
    return Trained(model, tokenizer, sum(tail) / len(tail), time.monotonic() - began)


def save(trained: Trained, folder: Path) -> None:
    """Plain `save_pretrained`, in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    trained.model.to(torch.float16).save_pretrained(folder)  # type: ignore[arg-type]
    trained.model.to(torch.float32)  # type: ignore[arg-type]
    trained.tokenizer.save_pretrained(folder)
