"""Checks of what a LlamaIndex application does with its LLM, for any LLM class.

``CHECKS`` is the list of the checks. Each one checks the form of the results. With ``content`` it
also checks that they are correct, which needs a capable model; ``bundled`` states whether the
bundled models are capable enough. A check that fails raises an error, usually an AssertionError.
Nothing here needs a network or pytest.
"""

from benchmarks.frameworks.llamaindex_matrix import (
    agents,
    chat_engines,
    endpoints,
    evaluators,
    ingestion,
    retrieval,
    structured,
    watching,
)
from benchmarks.frameworks.llamaindex_matrix.checks import Check, perform
from benchmarks.frameworks.llamaindex_matrix.common import Orders, Person, order_tool

__all__ = ["CHECKS", "Check", "Orders", "Person", "order_tool", "perform"]

CHECKS: list[Check] = [
    *endpoints.CHECKS,
    *retrieval.CHECKS,
    *chat_engines.CHECKS,
    *agents.CHECKS,
    *structured.CHECKS,
    *evaluators.CHECKS,
    *ingestion.CHECKS,
    *watching.CHECKS,
]
