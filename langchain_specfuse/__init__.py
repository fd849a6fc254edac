"""The LangChain integration: ``ChatSpecFuse``, a chat model made of several base models."""

from specfuse_core.frameworks.extras import missing_extra

try:
    from langchain_specfuse.chat_models import ChatSpecFuse
except ModuleNotFoundError as error:
    raise missing_extra(error, "langchain_core", "langchain") from None

__all__ = ["ChatSpecFuse"]
