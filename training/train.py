"""The training loop: encodes samples, computes the loss on answers only, and saves the weights.

It is deterministic for a seed, up to floating-point rounding. This module knows recipes, but not
the content of samples.
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from training.drills import IGNORED, Encoded, draw_drills
from training.recipe import CONTEXT_WINDOW, Cycle, Recipe, draw_cycle, draw_texts, draw_training
from training.sample import Sample
from training.tokenizer import train_tokenizer


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    loss: float  # mean over the last tenth of the steps, nats per answer token
    seconds: float


def render(tokenizer: PreTrainedTokenizerFast, sample: Sample) -> list[tuple[str, bool]]:
    """Split a conversation into pieces of text, each with whether the loss includes it.

    An answer begins where an engine would begin to generate it.
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
    """Encode each sample as token ids with labels for its answers."""
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


# Round shapes up to these multiples, because kernels are compiled and cached for each shape.
_WIDTHS, _ROWS = 64, 512


def collate(encoded: Sequence[Encoded], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return right-padded ids and labels, [B, S]. Causal attention ignores the padding."""
    longest = max(len(sample.ids) for sample in encoded)
    longest += -longest % _WIDTHS
    ids = torch.full((len(encoded), longest), pad)
    labels = torch.full((len(encoded), longest), IGNORED)
    for row, sample in enumerate(encoded):
        ids[row, : len(sample.ids)] = torch.tensor(sample.ids)
        labels[row, : len(sample.ids)] = torch.tensor(sample.labels)
    return ids, labels


Batch = tuple[torch.Tensor, torch.Tensor]  # ids and labels, [B, S]


def batches(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, *, window: int = 16
) -> Iterator[Batch]:
    """Yield the batches of drills, then those of conversations."""
    pad = tokenizer.pad_token_id
    rng = random.Random(f"{recipe.name}:{recipe.seed}:batches")
    words = range(len(tokenizer.all_special_ids), len(tokenizer))
    for _ in range(recipe.drills):
        yield collate(draw_drills(rng, words, recipe.batch_size), pad)
    yield from by_length(draw_training(recipe), tokenizer, rng, window)


def cycle_batches(
    recipe: Recipe, cycle: Cycle, tokenizer: PreTrainedTokenizerFast, *, window: int = 16
) -> Iterator[Batch]:
    """Yield the batches of one cycle."""
    rng = random.Random(f"{recipe.name}:{cycle.name}")
    return by_length(draw_cycle(recipe, cycle, rng), tokenizer, rng, window)


def by_length(
    drawn: Iterator[list[Sample]],
    tokenizer: PreTrainedTokenizerFast,
    rng: random.Random,
    window: int,
) -> Iterator[Batch]:
    """Sort the samples of ``window`` batches by length, so that a batch has similar lengths."""
    while several := list(islice(drawn, window)):
        encoded = encode(tokenizer, [sample for batch in several for sample in batch])
        encoded.sort(key=lambda sample: len(sample.ids))
        size = len(several[0])
        for index in rng.sample(range(len(several)), len(several)):
            yield collate(encoded[index * size : (index + 1) * size], tokenizer.pad_token_id)


def answer_loss(model: PreTrainedModel, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of the answer tokens. Only they run through the head."""
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
    """Create Muon for the matrices of the layers and AdamW for embeddings and norms."""
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
    """Return the schedule of the learning rate: linear warm-up, then cosine decay to 2 %."""
    return _fall(1.0, recipe.warmup, recipe.first_steps)


def cycle_schedule(recipe: Recipe, cycle: Cycle) -> Callable[[int], float]:
    """Return the schedule of a warm restart from half the rate (Loshchilov and Hutter, 2017)."""
    return _fall(0.5, recipe.warmup // 2, cycle.steps)


def _fall(peak: float, warmup: int, steps: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))

    return factor


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Create a model with random weights and the special tokens of the tokenizer."""
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        recipe.config(len(tokenizer)),
        attn_implementation="eager",  # the fastest on a CPU for these lengths
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


def descend(
    model: PreTrainedModel,
    recipe: Recipe,
    data: Iterable[Batch],
    factor: Callable[[int], float],
    tell: Callable[[float], None],
) -> list[float]:
    """Train for one step per batch. Matrix products are in bfloat16, weights in float32.

    Args:
        model: the model.
        recipe: the recipe, with the learning rate.
        data: the batches.
        factor: factor of the learning rate, by step.
        tell: called with the loss of each step.

    Returns:
        The losses.
    """
    steppers = optimizers(model, recipe)
    rates = [torch.optim.lr_scheduler.LambdaLR(each, factor) for each in steppers]
    losses: list[float] = []
    model.train()
    for ids, labels in data:
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            loss = answer_loss(model, ids.to(model.device), labels.to(model.device))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper, rate in zip(steppers, rates, strict=True):
            stepper.step()
            rate.step()
            stepper.zero_grad(set_to_none=True)
        losses.append(loss.item())
        tell(losses[-1])
    model.train(False)
    return losses


def go_round(
    model: PreTrainedModel,
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    tell: Callable[[float], None],
) -> list[float]:
    """Train the cycles of a recipe, and set the weights to their mean over the ends of the cycles.

    This is stochastic weight averaging with a cyclical rate (Izmailov et al., 2018, section 3).

    Returns:
        The losses.
    """
    mean = AveragedModel(model)
    losses: list[float] = []
    for cycle in recipe.cycles:
        data = cycle_batches(recipe, cycle, tokenizer)
        losses += descend(model, recipe, data, cycle_schedule(recipe, cycle), tell)
        mean.update_parameters(model)
    model.load_state_dict(mean.module.state_dict())
    return losses


def train(recipe: Recipe, log: Callable[[str], None]) -> Trained:
    """Train the tokenizer and the model of a recipe from scratch."""
    began = time.monotonic()
    torch.manual_seed(recipe.seed)
    texts = draw_texts(recipe, recipe.tokenizer_texts)
    tokenizer = train_tokenizer(
        texts, recipe.vocabulary, recipe.chat, max_length=CONTEXT_WINDOW, words=recipe.words
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = new_model(recipe, tokenizer).to(device)  # type: ignore[arg-type]
    log(f"{recipe.name}: {model.num_parameters():,} parameters, {len(tokenizer):,} tokens")
    recent: deque[float] = deque(maxlen=50)
    steps = count(1)

    def tell(loss: float) -> None:
        recent.append(loss)
        step = next(steps)
        if step % 50 == 0:
            log(
                f"{recipe.name}: step {step}/{recipe.all_steps} loss {sum(recent) / 50:.4f}"
                f" {time.monotonic() - began:.0f} s"
            )

    losses = descend(model, recipe, batches(recipe, tokenizer), schedule(recipe), tell)
    if recipe.cycles:
        losses = go_round(model, recipe, tokenizer, tell)
    tail = losses[-max(1, recipe.all_steps // 10) :]
    model.to("cpu")
    return Trained(model, tokenizer, sum(tail) / len(tail), time.monotonic() - began)


def save(trained: Trained, folder: Path) -> None:
    """Save the model in float16 and the tokenizer with `save_pretrained`."""
    folder.mkdir(parents=True, exist_ok=True)
    trained.model.to(torch.float16).save_pretrained(folder)  # type: ignore[arg-type]
    trained.model.to(torch.float32)  # type: ignore[arg-type]
    trained.tokenizer.save_pretrained(folder)
