"""LangChain's standard tests of a chat model, on three ensembles."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from competent import competent
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from tiny import CHATML, model, tokenizer

from langchain_specfuse import ChatSpecFuse
from specfuse_core import FusionEngine
from specfuse_core.testing import ScriptedBackend


@cache
def scripted() -> FusionEngine:
    return FusionEngine([ScriptedBackend(name, competent) for name in ("one", "two", "three")])


@cache
def tiny() -> FusionEngine:
    """Three families with random weights: whatever is right of their answers is the engine's."""
    families = [("llama", "bytelevel"), ("qwen3", "metaspace"), ("gpt_neox", "unigram")]
    made = []
    for seed, (architecture, family) in enumerate(families):
        tok = tokenizer(family, CHATML)
        made.append((model(architecture, len(tok), seed=seed, max_position_embeddings=4096), tok))
    return FusionEngine.from_models(made, names=[name for name, _ in families])


class Standard:
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatSpecFuse

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True


class Scripted(Standard):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"engine": scripted()}

    @property
    def model_override_value(self) -> str:
        return "two"


class Tiny(Standard):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        # Models with random weights end no answer themselves.
        return {"engine": tiny(), "max_tokens": 60, "on_limit": "close"}

    @property
    def model_override_value(self) -> str:
        return "qwen3"


class Bundled(Standard):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        # The bundled models do not end an answer about a world that they do not know.
        return {"max_tokens": 128, "on_limit": "close"}

    @property
    def model_override_value(self) -> str:
        return "reader"


class TestUnitBundled(Bundled, ChatModelUnitTests):
    # These tests set max_tokens themselves.
    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {}


class TestUnitScripted(Scripted, ChatModelUnitTests):
    pass


class TestUnitTiny(Tiny, ChatModelUnitTests):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"engine": tiny()}


class TestIntegrationBundled(Bundled, ChatModelIntegrationTests):
    pass


class TestIntegrationScripted(Scripted, ChatModelIntegrationTests):
    pass


_both = pytest.mark.parametrize("model", [{}, {"output_version": "v1"}], indirect=True)
_incompetent = pytest.mark.xfail(reason="random weights cannot know the right arguments")


class TestIntegrationTiny(Tiny, ChatModelIntegrationTests):
    @_both
    @_incompetent
    def test_tool_calling(self, model: BaseChatModel) -> None:
        super().test_tool_calling(model)

    @_incompetent
    async def test_tool_calling_async(self, model: BaseChatModel) -> None:
        await super().test_tool_calling_async(model)

    @_both
    @_incompetent
    def test_agent_loop(self, model: BaseChatModel) -> None:
        super().test_agent_loop(model)

    @_incompetent
    def test_unicode_tool_call_integration(
        self,
        model: BaseChatModel,
        *,
        tool_choice: str | None = None,
        force_tool_call: bool = True,
    ) -> None:
        super().test_unicode_tool_call_integration(
            model, tool_choice=tool_choice, force_tool_call=force_tool_call
        )
