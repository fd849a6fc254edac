"""``llamaindex_specfuse`` under the path where LlamaIndex's own integrations stand.

``llama_index`` and ``llama_index.llms`` are namespace packages: they have no ``__init__.py``, here
or in ``llama-index-core``.
"""

from llamaindex_specfuse import SpecFuseLLM

__all__ = ["SpecFuseLLM"]
