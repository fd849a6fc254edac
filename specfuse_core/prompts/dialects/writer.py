"""Writes calls by a chat template, and finds the style in which the template takes them.

What the template writes is found by rendering a call of a tool that no user has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from specfuse_core.errors import TemplateError
from specfuse_core.prompts.codec import TextCodec
from specfuse_core.prompts.dialects.choosing import PROBE_ARGUMENTS, PROBE_TOOL, writes
from specfuse_core.prompts.dialects.reading import MakeParser, Reader
from specfuse_core.prompts.dialects.table import PROBE, Form
from specfuse_core.prompts.turns import STYLES, CallStyle
from specfuse_core.request import Message, ToolCall

if TYPE_CHECKING:
    from specfuse_core.prompts.rendering import Rendering

__all__ = ["Writer", "writer_of"]

#: Ids that some templates demand of a call have nine letters and digits.
_ID = "abcdefghi"
_QUESTION = Message("user", "a")


class Writer:
    """Writes calls by the chat template.

    Args:
        rendering: the chat template.
        parser: makes transformers' parser.
        codec: the tokenizer.
        tools: a tool, if the template describes tools.
        style: how the template gets turns with calls.
    """

    def __init__(
        self,
        rendering: Rendering,
        parser: MakeParser,
        codec: TextCodec,
        tools: Sequence[Mapping[str, Any]],
        style: CallStyle,
    ) -> None:
        self.style = style
        self.parser = parser
        self._rendering = rendering
        self._tools = tools
        self._codec = codec
        self.form: Form | None = None

    def turn(self, calls: Sequence[tuple[str, Mapping[str, Any]]], said: str = "") -> str | None:
        """What the template writes for a turn of these calls after its header; None if nothing.

        Args:
            calls: names and arguments of the calls.
            said: text of the turn, before the calls.
        """
        made = tuple(
            ToolCall(name, dict(arguments), _ID[:8] + str(place % 10))
            for place, (name, arguments) in enumerate(calls)
        )
        try:
            before = self._rendering.render([_QUESTION], self._tools)
            whole = self._rendering.render(
                [_QUESTION, Message("assistant", said, made)],
                self._tools,
                add_generation_prompt=False,
                style=self.style,
            )
        except TemplateError:
            return None
        shared = _shared(before, whole)
        if not all(name in whole[len(shared) :] for name, _ in calls):
            return None
        # Where the two part within a mark, it belongs to the turn.
        shared = re.sub(r"[<\[]\|?[^<>\[\]\s|]*$", "", shared)
        return whole[len(shared) :]

    def probed(self) -> tuple[str, ...]:
        """How the template writes a call of ``PROBE_TOOL``, with and without the end of the turn;
        empty if it does not.
        """
        turn = self.turn([(PROBE, PROBE_ARGUMENTS)])
        return () if turn is None else tuple(_variants(turn, self._codec))

    def write(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str | None:
        """Calls in the model's form; None if the chat template does not write them so."""
        text = self.turn(calls)
        pattern = self._codec.control_pattern
        written = json.dumps([[name, dict(arguments)] for name, arguments in calls])
        if text is None or self.form is None or (pattern and pattern.search(written)):
            return None
        text, _ = self.called(text, len(calls))
        return text or None

    def called(self, turn: str, count: int) -> tuple[str, int | None]:
        """The calls in a turn, and the id of the control token that ends the turn after them.

        Args:
            turn: what the template writes for a turn.
            count: the number of calls in it; if another number is found, the text is empty.
        """
        if self.form is None:
            return "", None
        reader = Reader(self.form, self.parser)
        texts = list(_variants(turn, self._codec))
        # What stands behind the closing mark does not belong to the calls.
        closed = [t for t in reversed(texts) if len(reader.calls(t, closed=True)[1]) == count]
        found = (reader.calls(text) for text in [*closed, *texts])
        native = next((native for native, calls in found if len(calls) == count), "")
        if not native:
            return "", None
        after = turn[turn.index(native) + len(native) :].lstrip()
        pattern = self._codec.control_pattern
        end = pattern.match(after) if pattern else None
        return native.rstrip(), self._codec.control_id(end.group()) if end else None


def writer_of(
    rendering: Rendering,
    parser: MakeParser,
    codec: TextCodec,
    forms: Sequence[Form],
    *,
    described: bool,
) -> Writer:
    """The writer whose style suits the template.

    That is one in which the template writes a call in one of ``forms``, mappings before text. If
    there is none, it is one with mappings in which the template writes a call at all. Contents
    that differ give different texts in some templates, such as an additional turn for an empty
    content; the shortest text is taken.

    Args:
        rendering: the chat template.
        parser: makes transformers' parser.
        codec: the tokenizer.
        forms: the forms that the model may write.
        described: whether the template describes tools.
    """
    tools = [PROBE_TOOL] if described else []
    writers = [Writer(rendering, parser, codec, tools, style) for style in STYLES]
    shown = [(writer, text) for writer in writers if (text := writer.probed())]
    read = [
        (writer, text)
        for writer, text in shown
        if any(writes(form, text, parser) for form in forms)
    ]
    arguments = read[0][0].style.arguments if read else "mapping"
    return min(
        (pair for pair in read or shown if pair[0].style.arguments == arguments),
        key=lambda pair: len("".join(pair[1][0].split())),
        default=(writers[0], ()),
    )[0]


def _variants(text: str, codec: TextCodec) -> Iterator[str]:
    """``text``, and ``text`` without one, two, ... of the control tokens at its end."""
    pattern = codec.control_pattern
    yield text
    while pattern is not None and (matches := list(pattern.finditer(text))):
        if text[matches[-1].end() :].strip():
            return
        text = text[: matches[-1].start()]
        yield text


def _shared(first: str, second: str) -> str:
    """The text with which both begin."""
    size = next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b),
        min(len(first), len(second)),
    )
    return first[:size]
