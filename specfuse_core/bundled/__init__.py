"""The small trained models that come with the package.

Each is a directory beside this file, as ``save_pretrained`` writes it; ``training/`` makes them.
"""

from pathlib import Path

__all__ = ["bundled_models"]


def bundled_models() -> list[Path]:
    """The directories of the bundled models, by name."""
    here = Path(__file__).parent
    return sorted(path.parent for path in here.glob("*/config.json"))
