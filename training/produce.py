"""Trains one model, measures its accuracy, and writes it with its card to a directory.

This is not in ``__main__``, because functions that run in other processes cannot be there.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from training.card import write_card
from training.evaluate import accuracy, draw_questions
from training.recipe import TASKS, Recipe
from training.splits import Split
from training.train import Trained, save, train

log = logging.getLogger("training")


def measure(trained: Trained, questions: int) -> dict[str, float]:
    """Measure the accuracy of the model alone on held-out questions of every task."""
    return {
        task: accuracy(
            trained.model, trained.tokenizer, draw_questions(task, Split.TEST, questions)
        )
        for task in TASKS
    }


def make(recipe: Recipe, folder: Path, questions: int, threads: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(threads)
    trained = train(recipe, log.info)
    metrics = measure(trained, questions)
    for task, share in metrics.items():
        log.info("%s: %s %.1f %%", recipe.name, task, 100 * share)
    save(trained, folder)
    (folder / "README.md").write_text(write_card(recipe, trained, metrics, questions))
    log.info("%s: written to %s after %.0f s of training", recipe.name, folder, trained.seconds)
