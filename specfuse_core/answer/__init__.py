"""What an answer is while it grows: its limits, its channels and what is shown of it.

Voting belongs in ``algorithm/``, and the rules of a constraint in ``grammar/``.
"""

__all__: list[str] = []
