"""The models see the schema of a structured answer, unless that is switched off."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel, Field

from langchain_specfuse import ChatSpecFuse
from llamaindex_specfuse import SpecFuseLLM
from specfuse_core import FusionEngine, JsonSchema, Message, Regex, Request
from specfuse_core.frameworks.showing import with_schema
from specfuse_core.testing import ScriptedBackend

ASK = Message("user", "Who?")


class Person(BaseModel):
    """A person of the crew."""

    name: str = Field(description="The family name only.")
    title: Literal["Dr.", "Ms."] | None = None


def test_what_says_nothing_is_left_out() -> None:
    (system, ask) = with_schema([ASK], JsonSchema(Person.model_json_schema()))
    assert ask is ASK and system.role == "system"
    shown = json.loads(system.content.partition("\n")[2])
    assert shown["description"] == "A person of the crew."
    assert shown["properties"]["name"] == {
        "description": "The family name only.",
        "type": "string",
    }
    # A property may be called like a keyword.
    assert "title" in shown["properties"] and "title" not in shown
    assert "default" not in shown["properties"]["title"]


def test_it_follows_the_text_of_a_system_message() -> None:
    turns = [Message("system", "Be brief."), ASK]
    (system, _) = with_schema(turns, JsonSchema({"type": "integer"}))
    told = 'Answer with JSON of this JSON schema:\n{"type": "integer"}'
    assert system.content == f"Be brief.\n\n{told}"
    assert with_schema(turns, Regex("a")) == with_schema(turns, None) == tuple(turns)
    assert with_schema(turns, JsonSchema(True)) == tuple(turns)


def asked(**fields: Any) -> tuple[FusionEngine, list[Request]]:
    seen: list[Request] = []

    def script(request: Request, response: str) -> str:
        seen.append(request)
        return '{"name": "Berg", "title": null}'[len(response) :]

    return FusionEngine([ScriptedBackend("a", script)]), seen


@pytest.mark.parametrize("shown", [True, False])
def test_langchain_shows_it(shown: bool) -> None:
    engine, seen = asked()
    chat = ChatSpecFuse(engine=engine, schema_in_prompt=shown)
    assert chat.with_structured_output(Person).invoke("Who?").name == "Berg"  # type: ignore[union-attr]
    told = "".join(message.content for message in seen[-1].messages)
    assert ("The family name only." in told) is shown
    chat.invoke("Who?", schema_in_prompt=False)
    assert [message.role for message in seen[-1].messages] == ["user"]


@pytest.mark.parametrize("shown", [True, False])
def test_llamaindex_shows_it(shown: bool) -> None:
    engine, seen = asked()
    llm = SpecFuseLLM(engine=engine, schema_in_prompt=shown)
    assert llm.structured_predict(Person, PromptTemplate("Who?")).name == "Berg"
    told = "".join(message.content for message in seen[-1].messages)
    assert ("The family name only." in told) is shown
    llm.chat([ChatMessage("Who?")])
    assert [message.role for message in seen[-1].messages] == ["user"]
