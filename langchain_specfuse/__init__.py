"""specfuse as a LangChain chat model."""

from langchain_specfuse.chat_models import ChatSpecFuse

__all__ = ["ChatSpecFuse"]
