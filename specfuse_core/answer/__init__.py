"""The state of an answer while it is generated: its limits, its channels and its visible text.

Voting belongs in ``algorithm/``. The rules of a constraint belong in ``grammar/``.
"""

__all__: list[str] = []
