"""The fusion algorithm: draft, verify, score, vote, commit and exit (arXiv 2412.07380).

These modules see texts and log-probabilities only. Base models are behind ``backend``.
"""

__all__: list[str] = []
