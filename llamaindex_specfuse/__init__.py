"""specfuse as a LlamaIndex LLM.

This package will hold ``SpecFuseLLM``; until then it exports nothing.
"""

__all__: list[str] = []
