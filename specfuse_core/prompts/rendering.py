"""Runs a chat template, within limits: the only place that calls ``apply_chat_template``.

A template is a program of the model's publisher. Whatever it raises is a ``TemplateError`` here.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from specfuse_core.errors import TemplateError
from specfuse_core.message import Message
from specfuse_core.prompts.turns import NO_CONTENT, STYLES, CallStyle, as_mapping

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PLAIN_TEMPLATE", "Rendering", "running"]

#: For base models without a chat template: one labelled paragraph per turn. The answer ends with
#: the model's end-of-text token.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message.role | capitalize }}: {{ message.content }}"
    "{{ eos_token if message.role == 'assistant' }}\n\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)

_THREAD = "specfuse-template"
#: Seconds that one rendering may take.
_SECONDS = 10.0
#: A template that takes longer for so many short conversations in a row is not run again.
_OVERRUNS = 2
#: Characters of a short conversation and its tools.
_FEW = 10_000
#: Characters that a prompt may have beyond ``_GROWTH`` times those of the conversation.
_ROOM = 1_000_000
_GROWTH = 50


class _OutOfTimeError(BaseException):
    """Raised within a rendering that takes too long; templates cannot catch it."""


class Rendering:
    """One model's chat template.

    Args:
        tokenizer: gives the template and renders it.
        template: a Jinja template that replaces the tokenizer's own, or the name of one of its
            several; None for the tokenizer's own.
        variables: extra variables of the template.

    Raises:
        TemplateError: if the tokenizer has several templates and none is the default, or if
            ``template`` is neither a template nor the name of one.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str | None,
        variables: Mapping[str, Any],
    ) -> None:
        self._tokenizer = tokenizer
        self._variables = dict(variables)
        self.name = tokenizer.name_or_path or "the model"
        #: Short conversations in a row, up to the last one, that took too long.
        self._overruns = 0
        own = self._chosen(template, tools=None)
        self.plain = own is None
        self._template = own or PLAIN_TEMPLATE
        # A tokenizer may have a template of its own for conversations with tools.
        self._with_tools = self._chosen(template, tools=[]) or PLAIN_TEMPLATE

    def render(
        self,
        turns: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        add_generation_prompt: bool = True,
        style: CallStyle = STYLES[0],
        **variables: Any,
    ) -> str:
        """The text of a conversation.

        Args:
            turns: the conversation.
            tools: the tools on offer, in OpenAI's form.
            add_generation_prompt: whether to open the assistant's next turn.
            style: how the template gets turns with calls.
            variables: variables of the template for this call.

        Raises:
            TemplateError: if the template raises, takes longer than 10 seconds, or writes more
                than 50 times the conversation plus a million characters.
        """
        given = [as_mapping(turn, style) for turn in turns]
        template = self._with_tools if tools else self._template
        if style.content == "none":
            template = NO_CONTENT + template

        def work() -> str:
            return str(
                self._tokenizer.apply_chat_template(
                    given,
                    tools=[dict(tool) for tool in tools] or None,
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    **{**self._variables, **variables},
                )
            )

        size = len(repr(given) + repr(tools))
        if self._overruns >= _OVERRUNS:
            raise self._endless()
        text = self._bounded(work, short=size < _FEW)
        most = _ROOM + _GROWTH * size
        if len(text) > most:
            raise TemplateError(
                f"the chat template of {self.name} wrote {len(text):,} characters, more than the "
                f"limit of {most:,}; give another with ModelConfig(chat_template=...)."
            )
        return text

    def given(self, name: str) -> bool:
        """Whether the caller has set the template's variable ``name``."""
        return name in self._variables

    def mentions(self, text: str) -> bool:
        """Whether ``text`` is a part of the template."""
        return text in self._template or text in self._with_tools

    def reads(self, variable: str) -> bool:
        """Whether the template has a variable of that name."""
        pattern = re.compile(rf"(?<!\w){re.escape(variable)}(?!\w)")
        return any(pattern.search(text) for text in (self._template, self._with_tools))

    def _endless(self) -> TemplateError:
        return TemplateError(
            f"the chat template of {self.name} did not finish within {_SECONDS:g} seconds; "
            "give another with ModelConfig(chat_template=...)."
        )

    def _bounded(self, work: Any, *, short: bool) -> str:
        """The result of ``work``, run in a thread that is stopped when its time is over."""
        result: list[str] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                result.append(work())
            # Templates raise whatever Jinja or Python raises in them.
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run, name=_THREAD, daemon=True)
        thread.start()
        thread.join(_SECONDS)
        if thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_OutOfTimeError)
            )
            self._overruns += short
            raise self._endless()
        self._overruns = 0
        if failed:
            error = failed[0]
            raise TemplateError(
                f"the chat template of {self.name} refuses the conversation "
                f"({_first_line(error)}); give another with ModelConfig(chat_template=...)."
            ) from error
        return result[0]

    def _chosen(self, wanted: str | None, tools: list[Any] | None) -> str | None:
        """The template that was asked for, or the tokenizer's own for conversations of a kind."""
        templates = self._tokenizer.chat_template
        names = list(templates) if isinstance(templates, Mapping) else []
        if wanted and wanted not in names and "{{" not in wanted and "{%" not in wanted:
            raise TemplateError(
                f"chat_template={wanted[:80]!r} contains no Jinja expression and is not the name "
                f"of a chat template of {self.name} (names: {', '.join(names) or 'none'}); give "
                "the text of a Jinja template."
            )
        if not templates:
            return wanted or None
        if not wanted and tools is not None and isinstance(templates, Mapping):
            wanted = "tool_use" if "tool_use" in templates else None
        try:
            return self._tokenizer.get_chat_template(wanted or None)
        except ValueError as error:
            raise TemplateError(
                f"{self.name} has several chat templates ({', '.join(templates)}) and none is the "
                "default; name one with ModelConfig(chat_template=...)."
            ) from error


def running() -> list[threading.Thread]:
    """The threads in which templates run."""
    return [thread for thread in threading.enumerate() if thread.name == _THREAD]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
