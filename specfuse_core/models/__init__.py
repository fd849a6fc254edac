"""Turns names, directories and loaded models into backends, and backends into an engine.

The code that runs a model belongs in the folder of its backend (``hf/``), not here.
"""

__all__: list[str] = []
