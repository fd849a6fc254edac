"""What a LlamaIndex application does with its LLM, as checks that any LLM can be put through.

``CHECKS`` is the list. Each checks the form of what comes back and, asked for ``content``, that it
is right, which takes a model that is good enough for it: ``bundled`` says whether the models that
come with specfuse are. Nothing here needs a network, pytest, or one LLM class rather than another.
A check that fails raises, most often AssertionError.
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
