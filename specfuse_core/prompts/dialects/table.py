# ruff: noqa: RUF001 -- some families write their marks with full-width characters.
"""The usual native forms of tool calls, as response templates of transformers.

Data only. A response template says where the regions of an answer open and close, and how their
content is read; transformers' own parser executes it (``get_response_parser``). A form is named
after the marks that it uses, since several families share one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["COMMON", "FORMS", "PROBE", "Form"]


@dataclass(frozen=True, slots=True)
class Form:
    """How a family of models writes the parts of an answer.

    Args:
        name: the form's name, as reports show it.
        template: the response template.
        hint: a pattern that matches in prompts which ask for the form. It decides where a chat
            template describes the form but renders no calls.
        thinking: marks before and after a thought; None if the form has none of its own.
        content: mark between the turn's header and the text of an answer.
        between: mark between the text of an answer and the calls that follow it.
        inline: whether calls follow text on the same line. Otherwise a mark within a line is text,
            unless it is a control token.
    """

    name: str
    template: Mapping[str, Any]
    hint: str = ""
    thinking: tuple[str, str] | None = None
    content: str = ""
    between: str = ""
    inline: bool = False


def _call(name: str, arguments: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


#: The content is a list, and each item has the keys ``name`` and ``arguments``.
_LIST = {"content": "json", "transform": _call("{name}", "{arguments}"), "transform_each": True}
#: The content is one object with these keys.
_OBJECT = {"content": "json", "transform": _call("{content.name}", "{content.arguments}")}
#: The opening mark names the tool, and the content is the arguments.
_NAMED = {"content": "json", "transform": _call("{name}", "{content}")}

#: Name of the tool with which chat templates are tried.
PROBE = "specfuse_probe"

_NAME = r"(?P<name>[\w.\-]+)"
#: A call without a mark of its own begins a line.
_LINE = r"(?<![^\n])"
_ARGUMENT = r"<parameter=(?P<key>[^>\n]+)>\n?(?P<value>.*?)\n?</parameter>"
_KEY_VALUE = (
    r"<arg_key(?::\w+)?>\s*(?P<key>.*?)\s*</arg_key(?::\w+)?>\s*"
    r"<arg_value(?::\w+)?>(?P<value>.*?)</arg_value(?::\w+)?>"
)
_TAGGED = (
    r"<(?P<tag>[^<>\s]*param(?:eter)?) name=\"(?P<key>[^\"]+)\"[^>]*>(?P<value>.*?)</(?P=tag)>"
)
_M3 = r"\]<\]minimax\[>\["


def _object_hint(arguments: str) -> str:
    """An object with a name and arguments that describes a call, not a tool."""
    return rf'\{{\s*"name":(?!\s*"{PROBE}")[^{{}}]{{1,80}}"{arguments}":'


def _tags(pattern: str) -> dict[str, Any]:
    """The opening mark names the tool, and the content has a tag for each argument."""
    return {
        "content": "xml-inline",
        "content_args": {"tag_pattern": pattern},
        "transform": _call("{name}", "{content}"),
    }


def _form(
    name: str,
    calls: Mapping[str, Any],
    hint: str = "",
    *,
    thinking: tuple[str, str] | None = None,
    content: Mapping[str, Any] | None = None,
    before: str = "",
    between: str = "",
) -> Form:
    fields: dict[str, Any] = {"tool_calls": {"repeats": True, **calls}}
    if thinking is not None:
        fields["thinking"] = {"open": thinking[0], "close": thinking[1]}
    fields["content"] = dict(content or {})
    template = {"start_anchor_pattern": r"\A", "fields": fields}
    return Form(name, template, hint, thinking, before, between)


#: The form that all models share (DESIGN section 6), for tokenizers where its marks are control
#: tokens. Elsewhere it is plain text and needs no translation.
COMMON = _form(
    "tool_call",
    {"open_pattern": r"<tool_call>\s*(?=\{)", "close": "</tool_call>", **_OBJECT},
    r"<tool_call>\s*\{|<tool_call>\s*</tool_call>",
)

#: Tried in order; the first that reads what the chat template writes is taken.
FORMS: tuple[Form, ...] = (
    COMMON,
    _form(
        "harmony",
        {
            "open_pattern": (
                r"(?: to=(?:functions\.)?(?P<name>[\w.\-]+))?"
                r"<\|channel\|>(?:commentary|analysis)"
                r"(?: to=(?:functions\.)?(?P<name>[\w.\-]+))?"
                r"[^<]*(?:<\|constrain\|>\w*\s*)?<\|message\|>(?=\s*\{)"
            ),
            **_NAMED,
        },
        r"<\|channel\|>",
        thinking=("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"),
        content={
            "open": ["<|channel|>final<|message|>", "<|channel|>commentary<|message|>"],
            "close": "<|end|><|start|>assistant",
        },
        before="<|channel|>final<|message|>",
        between="<|end|><|start|>assistant",
    ),
    _form(
        "open-close",
        {
            "open_pattern": (
                r"(?:<\|open\|>tools<\|sep\|>)?<\|open\|>call tool=\"(?P<name>[^\"]+)\""
                r"[^<]*<\|sep\|>"
            ),
            "close_pattern": r"<\|close\|>call<\|sep\|>(?:<\|close\|>tools<\|sep\|>)?",
            **_tags(
                r"<\|open\|>argument key=\"(?P<key>[^\"]+)\"[^<]*<\|sep\|>"
                r"(?P<value>.*?)<\|close\|>argument<\|sep\|>"
            ),
        },
        r"<\|open\|>(?:tools|call)",
        thinking=("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
        content={"open": "<|open|>response<|sep|>", "close": "<|close|>response<|sep|>"},
        before="<|open|>response<|sep|>",
        between="<|close|>response<|sep|>",
    ),
    _form(
        "begin-content",
        {
            "open_pattern": (
                r"(?:<\|tool_calls\|>)?<\|tool_call:begin\|>[^<]*<\|tool_call:name\|>"
                r"(?P<name>[^<]+)<\|tool_call:args\|>"
            ),
            "close": "<|tool_call:end|>",
            **_NAMED,
        },
        r"<\|tool_call:begin\|>",
        thinking=("<|think|>", "<|end|><|begin|>assistant"),
        content={"open": "<|content|>", "close": "<|end|><|begin|>assistant"},
        before="<|content|>",
        between="<|end|><|begin|>assistant",
    ),
    _form(
        "action-list",
        {
            "open": "<|START_ACTION|>",
            "close": "<|END_ACTION|>",
            "content": "json",
            "transform": _call("{tool_name}", "{parameters}"),
            "transform_each": True,
        },
        r"<\|START_ACTION\|>",
        thinking=("<|START_THINKING|>", "<|END_THINKING|>"),
        content={
            "open_pattern": r"<\|START_(?:RESPONSE|TEXT)\|>",
            "close_pattern": r"<\|END_(?:RESPONSE|TEXT)\|>",
        },
    ),
    _form(
        "action-fence",
        {
            "open_pattern": r"Action:\s*```json\s*(?=\[)",
            "close": "```",
            "content": "json",
            "transform": _call("{tool_name}", "{parameters}"),
            "transform_each": True,
        },
        r"Action:\s*```json",
    ),
    _form(
        "channel-call",
        {
            "open_pattern": r"<\|tool_call>call:" + _NAME + r"(?=\{)",
            "close": "<tool_call|>",
            **_NAMED,
            "content_args": {"unquoted_keys": True, "string_delims": [['<|"|>', '<|"|>']]},
        },
        r"<\|tool_call>",
        thinking=("<|channel>thought\n", "<channel|>"),
    ),
    _form(
        "tool-calls-named",
        {
            "open_pattern": (
                r"\[TOOL_CALLS\]\s*" + _NAME + r"(?:\[CALL_ID\][\w\-]*)?(?:\[ARGS\]|(?=\{))"
            ),
            "close_pattern": r"(?=\[TOOL_CALLS\])",
            **_NAMED,
        },
        thinking=("[THINK]", "[/THINK]"),
    ),
    _form(
        "tool-calls-list",
        {"open_pattern": r"\[TOOL_CALLS\]\s*(?=\[)", **_LIST},
        r"\[AVAILABLE_TOOLS\]|\[TOOL_CALLS\]",
        thinking=("[THINK]", "[/THINK]"),
    ),
    _form(
        "tool-call-list",
        {
            "open_pattern": r"(?:<\|tool_call\|>|<\|tool_calls\|>)\s*(?=\[)",
            "close_pattern": r"<\|/tool_call\|>|<\|/tool_calls\|>",
            **_LIST,
        },
        r"<\|tool_calls?\|>",
    ),
    _form(
        "tool-calls-tag-list",
        {
            "open_pattern": r"\s*<(?:tool_calls|TOOLCALL)>\s*(?=\[)",
            "close_pattern": r"</(?:tool_calls|TOOLCALL)>",
            **_LIST,
        },
        r"<TOOLCALL>|<tool_calls>\s*\[",
    ),
    _form(
        "tool-calls-tag",
        {"open_pattern": r"<tool_calls>\s*(?=\{)", "close": "</tool_calls>", **_OBJECT},
        r"<tool_calls>\s*\{",
    ),
    _form(
        "python-list",
        {
            "open_pattern": r"<\|tool_call_start\|>\s*",
            "close": "<|tool_call_end|>",
            "content": "python-call-list",
            "transform": _call("{name}", "{arguments}"),
            "transform_each": True,
        },
        r"<\|tool_(?:call|list)_start\|>",
    ),
    _form(
        "calls-begin-fence",
        {
            "open_pattern": (
                r"(?:<｜tool▁calls▁begin｜>)?\s*<｜tool▁call▁begin｜>\w*<｜tool▁sep｜>"
                + _NAME
                + r"\s*```json\s*"
            ),
            "close_pattern": r"\s*```<｜tool▁call▁end｜>(?:\s*<｜tool▁calls▁end｜>)?",
            **_NAMED,
        },
    ),
    _form(
        "calls-begin",
        {
            "open_pattern": (
                r"(?:<｜tool▁calls▁begin｜>)?\s*<｜tool▁call▁begin｜>" + _NAME + r"<｜tool▁sep｜>"
            ),
            "close_pattern": r"<｜tool▁call▁end｜>(?:\s*<｜tool▁calls▁end｜>)?",
            **_NAMED,
        },
        r"<｜tool▁calls?▁begin｜>",
    ),
    _form(
        "calls-section",
        {
            "open_pattern": (
                r"(?:<\|tool_calls_section_begin\|>)?\s*<\|tool_call_begin\|>\s*(?:functions\.)?"
                + _NAME
                + r"(?::\d+)?\s*<\|tool_call_argument_begin\|>"
            ),
            "close_pattern": r"<\|tool_call_end\|>(?:\s*<\|tool_calls_section_end\|>)?",
            **_NAMED,
        },
        r"<\|tool_calls_section_begin\|>",
    ),
    _form(
        "function-parameter",
        {
            "open_pattern": r"(?:<(?:\w+:)?tool_call>\s*)?<function=(?P<name>[^>\s]+)>(?!\s*\{)\s*",
            "close_pattern": r"</function>(?:\s*</(?:\w+:)?tool_call>)?",
            **_tags(_ARGUMENT),
        },
        r"<parameter=",
    ),
    _form(
        "function-json",
        {
            "open_pattern": r"<function=(?P<name>[^>\s]+)>\s*(?=\{)",
            "close": "</function>",
            **_NAMED,
        },
        r"<function=",
    ),
    _form(
        "invoke-tags",
        {
            "open_pattern": (
                _M3 + r"<tool_call>\s*" + _M3 + r"<invoke name=\"(?P<name>[^\"]+)\">\s*"
            ),
            "close_pattern": _M3 + r"</invoke>\s*" + _M3 + r"</tool_call>",
            **_tags(_M3 + r"<(?P<key>[\w.\-]+)>(?P<value>.*?)" + _M3 + r"</(?P=key)>"),
        },
        _M3 + "<invoke",
    ),
    _form(
        "invoke-parameter",
        {
            "open_pattern": (
                r"\s*(?: to=[\w.\-]+<\|message\|>)?"
                r"(?:<[^<>\s]*(?:tool_calls?|function_calls)>\s*)?"
                r"<[^<>\s]*(?:invoke|function) name=\"(?P<name>[^\"]+)\">\s*"
            ),
            "close_pattern": (
                r"</[^<>\s]*(?:invoke|function)>(?:\s*</[^<>\s]*(?:tool_calls?|function_calls)>)?"
            ),
            **_tags(_TAGGED),
        },
        r"(?:invoke|<function) name=",
    ),
    _form(
        "name-arg-key",
        {
            "open_pattern": (
                r"(?:<tool_calls(?::\w+)?>\s*)?<tool_call(?::\w+)?>\s*"
                + _NAME
                + r"(?:<tool_sep(?::\w+)?>)?\s*(?=<(?:arg_key|/tool_call))"
            ),
            "close_pattern": r"</tool_call(?::\w+)?>(?:\s*</tool_calls(?::\w+)?>)?",
            **_tags(_KEY_VALUE),
        },
        r"<arg_key",
    ),
    _form(
        "function-role",
        {
            "open_pattern": (
                r"(?:<\|message_sep\|>\s*function call<\|role_sep\|>\s*|<\|function_call\|>)(?=\{)"
            ),
            "close": "<|message_sep|>",
            **_OBJECT,
        },
        r"<\|function_call\|>",
    ),
    _form(
        "functools",
        {"open_pattern": r"\s*functools(?=\[)", **_LIST},
        r"functools\[",
    ),
    _form(
        "json-parameters",
        {
            "open_pattern": (
                _LINE + r"(?:<\|python_tag\|>\s*)?(?=\{\s*\"(?:type|name|parameters)\"\s*:)"
            ),
            "content": "json",
            "transform": _call("{content.name}", "{content.parameters}"),
        },
        _object_hint("parameters"),
        between="\n",
    ),
    _form(
        "json-arguments",
        {
            "open_pattern": (
                _LINE + r"(?:<\|python_tag\|>\s*)?(?=\{\s*\"(?:type|name|arguments)\"\s*:)"
            ),
            **_OBJECT,
        },
        _object_hint("arguments"),
        between="\n",
    ),
)
