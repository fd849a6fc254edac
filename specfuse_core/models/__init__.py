"""From names, directories and loaded objects to backends.

How a model runs belongs in the folder of its backend (``hf/``), not here.
"""

__all__: list[str] = []
