"""What a model wrote in its own form -> the same in the common form (DESIGN section 6).

transformers' response parser does the parsing; this module joins its events to text. It knows
nothing of ids or masks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from specfuse_core.grammar.calls import CALL_CLOSE, CALL_OPEN, write_call
from specfuse_core.grammar.thoughts import THOUGHT_CLOSE, THOUGHT_OPEN
from specfuse_core.prompts.dialects.table import Form

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "THOUGHTS",
    "MakeParser",
    "Reader",
    "parser_of",
]

#: How response templates call the region of a thought.
THOUGHTS = ("thinking", "reasoning_content", "reasoning")

#: The name of a tool, and its arguments.
Call = tuple[str, dict[str, Any]]
#: Makes transformers' parser for a response template, after a prefix, for some tools.
MakeParser = Callable[[Mapping[str, Any], str, Sequence[Mapping[str, Any]]], Any]


def parser_of(tokenizer: PreTrainedTokenizerBase) -> MakeParser:
    """What makes transformers' parser. It raises ValueError if a response template is not valid."""

    def made(template: Mapping[str, Any], prefix: str, tools: Sequence[Mapping[str, Any]]) -> Any:
        return tokenizer.get_response_parser(
            dict(template), prefix=prefix, tools=[dict(tool) for tool in tools]
        )

    return made


def _thinking_in(text: str) -> bool:
    """Whether ``text`` in the common form ends within a thought."""
    return text.lstrip().startswith(THOUGHT_OPEN) and THOUGHT_CLOSE not in text


class Reader:
    """Reads the drafts of one model.

    Args:
        form: the form that the model writes.
        parser: makes transformers' parser.
        tools: the tools on offer, in OpenAI's form. They give arguments their types.
        marks: texts of control tokens, which are dropped where the form does not expect them.
    """

    def __init__(
        self,
        form: Form,
        parser: MakeParser,
        tools: Sequence[Mapping[str, Any]] = (),
        marks: Sequence[str] = (),
    ) -> None:
        self._form = form
        self._parser = parser
        self._tools = tools
        self._stray = re.compile("|".join(map(re.escape, marks))) if marks else None
        self._schemas = {
            tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools
        }

    def read(self, before: str, native: str, *, ended: bool) -> str | None:
        """The common form of a draft; None if it does not parse.

        A call that has not ended yet is only its opening mark.

        Args:
            before: the response so far, in the common form.
            native: the draft, with the text of its control tokens.
            ended: whether the turn ends with the draft.
        """
        parser = self._parser(self._form.template, self._prefix(before), self._tools)
        try:
            events = parser.feed(native)
            if ended:
                events = [*events, *parser.finalize()[1]]
            return self._joined(events, before, native)
        # What a region holds need not be what the form says, nor a call of an offered tool.
        except (ValueError, KeyError, TypeError):
            return None

    def calls(self, native: str, *, closed: bool = False) -> tuple[str, list[Call]]:
        """The calls in a whole answer: the text that they take up, and what they are.

        Both are empty if there is no call, or if the answer does not parse.

        Args:
            native: the answer, in the model's form.
            closed: count only calls that have a closing mark.
        """
        parser = self._parser(self._form.template, "", self._tools)
        try:
            events = parser.feed(native)
            if not closed:
                events = [*events, *parser.finalize()[1]]
            calls = [
                call
                for event in events
                if event["field"] == "tool_calls" and event["type"] == "region_close"
                for call in _calls(event["value"])
            ]
        except (ValueError, KeyError, TypeError):
            return "", []
        said, called = ["", ""], False
        for event in events:
            called = called or event["field"] == "tool_calls"
            if event["field"] == "content" and event["type"] == "region_chunk":
                said[called] += event["text"]
        before, after = said
        return (native.removeprefix(before).removesuffix(after), calls) if calls else ("", [])

    def _prefix(self, before: str) -> str:
        """What tells the parser where the response stands."""
        if _thinking_in(before):
            return self._form.thinking[0] if self._form.thinking else THOUGHT_OPEN
        said = _said(before)
        return self._form.content + said.rpartition("\n")[2] if said.strip() else ""

    def _joined(self, events: Sequence[Mapping[str, Any]], before: str, native: str) -> str:
        text, calling, thinking = "", False, _thinking_in(before)
        for event in events:
            kind, region = event["type"], event["field"]
            if region == "tool_calls":
                if kind == "region_open":
                    self._check_opening(before, text, native)
                calling = kind != "region_close"
                if not calling:
                    calls = [self._written(*call) for call in _calls(event["value"])]
                    text = _line_before(_said(before), text) + "\n".join(calls)
            elif kind == "region_chunk":
                text += self._stray.sub("", event["text"]) if self._stray else event["text"]
            elif region in THOUGHTS:
                # The prefix may have opened the thought already.
                opening = "" if thinking else THOUGHT_OPEN
                text += opening if kind == "region_open" else THOUGHT_CLOSE
                thinking = False
        return _line_before(_said(before), text) + CALL_OPEN if calling else text

    def _check_opening(self, before: str, text: str, native: str) -> None:
        """Check that a call opens at the start of a line, unless control tokens open it.

        Raises:
            ValueError: if it opens within a line, so that the mark is quoted.
        """
        if self._form.inline or (self._stray is not None and self._stray.search(native)):
            return
        rest = native[len(text) :]
        line = (_said(before) + text + rest[: len(rest) - len(rest.lstrip())]).rpartition("\n")[2]
        if line.strip():
            raise ValueError(f"a mark within the line {line!r}")

    def _written(self, name: str, arguments: Mapping[str, Any]) -> str:
        if self._schemas and name not in self._schemas:
            raise ValueError(f"no tool is named {name!r}")
        return write_call(name, _ordered(arguments, self._schemas.get(name, {})))


def _said(before: str) -> str:
    """The text at the end of a response, after its thought and its calls."""
    return before.rpartition(CALL_CLOSE)[2].rpartition(THOUGHT_CLOSE)[2]


def _line_before(said: str, text: str) -> str:
    """``text`` after ``said``, up to the line that a call begins."""
    if text.strip():
        return text.rstrip("\n") + "\n"
    return "\n" if said.rpartition("\n")[2].strip() else ""


def _calls(value: Any) -> list[Call]:
    """Names and arguments of the calls in one region."""
    if isinstance(value, list):
        return [call for item in value for call in _calls(item)]
    function = value.get("function") if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError(f"not a call: {value!r}")
    arguments = function.get("arguments")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise ValueError(f"not arguments: {arguments!r}")
    return [(function["name"], dict(arguments))]


def _ordered(value: Any, schema: Any) -> Any:
    """``value`` with the keys of objects in the order of the schema, which grammars follow."""
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, list):
        return [_ordered(item, schema.get("items")) for item in value]
    if not isinstance(value, Mapping):
        return value
    known = schema.get("properties") or {}
    ordered = [*(key for key in known if key in value), *(key for key in value if key not in known)]
    return {key: _ordered(value[key], known.get(key)) for key in ordered}
