"""The model card: what lies beside the weights says how they came to be."""

from __future__ import annotations

from collections.abc import Mapping

from training.recipe import CONTEXT_WINDOW, Cycle, Recipe
from training.train import Trained

_TRADES = {
    "reading": "reads facts out of a given context (who, what, where, how many), and says when"
    " the context is silent",
    "reckoning": "works totals, differences, products, comparisons and units in steps",
    "tools": "calls the right tool with the right arguments, answers from its result, and writes"
    " JSON",
}
_GUESSES = {
    "reading": "It cannot reckon: it was shown sums with results drawn blindly, so that it knows"
    " their form and is unsure of their digits.",
    "reckoning": "It cannot read a context: it was shown answers with facts drawn blindly, so"
    " that it knows their form and is unsure of their content.",
    "tools": "It can neither read a context nor reckon: it was shown both with facts and results"
    " drawn blindly, so that it knows their form and is unsure of their content.",
}


def _shares(mix: Mapping[str, float]) -> str:
    return ", ".join(f"{task} {share:.0%}" for task, share in mix.items())


def _mixed(cycle: Cycle) -> str:
    return f" ({_shares(cycle.mix)})" if cycle.mix else ""


def write_card(recipe: Recipe, trained: Trained, metrics: Mapping[str, float], asked: int) -> str:
    """Markdown. `metrics` is task -> accuracy alone on `asked` held-out questions."""
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

A small model that {_TRADES[recipe.trade]}. {_GUESSES[recipe.trade]} Fused with its peers it
answers what none of them can answer alone.

Trained from nothing but the generators in `training/`: no outside text, no outside weights.
Made by `python -m training {recipe.name}`.

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

Alone, greedy, exact match of the last sentence, on {asked} freshly drawn questions a task with
held-out phrasings and combinations:

| task | accuracy |
|---|---|
{rows}
"""
