"""The bundled models, each alone, in HuggingFaceLLM, LlamaIndex's own class for local models.

The class is in llama-index-llms-huggingface, which specfuse does not require.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from llama_index.core.llms import LLM

from specfuse_core.bundled import bundled_models

__all__ = ["MISSING", "MODELS", "has_huggingface", "huggingface"]

MODELS = {path.name: path for path in bundled_models()}
_MODULE = "llama_index.llms.huggingface"
MISSING = (
    "HuggingFaceLLM was left out because it is not installed. Run"
    " `pip install llama-index-llms-huggingface`."
)


def has_huggingface() -> bool:
    """Whether HuggingFaceLLM is installed."""
    try:
        import_module(_MODULE)
    except ImportError:
        return False
    return True


def huggingface(name: str, max_tokens: int) -> LLM:
    """Create a HuggingFaceLLM with a bundled model and greedy decoding. Weights are loaded once."""
    model, tokenizer = _weights(name)

    def as_chat(prompt: str) -> str:
        turns = [{"role": "user", "content": prompt}]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    llm: LLM = import_module(_MODULE).HuggingFaceLLM(
        model=model,
        tokenizer=tokenizer,
        model_name=str(MODELS[name]),
        tokenizer_name=str(MODELS[name]),
        context_window=model.config.max_position_embeddings,
        max_new_tokens=max_tokens,
        generate_kwargs={"do_sample": False},
        is_chat_model=True,
        # Otherwise a completion prompt would not use the chat template.
        completion_to_prompt=as_chat,
    )
    return llm


@cache
def _weights(name: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    path = str(MODELS[name])
    return AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
