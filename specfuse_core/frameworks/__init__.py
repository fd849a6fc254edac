"""Code that the LangChain and the LlamaIndex integrations share.

Fields, arguments of calls and shared engines belong here. Nothing here imports a framework.
"""

__all__: list[str] = []
