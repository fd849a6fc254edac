"""Measures exact match of one model alone on generated questions, with greedy decoding."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from training.recipe import TASKS
from training.sample import ALL, Level, Message, Sample, is_right
from training.splits import Split


def draw_questions(
    task: str, split: Split, count: int, *, seed: int = 1, most_facts: int = 8
) -> list[Sample]:
    """Draw `count` samples of one task with correct answers. The last message is graded."""
    rng = random.Random(f"{task}:{split}:{seed}")
    levels = [Level(rng.randint(3, most_facts)) for _ in range(count)]
    return [TASKS[task](rng, split, ALL, level) for level in levels]


@torch.inference_mode()
def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int = 80,
    batch_size: int = 50,
) -> list[str]:
    """Generate the model's greedy answer to each conversation."""
    texts = [
        str(
            tokenizer.apply_chat_template(
                [turn.as_dict() for turn in turns], tokenize=False, add_generation_prompt=True
            )
        )
        for turns in prompts
    ]
    answers: list[str] = []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(
            texts[start : start + batch_size],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
        )
        written = model.generate(  # type: ignore[operator]
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        fresh = written[:, batch["input_ids"].shape[1] :]
        answers += tokenizer.batch_decode(fresh, skip_special_tokens=True)
    return answers


def accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, samples: Sequence[Sample]
) -> float:
    """Return the share of correct answers (see `sample.is_right`), from 0 to 1."""
    given = answer(model, tokenizer, [sample.prompt for sample in samples])
    right = [is_right(text, sample.answer) for text, sample in zip(given, samples, strict=True)]
    return sum(right) / len(right)
