"""Writes the model card of a trained model."""

from __future__ import annotations

from collections.abc import Mapping

from training.recipe import CONTEXT_WINDOW, Cycle, Recipe
from training.train import Trained

_TRADES = {
    "reading": "reads facts from a given context (who, what, where, how many), and says if the"
    " context does not contain the answer",
    "reckoning": "calculates totals, differences, products, comparisons and units in steps",
    "tools": "calls the right tool with the right arguments, answers from its result, and writes"
    " JSON",
}
_GUESSES = {
    "reading": "It cannot calculate: it was trained on sums with random results, so that it knows"
    " their form but is unsure of the digits.",
    "reckoning": "It cannot read a context: it was trained on answers with random facts, so that"
    " it knows their form but is unsure of their content.",
    "tools": "It can neither read a context nor calculate: it was trained on both with random facts"
    " and results, so that it knows their form but is unsure of their content.",
}


def _shares(mix: Mapping[str, float]) -> str:
    return ", ".join(f"{task} {share:.0%}" for task, share in mix.items())


def _mixed(cycle: Cycle) -> str:
    return f" ({_shares(cycle.mix)})" if cycle.mix else ""


def write_card(recipe: Recipe, trained: Trained, metrics: Mapping[str, float], asked: int) -> str:
    """Return the model card in Markdown.

    Args:
        recipe: the recipe.
        trained: the trained model.
        metrics: accuracy by task, from 0 to 1.
        asked: number of held-out questions per task.
    """
    config = trained.model.config
    mix = _shares(recipe.mix)
    conversations = recipe.all_steps - recipe.drills
    cycles = "".join(
        f"; then {cycle.steps:,} steps from half of it{_mixed(cycle)}" for cycle in recipe.cycles
    )
    if recipe.cycles:
        cycles += "; the mean of the weights at the ends of these cycles"
    rows = "\n".join(f"| {task} | {share:.1%} |" for task, share in metrics.items())
    return f"""\
---
license: apache-2.0
language: en
pipeline_tag: text-generation
---
# {recipe.name}

A small model that {_TRADES[recipe.trade]}. {_GUESSES[recipe.trade]} Fused with the other
bundled models, it answers questions that none of them can answer alone.

It was trained on the output of the generators in `training/` only, without other text or weights.
Command: `python -m training {recipe.name}`.

| | |
|---|---|
| architecture | {type(trained.model).__name__} |
| parameters | {trained.model.num_parameters():,} |
| layers, width, heads | {config.num_hidden_layers}, {config.hidden_size}, \
{config.num_attention_heads} |
| tokenizer | byte-level BPE, {len(trained.tokenizer):,} tokens, a token for each digit |
| context | {CONTEXT_WINDOW} tokens |
| end of turn | `{trained.tokenizer.eos_token}` |
| weights | float16 |
| data | {recipe.drills * recipe.batch_size:,} drills, then \
{conversations * recipe.batch_size:,} conversations ({mix}) |
| steps, batch | {recipe.all_steps:,}, {recipe.batch_size} |
| peak learning rate | {recipe.learning_rate:g} (Muon for matrices, AdamW for the rest){cycles} |
| seed | {recipe.seed} |
| training time | {trained.seconds / 60:.0f} minutes in one process |
| final loss | {trained.loss:.4f} nats per answer token |

Exact match of the last sentence, for this model alone with greedy decoding, on {asked} new
questions per task with held-out phrasings and combinations:

| task | accuracy |
|---|---|
{rows}
"""
