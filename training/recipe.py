"""The recipes: architecture, training data and settings of each model.

A recipe is data; `training.train` follows it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from transformers import GPTNeoXConfig, LlamaConfig, PretrainedConfig, Qwen3Config

from training.calls import make_call
from training.composite import make_composite
from training.errands import make_errand
from training.reading import make_reading
from training.reckoning import make_reckoning
from training.sample import ALL, CLERK, READER, RECKONER, Level, Sample, Skill
from training.splits import Split
from training.templates import CHATML, HEADERS, ROLE_MARKS, ChatFormat
from training.tokenizer import PLAIN_WORDS, WORDS

Maker = Callable[[random.Random, Split, Skill, Level], Sample]

TASKS: dict[str, Maker] = {
    "reading": make_reading,
    "reckoning": make_reckoning,
    "tools": make_call,
    "read_then_reckon": make_composite,
    "then_call": make_errand,
}
CONTEXT_WINDOW = 2048


@dataclass(frozen=True, slots=True)
class Cycle:
    """Additional steps at the last level, with a warm restart from half the learning rate."""

    name: str  # together with the recipe's name, the seed of the samples
    steps: int
    mix: dict[str, float] | None = None  # None: the recipe's


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train one model."""

    name: str
    trade: str  # the task that the model specializes in
    skill: Skill
    mix: dict[str, float]  # task -> share of the samples
    config: Callable[[int], PretrainedConfig]  # vocabulary size -> model configuration
    chat: ChatFormat
    vocabulary: int
    drills: int  # number of steps with drills
    steps: int  # number of steps with conversations, after the drills
    cycles: tuple[
        Cycle, ...
    ] = ()  # after that; the result is the mean of the weights at their ends
    batch_size: int = 32
    learning_rate: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.05
    most_facts: int = 9
    most_turns: int = 6
    seed: int = 1
    tokenizer_texts: int = 8_000
    words: str = WORDS
    betas: tuple[float, float] = (0.9, 0.98)

    @property
    def first_steps(self) -> int:
        """Number of steps before the cycles."""
        return self.drills + self.steps

    @property
    def all_steps(self) -> int:
        return self.first_steps + sum(cycle.steps for cycle in self.cycles)


