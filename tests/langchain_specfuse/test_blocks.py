"""Content blocks in the forms of LangChain and of providers: text, calls, media, bookkeeping."""

from __future__ import annotations

import base64
import warnings
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_specfuse import ChatSpecFuse
from langchain_specfuse._messages import turns_of
from specfuse_core import FusionEngine, Message, ToolCall
from specfuse_core.errors import HiddenContentWarning, InvalidMessageError
from specfuse_core.testing import ScriptedBackend

NOTE = base64.b64encode(b"A note.").decode()
URI = f"data:text/plain;base64,{NOTE}"
SAID = [{"type": "text", "text": "A note."}]

#: Blocks that hold the text "A note.".
TEXTS: list[dict[str, Any]] = [
    {"type": "text", "text": "A note.", "annotations": [{"type": "url_citation", "url": "u"}]},
    {"type": "output_text", "text": "A note."},
    {"type": "refusal", "refusal": "A note."},
    {"type": "executable_code", "executable_code": "A note.", "language": "python"},
    {"type": "code_execution_result", "code_execution_result": "A note.", "outcome": 1},
    {"type": "compaction", "content": "A note."},
    {"type": "search_result", "source": "u", "title": "", "content": SAID},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A note."}},
    {"type": "document", "source": {"type": "content", "content": SAID}},
    {"type": "document", "source": {"type": "content", "content": "A note."}},
    {
        "type": "document",
        "source": {"type": "base64", "media_type": "text/markdown; charset=utf-8", "data": NOTE},
    },
    {"type": "file", "source_type": "text", "text": "A note.", "mime_type": "text/plain"},
    {"type": "file", "base64": NOTE, "mime_type": "text/csv"},
    {"type": "file", "file": {"filename": "a.txt", "file_data": URI}},
    {"type": "input_file", "filename": "a.txt", "file_data": URI},
    {"type": "text-plain", "text": "A note.", "mime_type": "text/plain"},
    {"type": "text-plain", "base64": NOTE, "mime_type": "text/plain"},
    {"document": {"format": "txt", "name": "a", "source": {"bytes": b"A note."}}},
    {"text": "A note."},
    {"type": "mcp_tool_result", "tool_use_id": "1", "content": SAID},
    {"type": "server_tool_result", "tool_call_id": "1", "status": "success", "output": "A note."},
    {"type": "non_standard", "value": {"type": "refusal", "refusal": "A note."}},
]
#: Blocks that hold no text.
BOOKKEEPING: list[dict[str, Any]] = [
    {"type": "reasoning", "reasoning": "hm", "summary": []},
    {"type": "thinking", "thinking": "hm", "signature": "s"},
    {"type": "redacted_thinking", "data": "s"},
    {"type": "non_standard", "value": {"id": "x"}},
    {"type": "server_tool_call", "name": "web_search", "args": {}, "id": "1"},
    {"type": "server_tool_use", "name": "web_search", "input": {}, "id": "1"},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "1",
        "content": [{"type": "web_search_result", "url": "u", "encrypted_content": "s"}],
    },
    {"type": "web_search_call", "id": "1", "status": "completed"},
    {"type": "server_tool_result", "tool_call_id": "1", "output": [{"type": "x", "data": 1}]},
    {"type": "code_execution_tool_result", "content": {"type": "x", "stdout": "1"}},
    {"type": "mcp_tool_use", "name": "x", "server_name": "y", "input": {}, "id": "1"},
    {"type": "mcp_list_tools", "tools": []},
    {"type": "mcp_approval_request", "id": "1"},
    {"type": "compaction", "encrypted_content": "s"},
    {"type": "tool_reference", "tool_name": "x"},
    {"type": "cachePoint", "cachePoint": {"type": "default"}},
    {"cachePoint": {"type": "default"}},
    {"type": "container_upload", "file_id": "1"},
    {"type": "tool_call_chunk", "name": "x", "args": "", "id": "1"},
    {"type": "annotations", "annotations": []},
]


def named(block: dict[str, Any]) -> str:
    return str(block.get("type") or next(iter(block)))


@pytest.mark.parametrize("role", [AIMessage, HumanMessage, SystemMessage, ToolMessage])
@pytest.mark.parametrize("block", TEXTS, ids=named)
def test_a_block_with_text_is_read(block: dict[str, Any], role: Any) -> None:
    extra = {"tool_call_id": "1"} if role is ToolMessage else {}
    (turn,) = turns_of([role([block, {"type": "text", "text": "End."}], **extra)])
    assert turn.content == "A note.\n\nEnd."


@pytest.mark.parametrize("role", [AIMessage, HumanMessage, SystemMessage, ToolMessage])
@pytest.mark.parametrize("block", BOOKKEEPING, ids=named)
def test_bookkeeping_is_left_out(block: dict[str, Any], role: Any) -> None:
    extra = {"tool_call_id": "1"} if role is ToolMessage else {}
    (turn,) = turns_of([role([block, {"type": "text", "text": "End."}], **extra)])
    assert (turn.content, turn.tool_calls) == ("End.", ())


