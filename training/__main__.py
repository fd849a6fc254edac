"""Trains a bundled model, measures its accuracy, and writes it to a directory.

`python -m training reader` trains one model. `all` trains every bundled model, each in its own
process. `weak` trains the two models of the model exit experiment.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from training.produce import make
from training.recipe import RECIPES, WEAK

BUNDLED = Path(__file__).resolve().parent.parent / "specfuse_core" / "bundled"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("model", choices=[*RECIPES, *WEAK, "all", "weak"])
    parser.add_argument("--out", type=Path, help="directory for the models, one folder each")
    parser.add_argument(
        "--steps", type=int, help="number of steps, without cycles; by default those of the recipe"
    )
    parser.add_argument("--seed", type=int, help="random seed; by default that of the recipe")
    parser.add_argument("--threads", type=int, default=1, help="number of threads per process")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="number of models to train at once"
    )
    parser.add_argument(
        "--questions", type=int, default=300, help="number of questions per task for the accuracy"
    )
    arguments = parser.parse_args()
    several = {"all": list(RECIPES), "weak": list(WEAK)}
    names = several.get(arguments.model, [arguments.model])
    # The longest first, so that all cores finish at nearly the same time.
    names.sort(key=lambda name: (RECIPES | WEAK)[name].all_steps, reverse=True)
    out = arguments.out or (Path("build") if set(names) <= set(WEAK) else BUNDLED)
    # Fresh processes do not share threads or random states.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(arguments.jobs, len(names)), mp_context=context) as pool:
        running = []
        for name in names:
            recipe = (RECIPES | WEAK)[name]
            changed = replace(
                recipe,
                steps=arguments.steps or recipe.steps,
                cycles=() if arguments.steps else recipe.cycles,
                seed=recipe.seed if arguments.seed is None else arguments.seed,
            )
            folder = out / name
            running.append(
                pool.submit(make, changed, folder, arguments.questions, arguments.threads)
            )
        for one in running:
            one.result()


if __name__ == "__main__":
    main()
