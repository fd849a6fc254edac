"""Runs test suites and typical applications of LangChain and LlamaIndex, on specfuse and others."""
