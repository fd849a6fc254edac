"""What the LangChain and the LlamaIndex integrations share.

Fields, call arguments and engines shared by a process belong here; no framework is imported here.
"""

__all__: list[str] = []