def test_titles_are_part_of_the_text() -> None:
    found = {"type": "search_result", "source": "u", "title": "Lamps", "content": SAID}
    document = {"type": "document", "title": "Lamps", "source": {"type": "text", "data": "Seven."}}
    (turn,) = turns_of([ToolMessage([found, document], tool_call_id="1")])
    assert turn.content == "Lamps\nA note.\n\nLamps\nSeven."


CALLS = [
    {"type": "tool_use", "name": "add", "input": {"a": 1}, "id": "1"},
    {"type": "tool_call", "name": "add", "args": {"a": 1}, "id": "1"},
    {"type": "function_call", "name": "add", "arguments": '{"a": 1}', "call_id": "1", "id": "fc"},
]


@pytest.mark.parametrize("block", CALLS, ids=named)
def test_calls_in_blocks_are_read_once(block: dict[str, Any]) -> None:
    want = (ToolCall("add", {"a": 1}, "1"),)
    call = {"name": "add", "args": {"a": 1}, "id": "1", "type": "tool_call"}
    assert turns_of([AIMessage([block])])[0].tool_calls == want
    assert turns_of([AIMessage([block], tool_calls=[call])])[0].tool_calls == want
    nameless = {key: value for key, value in block.items() if key not in ("id", "call_id")}
    assert turns_of([AIMessage([nameless], tool_calls=[call])])[0].tool_calls == want


MEDIA: list[dict[str, Any]] = [
    {"type": "image_url", "image_url": {"url": URI}},
    {"type": "image", "base64": NOTE, "mime_type": "image/png"},
    {"type": "input_image", "image_url": URI},
    {"type": "audio", "url": "https://x.y/z"},
    {"type": "input_audio", "input_audio": {"data": NOTE, "format": "wav"}},
    {"type": "video", "url": "https://x.y/z"},
    {"type": "file", "base64": NOTE, "mime_type": "application/pdf"},
    {"type": "document", "source": {"type": "url", "url": "https://x.y/z"}},
    {"type": "text-plain", "url": "https://x.y/z", "mime_type": "text/plain"},
    {"type": "hologram"},
]


@pytest.mark.parametrize("block", MEDIA, ids=named)
def test_media_of_users_are_refused(block: dict[str, Any]) -> None:
    for message in (HumanMessage([block]), SystemMessage([block])):
        with pytest.raises(InvalidMessageError) as caught:
            turns_of([message])
        assert str(caught.value) == (
            f"a {type(message).__name__} has a content block of type {block['type']!r}, but only "
            "text is supported. Describe the content in words, or leave it out."
        )


@pytest.mark.parametrize("block", MEDIA, ids=named)
def test_media_of_tools_and_models_become_placeholders(block: dict[str, Any]) -> None:
    kind = block["type"].removeprefix("input_").removesuffix("_url")
    history = [
        HumanMessage("Look."),
        AIMessage([block]),
        ToolMessage([{"type": "text", "text": "Done."}, block], tool_call_id="1"),
        HumanMessage([{"type": "tool_result", "tool_use_id": "2", "content": [block]}]),
    ]
    with pytest.warns(HiddenContentWarning) as caught:
        turns = turns_of(history)
    shown = f"[{kind}: not shown to the models]"
    assert turns[1:] == (
        Message("assistant", shown),
        Message("tool", f"Done.\n\n{shown}", tool_call_id="1"),
        Message("tool", shown, tool_call_id="2"),
    )
    assert [str(each.message) for each in caught] == [
        f"messages of models or tools have content of type {block['type']!r}, which the models "
        "cannot see. They get a placeholder instead. Let tools return text."
    ]


@pytest.mark.parametrize("role", ["assistant", "ai", "tool"])
def test_media_in_a_chat_message_follow_its_role(role: str) -> None:
    image = [{"type": "image", "base64": NOTE, "mime_type": "image/png"}]
    with pytest.warns(HiddenContentWarning):
        (turn,) = turns_of([ChatMessage(image, role=role)])
    assert turn.content == "[image: not shown to the models]"
    with pytest.raises(InvalidMessageError):
        turns_of([ChatMessage(image, role="user")])


def test_an_answer_after_a_screenshot() -> None:
    image = {"type": "image", "base64": NOTE, "mime_type": "image/png"}
    model = ChatSpecFuse(engine=FusionEngine([ScriptedBackend("a", "I cannot see it.")]))
    with pytest.warns(HiddenContentWarning):
        answer = model.invoke([HumanMessage("Look."), ToolMessage([image], tool_call_id="1")])
    assert answer.text == "I cannot see it."


@pytest.mark.parametrize("text", [3, {"a": 1}, ["x"]])
def test_text_that_is_no_string_is_refused(text: Any) -> None:
    with pytest.raises(InvalidMessageError, match="Give a string"):
        turns_of([HumanMessage([{"type": "text", "text": text}])])


def test_text_alone_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        turns_of([AIMessage([*BOOKKEEPING, *TEXTS])])
