"""`python -m training reader`: train a bundled model, measure it, write it where it is shipped."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

from training.card import write_card
from training.evaluate import accuracy, draw_questions
from training.recipe import RECIPES, TASKS, Recipe
from training.splits import Split
from training.train import Trained, save, train

BUNDLED = Path(__file__).resolve().parent.parent / "specfuse_core" / "bundled"
log = logging.getLogger("training")


def measure(trained: Trained, questions: int) -> dict[str, float]:
    """Accuracy alone on held-out questions of every task."""
    return {
        task: accuracy(
            trained.model, trained.tokenizer, draw_questions(task, Split.TEST, questions)
        )
        for task in TASKS
    }


def make(recipe: Recipe, folder: Path, questions: int) -> None:
    trained = train(recipe, log.info)
    metrics = measure(trained, questions)
    for task, share in metrics.items():
        log.info("%s: %s %.1f %%", recipe.name, task, 100 * share)
    save(trained, folder)
    (folder / "README.md").write_text(write_card(recipe, trained, metrics, questions))
    log.info("%s: written to %s after %.0f s of training", recipe.name, folder, trained.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("model", choices=[*RECIPES, "all"])
    parser.add_argument("--out", type=Path, default=BUNDLED, help="a folder per model goes in here")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--questions", type=int, default=300, help="per task, to measure it")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    for recipe in RECIPES.values() if arguments.model == "all" else [RECIPES[arguments.model]]:
        changed = replace(
            recipe,
            steps=arguments.steps or recipe.steps,
            seed=recipe.seed if arguments.seed is None else arguments.seed,
        )
        make(changed, arguments.out / recipe.name, arguments.questions)


if __name__ == "__main__":
    main()
