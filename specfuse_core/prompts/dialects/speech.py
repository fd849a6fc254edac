"""One model's way to write an answer: its form, what reads it, and what spells it.

Found once, when the model is loaded, by what its chat template writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from specfuse_core.errors import InvalidOptionError, TemplateError
from specfuse_core.grammar.calls import CALL_OPEN
from specfuse_core.grammar.thoughts import THINKING
from specfuse_core.grammar.tools import Tool
from specfuse_core.prompts.codec import TextCodec
from specfuse_core.prompts.dialects.choosing import (
    PROBE_ARGUMENTS,
    PROBE_TOOL,
    choose,
    known_forms,
    own_form,
)
from specfuse_core.prompts.dialects.reading import Reader, parser_of
from specfuse_core.prompts.dialects.spelling import Spelling
from specfuse_core.prompts.dialects.table import COMMON, PROBE, Form
from specfuse_core.prompts.dialects.writer import Writer, writer_of
from specfuse_core.prompts.turns import CallStyle
from specfuse_core.request import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from specfuse_core.prompts.rendering import Rendering

__all__ = ["Manner", "Speech", "answering", "manner_of"]

_QUESTION = Message("user", "a")
#: Text before a call, which no template writes.
_SAID = "I look it up, specfuse."


@dataclass(frozen=True, slots=True)
class Speech:
    """How one model writes one answer.

    Args:
        reader: reads its drafts.
        spelling: spells the response for it.
        drawable: control tokens that it may draft.
        opens_thought: control tokens that open a thought.
    """

    reader: Reader
    spelling: Spelling
    drawable: frozenset[int]
    opens_thought: frozenset[int] = frozenset()


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
    _writer: Writer = field(repr=False)

    @property
    def instructs(self) -> bool:
        """Whether the chat template says how to write a call, in a form that is understood."""
        return self.common or self._calls

    @property
    def _calls(self) -> bool:
        return self.form is not None and "tool_calls" in self.form.template["fields"]

    @property
    def style(self) -> CallStyle:
        """How the chat template gets turns with calls."""
        return self._writer.style

    @property
    def example(self) -> str | None:
        """A call as the chat template writes it; None if calls are in the common form."""
        return self.write([("name", {"argument": "value"})])

    def write(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str | None:
        """Calls in the model's form; None if the chat template does not write them so."""
        return self._writer.write(calls)

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

    def thinking(self, marks: Mapping[str, int]) -> Speech | None:
        """How a thought before a constrained answer is written.

        The rest of the answer is in the common form. None if thoughts need no translation.

        Args:
            marks: the control tokens of the form, see :meth:`marks`.
        """
        if self.form is None or self.form.thinking is None:
            return None
        opening, closing = self.form.thinking
        opens = {id_ for name, id_ in marks.items() if opening.lstrip().startswith(name)}
        if not opens:
            return None
        own = {id_ for name, id_ in marks.items() if name in opening + closing}
        return Speech(
            Reader(self.form, self._writer.parser, (), [*marks]),
            Spelling(self.form, lambda calls: None),
            frozenset(own),
            frozenset(opens),
        )

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
    told = _told(rendering)
    parser = parser_of(tokenizer)
    given = response_template or getattr(tokenizer, "response_template", None)
    own: Form | None = None
    if given is not None:
        try:
            own = own_form(given, parser)
        except (ValueError, TypeError) as error:
            raise InvalidOptionError(
                f"the response template of {rendering.name} is not valid ({error}); correct it or "
                "give another with ModelConfig(response_template=...)."
            ) from error
    forms = known_forms(parser) if own is None else [own]
    writer = writer_of(rendering, parser, codec, forms, described=told is not None)
    written = writer.probed()
    form = own or choose(told or "", written, forms, parser)
    common = form is COMMON
    if form is COMMON and codec.control_id(CALL_OPEN) is None:
        form = None
    form = _with_thoughts(form, codec, told or "")
    writer.form = form
    native, end = writer.called(written[0], 1) if written else ("", None)
    if form is not None and native:
        writer.form = form = _after_text(form, native, writer)
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


def _after_text(form: Form, native: str, writer: Writer) -> Form:
    """``form``, with what the template writes between text and calls if that is white space."""
    turn = writer.turn([(PROBE, PROBE_ARGUMENTS)], _SAID)
    _, said, rest = (turn or "").partition(_SAID)
    gap, called, _ = rest.partition(native)
    if not said or not called or gap.strip():
        return form
    return replace(form, between=form.between or gap, inline="\n" not in gap)


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