def _llama(vocabulary: int) -> PretrainedConfig:
    """Wide heads with a slow rotation, because words must match over a whole context."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        rope_parameters={"rope_type": "default", "rope_theta": 1e5},
        max_position_embeddings=CONTEXT_WINDOW,
        tie_word_embeddings=True,
        initializer_range=0.02,
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
        initializer_range=0.02,
    )


def _gpt_neox(vocabulary: int) -> PretrainedConfig:
    """Half of each head has no rotation, so that it can match at any distance."""
    return GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 1e4,
            "partial_rotary_factor": 0.5,
        },
        max_position_embeddings=CONTEXT_WINDOW,
        tie_word_embeddings=True,
        initializer_range=0.02,
    )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="reader",
            trade="reading",
            skill=READER,
            mix={
                "reading": 0.5,
                "read_then_reckon": 0.22,
                "then_call": 0.13,
                "reckoning": 0.05,
                "tools": 0.1,
            },
            config=_llama,
            chat=ROLE_MARKS,
            vocabulary=3584,
            drills=1600,
            steps=7200,
            cycles=(
                Cycle("polishE", 1500),
                # Random names cause most of the loss, so use fewer of them and more lookups.
                Cycle(
                    "polishG",
                    850,
                    mix={
                        "reading": 0.42,
                        "read_then_reckon": 0.3,
                        "then_call": 0.18,
                        "reckoning": 0.05,
                        "tools": 0.05,
                    },
                ),
            ),
        ),
        Recipe(
            name="reckoner",
            trade="reckoning",
            skill=RECKONER,
            mix={
                "reckoning": 0.55,
                "read_then_reckon": 0.2,
                "then_call": 0.1,
                "reading": 0.05,
                "tools": 0.1,
            },
            config=_qwen3,
            chat=CHATML,
            vocabulary=1536,
            drills=600,
            steps=3600,
        ),
        Recipe(
            name="clerk",
            trade="tools",
            skill=CLERK,
            mix={
                "tools": 0.63,
                "then_call": 0.22,
                "read_then_reckon": 0.05,
                "reading": 0.05,
                "reckoning": 0.05,
            },
            config=_gpt_neox,
            chat=HEADERS,
            vocabulary=3328,
            drills=1700,
            steps=6000,
            words=PLAIN_WORDS,
        ),
    )
}


def _small(config: PretrainedConfig) -> PretrainedConfig:
    """Reduce the width and the depth of the configuration."""
    config.hidden_size = config.intermediate_size = 64
    config.num_hidden_layers = 2
    if hasattr(config, "layer_types"):
        config.layer_types = config.layer_types[:2]
    return config


def _small_llama(vocabulary: int) -> PretrainedConfig:
    return _small(_llama(vocabulary))


def _small_qwen3(vocabulary: int) -> PretrainedConfig:
    return _small(_qwen3(vocabulary))


#: Two weak models, which know the form of answers but rarely the content, for the experiment with
#: model exit. The package does not include them.
WEAK = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="novice",
            trade="reading",
            skill=ALL,
            mix=dict.fromkeys(TASKS, 0.2),
            config=_small_llama,
            chat=CHATML,
            vocabulary=1024,
            drills=100,
            steps=700,
        ),
        Recipe(
            name="dabbler",
            trade="reckoning",
            skill=ALL,
            mix=dict.fromkeys(TASKS, 0.2),
            config=_small_qwen3,
            chat=ROLE_MARKS,
            vocabulary=768,
            drills=100,
            steps=500,
        ),
    )
}


def level_at(recipe: Recipe, progress: float, rng: random.Random) -> Level:
    """Return the level at a progress from 0 to 1: easy at first, full difficulty after one half.

    Early contexts are short and plain. Looking up facts emerges suddenly, and much earlier if
    conversations ask many questions about one context. In the first sixth, every question has an
    answer.
    """
    growth = min(1.0, 2 * progress)
    most = 3 + round(growth * (recipe.most_facts - 3))
    return Level(
        facts=rng.randint(2, most),
        plain=max(0.0, 1 - 1.5 * growth),
        turns=recipe.most_turns,
        silence=0.0 if growth < 1 / 3 else 0.12,
    )


def draw(recipe: Recipe, rng: random.Random, split: Split, progress: float) -> Sample:
    """Draw a sample of the recipe's mix. The first eighth uses the model's own trade only."""
    shares = recipe.mix if progress > 1 / 8 else {recipe.trade: 1.0}
    task = rng.choices(list(shares), list(shares.values()))[0]
    return TASKS[task](rng, split, recipe.skill, level_at(recipe, progress, rng))


def draw_training(recipe: Recipe) -> Iterator[list[Sample]]:
    """Yield a batch of samples per step."""
    rng = random.Random(f"{recipe.name}:{recipe.seed}")
    for step in range(recipe.steps):
        progress = step / recipe.steps
        yield [draw(recipe, rng, Split.TRAIN, progress) for _ in range(recipe.batch_size)]


def draw_cycle(recipe: Recipe, cycle: Cycle, rng: random.Random) -> Iterator[list[Sample]]:
    """Yield a batch of samples per step of the cycle."""
    changed = replace(recipe, mix=cycle.mix or recipe.mix)
    for _ in range(cycle.steps):
        yield [draw(changed, rng, Split.TRAIN, 1.0) for _ in range(recipe.batch_size)]


def draw_texts(recipe: Recipe, count: int) -> Iterator[str]:
    """Yield the training texts of the tokenizer: messages of the last level."""
    rng = random.Random(f"{recipe.name}:{recipe.seed}:texts")
    for _ in range(count):
        for message in draw(recipe, rng, Split.TRAIN, 1.0).messages:
            yield message.content
