"""Renders conversations to prompt ids with the chat template of one base model.

If the template refuses a conversation, a repaired form is rendered (see ``repairs``). Text from
users never becomes a control token (see ``escape``). This module knows nothing of sessions or
models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError as JinjaError
from transformers import PreTrainedTokenizerBase

from specfuse_core.answer.channels import THINKING
from specfuse_core.errors import NoEndTokenError, TemplateError
from specfuse_core.grammar.tools import Tool, describe
from specfuse_core.prompts.codec import TextCodec
from specfuse_core.prompts.escape import Escape
from specfuse_core.prompts.repairs import REPAIRS
from specfuse_core.request import Message

__all__ = ["PLAIN_TEMPLATE", "ChatTemplate", "Prompt"]

#: Template for base models without one: one labelled paragraph per message. The answer ends with
#: the model's end-of-text token.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message.role | capitalize }}: {{ message.content }}"
    "{{ eos_token if message.role == 'assistant' }}\n\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)

_PROBE = "specfuse\u2063"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered conversation.

    Args:
        ids: token ids of the prompt. ``[P]``
        lead: white space that the template puts between prompt and answer.
        continuing: whether the answer follows ordinary text instead of a control token.
        opening: text of a final assistant message, which the answer continues.
    """

    ids: tuple[int, ...]
    lead: str
    continuing: bool
    opening: str


class ChatTemplate:
    """Renders conversations for one base model.

    Args:
        tokenizer: the tokenizer, which renders the template.
        template: a Jinja template that replaces the tokenizer's own, or the name of one of the
            tokenizer's templates; None for the tokenizer's own.
        variables: extra variables of the template.
        ends: end-of-turn ids of the generation config.

    Raises:
        NoEndTokenError: if no end-of-turn token is known.
        TemplateError: if the tokenizer has several templates and no default, and none is chosen.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str | None,
        variables: Mapping[str, Any],
        ends: Sequence[int],
    ) -> None:
        self._tokenizer = tokenizer
        own = _own_template(tokenizer, template)
        self._plain = own is None
        self._template = own or PLAIN_TEMPLATE
        self._variables = dict(variables)
        codec = TextCodec(tokenizer)
        self.lead, closing = self._shape(codec)
        self.ends = _end_ids(tokenizer, ends, closing)
        # End-of-turn tokens are control tokens too, whether or not they are marked special.
        self.codec = TextCodec(tokenizer, self.ends) if self.ends - codec.control else codec
        self._begins = self._plain and _adds_bos(tokenizer, self.codec)

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> Prompt:
        """Render and encode a conversation.

        A final assistant message becomes the ``opening`` of the prompt. If the template does not
        describe the tools, a system message does.

        Args:
            messages: the conversation.
            tools: tools that the prompt describes.

        Raises:
            TemplateError: if the template refuses the conversation and all its repaired forms.
        """
        turns = list(messages)
        opening: list[str] = []
        while turns and turns[-1].role == "assistant" and not turns[-1].tool_calls:
            opening.insert(0, turns.pop().content)
        described = [tool.as_dict() for tool in tools]
        escape = Escape(self.codec, turns, described)
        rendered = self._described(
            [escape.hide(turn) for turn in turns], escape.hide_all(described)
        )
        rendered = _without_thinking(rendered)
        if self._begins:
            rendered = (self._tokenizer.bos_token or "") + rendered
        return Prompt(
            ids=tuple(escape.encode(rendered)),
            lead=self.lead,
            continuing=self._continuing(rendered),
            opening="\n\n".join(opening),
        )

    def _continuing(self, rendered: str) -> bool:
        pattern = self.codec.control_pattern
        matches = list(pattern.finditer(rendered)) if pattern else []
        if matches and matches[-1].end() == len(rendered):
            return not self.codec.opens_with_space_after_control
        return bool(rendered)

    def _described(self, turns: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> str:
        """Render the conversation with a description of the tools."""
        bare = self._repaired(turns)
        if not tools:
            return bare
        try:
            rendered = self._repaired(turns, tools)
        except TemplateError:
            rendered = ""
        # Earlier tool calls contain names of tools too, so count the names.
        names = [tool["function"]["name"] for tool in tools]
        if all(rendered.count(name) > bare.count(name) for name in names):
            return rendered
        text = describe(tools)
        if turns and turns[0].role == "system":
            first = replace(turns[0], content=f"{turns[0].content}\n\n{text}")
            return self._repaired([first, *turns[1:]])
        return self._repaired([Message("system", text), *turns])

    def _repaired(self, turns: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        fallback: str | None = None
        error: Exception | None = None
        for repairs in REPAIRS:
            repaired = list(turns)
            for repair in repairs:
                repaired = repair(repaired)
            try:
                rendered = self._render(repaired, tools, add_generation_prompt=True)
            # A template may raise errors of Jinja or of Python.
            except (JinjaError, TypeError, ValueError, KeyError, AttributeError) as caught:
                error = error or caught
                continue
            if all(_appears(turn, rendered) for turn in turns):
                return rendered
            fallback = fallback or rendered
        if fallback is None:
            raise TemplateError(
                f"the chat template of {self._tokenizer.name_or_path or 'the model'} refuses the "
                f"conversation ({error}); use another one with ModelConfig(chat_template=...)."
            )
        return fallback

    def _render(
        self,
        turns: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        add_generation_prompt: bool,
    ) -> str:
        rendered = self._tokenizer.apply_chat_template(
            [_as_mapping(turn) for turn in turns],
            tools=[dict(tool) for tool in tools] or None,
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            **self._variables,
        )
        return str(rendered)

    def _shape(self, codec: TextCodec) -> tuple[str, int | None]:
        """Return the white space before an answer and the id of the control token after it."""
        question = [Message("user", "a")]
        try:
            before = self._render(question, add_generation_prompt=True)
            whole = self._render(
                [*question, Message("assistant", _PROBE)], add_generation_prompt=False
            )
        except (JinjaError, TypeError, ValueError, KeyError, AttributeError):
            return "", None
        head, _, tail = whole.partition(_PROBE)
        lead = head.removeprefix(before) if head.startswith(before) else ""
        pattern = codec.control_pattern
        match = pattern.match(tail.lstrip()) if pattern else None
        return lead if lead.isspace() else "", codec.control_id(match.group()) if match else None


def _own_template(tokenizer: PreTrainedTokenizerBase, wanted: str | None) -> str | None:
    """Return the template ``wanted``, or the tokenizer's own; None if it has none."""
    if not tokenizer.chat_template:
        return wanted or None
    try:
        return tokenizer.get_chat_template(wanted or None)
    except ValueError as error:
        raise TemplateError(
            f"{tokenizer.name_or_path or 'the model'} has several chat templates "
            f"({', '.join(tokenizer.chat_template)}) and no default; name one with "
            "ModelConfig(chat_template=...)."
        ) from error


