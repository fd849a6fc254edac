"""specfuse as a LangChain chat model.

This package will hold ``ChatSpecFuse``; until then it exports nothing.
"""

__all__: list[str] = []
