"""One round: draft, verify, score, vote, commit, exit (arXiv 2412.07380).

These modules only see texts and log-probabilities; models are behind ``backend``.
"""

__all__: list[str] = []