def _end_ids(
    tokenizer: PreTrainedTokenizerBase, configured: Sequence[int], closing: int | None
) -> frozenset[int]:
    found = {*configured, tokenizer.eos_token_id, closing} - {None}
    if not found:
        raise NoEndTokenError(
            f"{tokenizer.name_or_path or 'the model'} has no end-of-turn token: generation config, "
            "tokenizer and chat template name none; set tokenizer.eos_token or "
            "generation_config.eos_token_id."
        )
    return frozenset(int(id_) for id_ in found if id_ is not None)


def _without_thinking(rendered: str) -> str:
    """Remove an opening reasoning marker at the end of a prompt.

    The answer has to contain the marker, because the prompts of the other models do not.
    """
    bare = rendered.rstrip()
    for opening, _ in THINKING:
        if bare.endswith(opening):
            return bare.removesuffix(opening)
    return rendered


def _adds_bos(tokenizer: PreTrainedTokenizerBase, codec: TextCodec) -> bool:
    return tokenizer.bos_token_id is not None and codec.opening == tokenizer.bos_token_id


def _as_mapping(turn: Message) -> dict[str, Any]:
    mapping: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.tool_calls:
        mapping["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for call in turn.tool_calls
        ]
    if turn.name is not None:
        mapping["name"] = turn.name
    if turn.tool_call_id is not None:
        mapping["tool_call_id"] = turn.tool_call_id
    return mapping


def _appears(turn: Message, rendered: str) -> bool:
    calls = all(call.name in rendered for call in turn.tool_calls)
    return calls and turn.content.strip() in rendered
