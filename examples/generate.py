"""Stream an answer of the bundled ensemble and show which model wrote each segment.

pip install .
python examples/generate.py
"""

from pathlib import Path

from specfuse_core import FusionEngine

CONTEXT = (Path(__file__).parent / "house.txt").read_text(encoding="utf-8").strip()
QUESTION = "How many lamps are in the hall and the attic in total?"


def main() -> None:
    engine = FusionEngine.bundled()
    for segment in engine.stream(f"{CONTEXT}\n\n{QUESTION}"):
        print(f"{segment.author or '':>10} | {segment.text.strip()}")
        if segment.usage is not None:
            passes = sum(model.cost.forward_passes for model in segment.usage.models)
            print(f"\nfinished ({segment.finish_reason}) after {passes} forward passes")


if __name__ == "__main__":
    main()
