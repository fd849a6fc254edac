"""The recipes: which model is trained on what, for how long.

A recipe is data; `training.train` follows it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from transformers import LlamaConfig, PretrainedConfig, Qwen3Config

from training.composite import make_composite
from training.reading import make_reading
from training.reckoning import make_reckoning
from training.sample import READER, RECKONER, Sample, Skill
from training.splits import Split
from training.templates import CHATML, ROLE_MARKS, ChatFormat

Maker = Callable[[random.Random, Split, Skill, int], Sample]

TASKS: dict[str, Maker] = {
    "reading": make_reading,
    "reckoning": make_reckoning,
    "composite": make_composite,
}
CONTEXT_WINDOW = 2048


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str
    trade: str  # the task it is a specialist of
    skill: Skill
    mix: dict[str, float]  # task -> share of the samples
    config: Callable[[int], PretrainedConfig]  # vocabulary size -> model configuration
    chat: ChatFormat
    vocabulary: int
    steps: int
    batch_size: int = 48
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.05
    most_facts: int = 9
    seed: int = 1
    tokenizer_texts: int = 12_000
    betas: tuple[float, float] = field(default=(0.9, 0.98))


def _llama(vocabulary: int) -> PretrainedConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT_WINDOW,
        tie_word_embeddings=True,
        initializer_range=0.05,
    )


def _qwen3(vocabulary: int) -> PretrainedConfig:
    return Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT_WINDOW,
        tie_word_embeddings=True,
        initializer_range=0.05,
    )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="reader",
            trade="reading",
            skill=READER,
            mix={"reading": 0.55, "composite": 0.35, "reckoning": 0.1},
            config=_llama,
            chat=ROLE_MARKS,
            vocabulary=2048,
            steps=3000,
        ),
        Recipe(
            name="reckoner",
            trade="reckoning",
            skill=RECKONER,
            mix={"reckoning": 0.6, "composite": 0.28, "reading": 0.12},
            config=_qwen3,
            chat=CHATML,
            vocabulary=1280,
            steps=3000,
        ),
    )
}


def draw(recipe: Recipe, rng: random.Random, split: Split, size: int) -> Sample:
    """One sample of the recipe's mix, over a context of up to `size` facts."""
    task = rng.choices(list(recipe.mix), list(recipe.mix.values()))[0]
    return TASKS[task](rng, split, recipe.skill, size)


def draw_training(recipe: Recipe) -> Iterator[list[Sample]]:
    """A batch per step. Contexts grow from three facts to the most over the first third."""
    rng = random.Random(f"{recipe.name}:{recipe.seed}")
    for step in range(recipe.steps):
        growth = min(1.0, step / (recipe.steps / 3))
        most = 3 + round(growth * (recipe.most_facts - 3))
        yield [
            draw(recipe, rng, Split.TRAIN, rng.randint(3, most)) for _ in range(recipe.batch_size)
        ]
