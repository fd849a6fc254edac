"""Measures exact match on generated questions. Nothing here knows LangChain or LlamaIndex."""
