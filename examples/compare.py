"""Compare the answers of each base model alone with the fused answer.

pip install .
python examples/compare.py
"""

from pathlib import Path

from specfuse_core import FusionEngine

CONTEXT = (Path(__file__).parent / "house.txt").read_text(encoding="utf-8").strip()
QUESTION = "How many lamps are in the hall and the attic in total?"


def main() -> None:
    engine = FusionEngine.bundled()
    question = f"{CONTEXT}\n\n{QUESTION}"
    print(f"{question}\n")
    for name in engine.models:
        alone = engine.subset([name]).generate(question)
        print(f"{name:>10} | {alone.text}")
    together = engine.generate(question)
    print(f"{'together':>10} | {together.text}")


if __name__ == "__main__":
    main()
