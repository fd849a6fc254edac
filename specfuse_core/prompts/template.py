"""Conversation -> prompt ids, by one base model's own chat template.

What the template does to a turn, and the form in which the model writes, are found when the model
is loaded. What users wrote is never taken for a control token. Nothing here runs a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from specfuse_core.errors import NoEndTokenError
from specfuse_core.grammar.thoughts import THINKING
from specfuse_core.grammar.tools import Tool, describe, instruct
from specfuse_core.prompts.codec import TextCodec
from specfuse_core.prompts.dialects.speech import Manner, Speech, answering, manner_of
from specfuse_core.prompts.escape import Escape
from specfuse_core.prompts.fitting import Fit, Fitting
from specfuse_core.prompts.header import Header, header_of
from specfuse_core.prompts.rendering import PLAIN_TEMPLATE, Rendering
from specfuse_core.prompts.thinking import thinking_switch
from specfuse_core.request import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PLAIN_TEMPLATE", "ChatTemplate", "Prompt"]


#: Number of sets of variables for which a template is kept.
_KEPT = 16


class Prompt(NamedTuple):
    """A rendered conversation.

    Args:
        ids: what the model reads before the answer. ``[P]``
        lead: white space that the template puts between prompt and answer.
        continuing: whether the answer follows ordinary text rather than a control token.
        opening: text of a final assistant turn, which the answer continues.
    """

    ids: tuple[int, ...]
    lead: str
    continuing: bool
    opening: str


class ChatTemplate:
    """Renders conversations for one base model.

    Args:
        tokenizer: gives the template and renders it.
        template: a Jinja template that replaces the tokenizer's own, or the name of one of its
            several.
        variables: extra variables of the template.
        ends: end-of-turn ids known from the generation config.
        response_template: how the model writes calls and thoughts (a response template of
            transformers); by default the tokenizer's own, else it is found.
        owned: whether nothing else uses the tokenizer, so that its vocabulary can be shared.
        codec: the tokenizer, if another template has it already.

    Raises:
        NoEndTokenError: if nothing says when the model ends its turn.
        TemplateError: if the tokenizer has several templates and none is chosen, or if answers
            need control tokens that cannot be understood.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str | None,
        variables: Mapping[str, Any],
        ends: Sequence[int],
        response_template: Mapping[str, Any] | None = None,
        *,
        owned: bool = False,
        codec: TextCodec | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._rendering = Rendering(tokenizer, template, variables)
        codec = codec or TextCodec(tokenizer, owned=owned)
        self._made = partial(
            ChatTemplate,
            tokenizer,
            template,
            ends=ends,
            response_template=response_template,
            codec=codec,
        )
        self._variables = dict(variables)
        self._varied: dict[str, ChatTemplate] = {}
        self.manner: Manner = manner_of(self._rendering, tokenizer, codec, response_template)
        self._fitting = Fitting(
            partial(self._rendering.render, style=self.manner.style), self.manner.write
        )
        self.header: Header = header_of(self._rendering, codec, self.manner.form)
        if self.manner.form is not None:
            form = answering(
                self.manner.form, self.header.answer, codec.name_of(self.header.closing)
            )
            self.manner = replace(self.manner, form=form)
        self.lead = self.header.lead
        found = {*ends, tokenizer.eos_token_id, self.header.closing, *self.manner.ends} - {None}
        if not found:
            raise NoEndTokenError(
                f"no end-of-turn token of {self._rendering.name} is known, because its generation "
                "config, tokenizer and chat template name none; set tokenizer.eos_token or "
                "generation_config.eos_token_id."
            )
        self.ends = frozenset(int(id_) for id_ in found if id_ is not None)
        # End-of-turn tokens are control tokens too, whether or not they are marked special.
        self.codec = codec.with_ends(self.ends) if self.ends - codec.control else codec
        self._marks = self.manner.marks(self.codec, self.ends)
        self._begins = (
            self._rendering.plain
            and tokenizer.bos_token_id is not None
            and self.codec.opening == tokenizer.bos_token_id
        )

    def varied(self, variables: Mapping[str, Any]) -> ChatTemplate:
        """Return the same template with other values of some variables.

        Args:
            variables: variables of the template for one request.
        """
        if not variables:
            return self
        key = repr(sorted(variables.items()))
        if key not in self._varied:
            if len(self._varied) >= _KEPT:
                self._varied.clear()
            self._varied[key] = self._made(variables={**self._variables, **variables})
        return self._varied[key]

    def switches(self, reasoning: bool | int | None) -> dict[str, Any]:
        """Return the variables that switch thinking on or off, as far as the template has them.

        Args:
            reasoning: see ``Request.reasoning``.
        """
        if reasoning is None:
            return {}
        named = (name for name in ("enable_thinking", "thinking") if self._rendering.reads(name))
        variables: dict[str, Any] = dict.fromkeys(named, bool(reasoning))
        if self._rendering.reads("thinking_budget") and not isinstance(reasoning, bool):
            variables["thinking_budget"] = reasoning
        if self._rendering.reads("reasoning_effort") and not reasoning:
            has_none = self.mentions("'none'") or self.mentions('"none"')
            variables["reasoning_effort"] = "none" if has_none else "low"
        return variables

    def speech(self, tools: Sequence[Tool]) -> Speech | None:
        """How the model writes an answer in its own form; None if that is the common form.

        Args:
            tools: the tools that the answer may call.
        """
        return self.manner.speech(tools, self._marks)

    def thinking(self) -> Speech | None:
        """How the model thinks before a constrained answer, which has the common form.

        None if it does not think, or writes the marks of thoughts as plain text.
        """
        return self.manner.thinking(self._marks)

    @property
    def thinks(self) -> bool:
        """Whether the model may write a thought: its form or its template has marks for it."""
        return self.thinking() is not None or any(self.mentions(mark) for mark, _ in THINKING)

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        *,
        speech: Speech | None = None,
        free: bool = True,
    ) -> Prompt:
        """Render and encode a conversation; a final assistant turn becomes the opening.

        Tools are described by the template where it does so, else in a system turn.

        Args:
            messages: the conversation.
            tools: the tools that the answer may call.
            speech: how the answer is written; by default in the common form.
            free: whether the text of the answer may be anything.

        Raises:
            TemplateError: if the template refuses every form of the conversation.
        """
        turns = list(messages)
        opening: list[str] = []
        while turns and turns[-1].role == "assistant" and not turns[-1].tool_calls:
            opening.insert(0, turns.pop().content)
        described = [tool.as_dict() for tool in tools]
        escape = Escape(self.codec, turns, described)
        rendered = self._fitting.rendered(
            *self._told([escape.hide(turn) for turn in turns], escape.hide_all(described), free)
        )
        rendered = self.header.opened(rendered, answering=speech is None)
        if self._begins:
            rendered = (self._tokenizer.bos_token or "") + rendered
        return Prompt(
            ids=tuple(escape.encode(rendered)),
            lead=self.lead,
            continuing=self._continuing(rendered),
            opening="\n\n".join(opening),
        )

    def raw(self, text: str, *, special_tokens: bool = False) -> Prompt:
        """Encode a prompt that the template does not touch.

        Args:
            text: the prompt.
            special_tokens: whether control tokens in it count as such.
        """
        opening = self.codec.opening
        begins = [] if opening is None else [opening]
        if special_tokens:
            ids = self.codec.encode_marked(text)
            return Prompt(
                ids=tuple(ids if ids[:1] == begins else [*begins, *ids]),
                lead="",
                continuing=self._continuing(text),
                opening="",
            )
        continuing = bool(begins) and not self.codec.opens_with_space_after_control
        ids = self.codec.encode(text, continuing=continuing).ids
        return Prompt(ids=(*begins, *ids), lead="", continuing=True, opening="")

    def _continuing(self, rendered: str) -> bool:
        pattern = self.codec.control_pattern
        matches = list(pattern.finditer(rendered)) if pattern else []
        if matches and matches[-1].end() == len(rendered):
            return not self.codec.opens_with_space_after_control
        return bool(rendered)

    def fit(
        self, messages: Sequence[Message], tools: Sequence[Tool] = ()
    ) -> tuple[list[Message], Fit]:
        """What the template does to conversations like this one.

        Returns:
            The messages that the template gets, and what it does to them.

        Raises:
            TemplateError: as :meth:`prompt`.
        """
        turns, described = self._told(messages, [tool.as_dict() for tool in tools], free=True)
        return turns, self._fitting.fit(turns, described)

    @property
    def plain(self) -> bool:
        """Whether there is no template, so that each message is a paragraph with its role."""
        return self._rendering.plain

    @property
    def thinking_switch(self) -> str | None:
        """The template's variable that lets the model think, if the template closes the thought
        before each answer; None otherwise.
        """
        form = self.manner.form
        pairs = [*THINKING, *([form.thinking] if form is not None and form.thinking else [])]
        return thinking_switch(self._rendering, [closing for _, closing in pairs])

    def mentions(self, text: str) -> bool:
        """Whether ``text`` is a part of the template."""
        return self._rendering.mentions(text)

    def _told(
        self, turns: Sequence[Message], tools: Sequence[Mapping[str, Any]], free: bool
    ) -> tuple[list[Message], Sequence[Mapping[str, Any]]]:
        """What the template gets: the conversation with what it does not say of the tools itself,
        and the tools that it describes.

        An instruction of ours is in the form of the calls in the model's history, unless a
        constraint (not ``free``) leaves only the common form.
        """
        if not tools:
            return list(turns), ()
        if not self.manner.describes_tools:
            return _with_system(turns, describe(tools, self.manner.example if free else None)), ()
        if not self.manner.instructs:
            return _with_system(turns, instruct()), tools
        return list(turns), tools


def _with_system(turns: Sequence[Message], text: str) -> list[Message]:
    """``turns`` with ``text`` at the end of their first system turn, or as one."""
    if turns and turns[0].role == "system":
        return [replace(turns[0], content=f"{turns[0].content}\n\n{text}"), *turns[1:]]
    return [Message("system", text), *turns]
