"""One model's way to write an answer: its form, what reads it, and what spells it.

Found once, when the model is loaded, by what its chat template writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from specfuse_core.answer.channels import THINKING
from specfuse_core.errors import InvalidOptionError, TemplateError
from specfuse_core.grammar.calls import CALL_OPEN
from specfuse_core.grammar.tools import Tool
from specfuse_core.prompts.codec import TextCodec
from specfuse_core.prompts.dialects.choosing import PROBE_ARGUMENTS, PROBE_TOOL, choose, own_form
from specfuse_core.prompts.dialects.reading import Reader
from specfuse_core.prompts.dialects.spelling import Spelling
from specfuse_core.prompts.dialects.table import COMMON, PROBE, Form
from specfuse_core.request import Message, ToolCall

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from specfuse_core.prompts.rendering import Rendering

__all__ = ["Manner", "Speech", "answering", "manner_of"]

#: Ids that some templates demand of a call have nine letters and digits.
_ID = "abcdefghi"
_QUESTION = Message("user", "a")


@dataclass(frozen=True, slots=True)
class Speech:
    """How one model writes one answer.

    Args:
        reader: reads its drafts.
        spelling: spells the response for it.
        drawable: control tokens that it may draft.
    """

    reader: Reader
    spelling: Spelling
    drawable: frozenset[int]


@dataclass(frozen=True, slots=True)
class Manner:
    """What is known of a model's way to write, whatever the request.

    Args:
        form: the form of its calls and thoughts; None if there is nothing to translate.
        common: whether its calls are in the common form.
        describes_tools: whether its chat template describes tools.
        native: a call as the chat template writes it; empty if it writes none.
        ends: ids of the control tokens that end a turn with a call.
    """

    form: Form | None
    common: bool
    describes_tools: bool
    native: str
    ends: tuple[int, ...]
    _writer: _Writer = field(repr=False)

    @property
    def instructs(self) -> bool:
        """Whether the chat template says how to write a call, in a form that is understood."""
        return self.common or self._calls

    @property
    def _calls(self) -> bool:
        return self.form is not None and "tool_calls" in self.form.template["fields"]

    def marks(self, codec: TextCodec, ends: frozenset[int]) -> dict[str, int]:
        """The control tokens that an answer in the form consists of, ``ends`` apart."""
        if self.form is None:
            return {}
        texts = [self.native, *_texts(self.form)]
        return {
            name: id_
            for name, id_ in codec.control_names.items()
            if id_ not in ends and any(name in text or re.escape(name) in text for text in texts)
        }

    def speech(self, tools: Sequence[Tool], marks: Mapping[str, int]) -> Speech | None:
        """How an answer is written; None if it needs no translation.

        Args:
            tools: the tools that the answer may call.
            marks: the control tokens of the form, see :meth:`marks`.
        """
        if self.form is None or not (marks or (tools and self._calls)):
            return None
        described = [tool.as_dict() for tool in tools]
        return Speech(
            Reader(self.form, self._writer.parser, described, [*marks]),
            Spelling(self.form, self._writer.write),
            frozenset(marks.values()),
        )


class _Writer:
    """Writes calls by the chat template, and makes transformers' parser.

    Args:
        rendering: the chat template.
        tokenizer: makes the parser.
        codec: the tokenizer.
    """

    def __init__(
        self, rendering: Rendering, tokenizer: PreTrainedTokenizerBase, codec: TextCodec
    ) -> None:
        self._rendering = rendering
        self._tokenizer = tokenizer
        self._codec = codec
        self.form: Form | None = None

    def parser(
        self, template: Mapping[str, Any], prefix: str, tools: Sequence[Mapping[str, Any]]
    ) -> Any:
        """transformers' parser for a response template.

        Raises:
            ValueError: if the template is not valid.
        """
        return self._tokenizer.get_response_parser(
            dict(template), prefix=prefix, tools=[dict(tool) for tool in tools]
        )

    def turn(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str | None:
        """What the template writes for a turn of these calls after its header; None if nothing."""
        made = tuple(
            ToolCall(name, dict(arguments), _ID[:8] + str(place % 10))
            for place, (name, arguments) in enumerate(calls)
        )
        try:
            before = self._rendering.render([_QUESTION], [PROBE_TOOL])
            whole = self._rendering.render(
                [_QUESTION, Message("assistant", "", made)],
                [PROBE_TOOL],
                add_generation_prompt=False,
            )
        except TemplateError:
            return None
        shared = _shared(before, whole)
        if not all(name in whole[len(shared) :] for name, _ in calls):
            return None
        # Where the two part within a mark, it belongs to the turn.
        shared = re.sub(r"[<\[]\|?[^<>\[\]\s|]*$", "", shared)
        return whole[len(shared) :]

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


def manner_of(
    rendering: Rendering,
    tokenizer: PreTrainedTokenizerBase,
    codec: TextCodec,
    response_template: Mapping[str, Any] | None,
) -> Manner:
    """How a model writes, found by what its chat template writes for a tool and a call.

    Raises:
        InvalidOptionError: if ``response_template`` is not a response template of transformers.
    """
    writer = _Writer(rendering, tokenizer, codec)
    told = _told(rendering)
    written = writer.turn([(PROBE, PROBE_ARGUMENTS)])
    given = response_template or getattr(tokenizer, "response_template", None)
    form: Form | None
    if given is not None:
        try:
            form = own_form(given, writer.parser)
        except (ValueError, TypeError) as error:
            raise InvalidOptionError(
                f"the response template of {rendering.name} is not valid ({error}); correct it or "
                "give another with ModelConfig(response_template=...)."
            ) from error
    else:
        texts = [] if written is None else list(_variants(written, codec))
        form = choose(told or "", texts, writer.parser)
    common = form is COMMON
    if form is COMMON and codec.control_id(CALL_OPEN) is None:
        form = None
    form = _with_thoughts(form, codec, told or "")
    writer.form = form
    native, end = writer.called(written, 1) if written is not None else ("", None)
    manner = Manner(form, common, told is not None, native, (), writer)
    if end is None or end in manner.marks(codec, frozenset()).values():
        return manner
    return replace(manner, ends=(end,))


def answering(form: Form, mark: str, closing: str) -> Form:
    """``form``, with the marks that a chat template puts around the text of an answer."""
    content = form.template["fields"].get("content", {})
    marked = "open" in content or "open_pattern" in content
    if marked != bool(mark):
        content = {**content, "open": mark} if mark else {}
        fields = {**form.template["fields"], "content": content}
        form = replace(form, template={**form.template, "fields": fields})
    if not mark:
        return replace(form, content="")
    return replace(form, content=mark, between=form.between or closing)


def _told(rendering: Rendering) -> str | None:
    """What the template adds to a prompt when there is a tool; None if it does not describe it."""
    try:
        with_tool = rendering.render([_QUESTION], [PROBE_TOOL])
    except TemplateError:
        return None
    return with_tool if PROBE in with_tool else None


def _variants(text: str, codec: TextCodec) -> Iterator[str]:
    """``text``, and ``text`` without one, two, ... of the control tokens at its end."""
    pattern = codec.control_pattern
    yield text
    while pattern is not None and (matches := list(pattern.finditer(text))):
        if text[matches[-1].end() :].strip():
            return
        text = text[: matches[-1].start()]
        yield text


def _with_thoughts(form: Form | None, codec: TextCodec, told: str) -> Form | None:
    """``form``, with the marks of thoughts that are control tokens of the tokenizer."""
    if form is not None and form.thinking is not None:
        return form
    for opening, closing in THINKING:
        if codec.control_id(opening) is None or codec.control_id(closing) is None:
            continue
        fields = dict(form.template["fields"]) if form is not None else {"content": {}}
        fields["thinking"] = {"open": opening, "close": closing}
        template = {"start_anchor_pattern": r"\A", "fields": fields}
        if form is not None:
            return replace(form, template=template, thinking=(opening, closing))
        return Form("thoughts", template, thinking=(opening, closing))
    return form


def _texts(value: Any) -> Iterator[str]:
    """Every text in a form or a part of it."""
    match value:
        case Form():
            yield from _texts([value.template, value.thinking or (), value.content, value.between])
        case str():
            yield value
        case Mapping():
            yield from _texts([*value.values()])
        case list() | tuple():
            for item in value:
                yield from _texts(item)


def _shared(first: str, second: str) -> str:
    """The text with which both begin."""
    size = next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b),
        min(len(first), len(second)),
    )
    return first[:size]
