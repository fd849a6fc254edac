"""The small trained models that the package includes.

Each is a directory next to this file, in the format of ``save_pretrained``. The code that trains
them is in ``training/``.
"""

from pathlib import Path

__all__ = ["bundled_models"]


def bundled_models() -> list[Path]:
    """Return the directories of the bundled models, sorted by name."""
    here = Path(__file__).parent
    return sorted(path.parent for path in here.glob("*/config.json"))
