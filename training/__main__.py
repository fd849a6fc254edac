"""`python -m training reader`: train a bundled model, measure it, write it where it is shipped.

`all` trains every bundled model, one process each; `weak` the two of the exit experiment.
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
    parser.add_argument("--out", type=Path, help="a folder per model goes in here")
    parser.add_argument("--steps", type=int, help="instead of the recipe's, and no cycles")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="models trained at once")
    parser.add_argument("--questions", type=int, default=300, help="per task, to measure it")
    arguments = parser.parse_args()
    several = {"all": list(RECIPES), "weak": list(WEAK)}
    names = several.get(arguments.model, [arguments.model])
    # The longest first: the cores are then done at nearly the same time.
    names.sort(key=lambda name: (RECIPES | WEAK)[name].all_steps, reverse=True)
    out = arguments.out or (Path("build") if set(names) <= set(WEAK) else BUNDLED)
    # Fresh processes: threads and random states of one do not reach another.
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
