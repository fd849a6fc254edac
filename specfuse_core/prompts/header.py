"""What a chat template writes around the content of an assistant's turn.

Pure functions on rendered text; nothing here knows of requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from specfuse_core.errors import TemplateError
from specfuse_core.grammar.thoughts import THINKING
from specfuse_core.prompts.codec import TextCodec
from specfuse_core.prompts.dialects.choosing import PROBE_TOOL
from specfuse_core.request import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from specfuse_core.prompts.dialects.table import Form
    from specfuse_core.prompts.rendering import Rendering

__all__ = ["Header", "header_of"]

_PROBE = "specfuse\u2063"
_QUESTION = Message("user", "Why, specfuse?")


@dataclass(frozen=True, slots=True)
class Header:
    """The frame of an answer.

    Args:
        lead: white space between the generation prompt and the content.
        answer: text between the generation prompt and the content, if it is more than white
            space: control tokens (``<|channel|>final<|message|>``) or a label.
        thoughts: marks that open a thought. A generation prompt that ends with one is cut before
            it, since the answer is shared and opens its thoughts itself.
        closing: id of the control token after the content; None if there is none.
    """

    lead: str
    answer: str
    thoughts: tuple[str, ...]
    closing: int | None

    def opened(self, rendered: str, *, answering: bool) -> str:
        """A rendered conversation as the model reads it before an answer.

        Args:
            rendered: the conversation, with the generation prompt.
            answering: whether the prompt goes on to where the content of the answer begins.
        """
        bare = rendered.rstrip()
        for mark in self.thoughts:
            if bare.endswith(mark):
                rendered = bare.removesuffix(mark)
                break
        return rendered + self.answer if answering else rendered


def header_of(rendering: Rendering, codec: TextCodec, form: Form | None) -> Header:
    """The header of a chat template, found by rendering an answer with it.

    Args:
        rendering: the chat template.
        codec: the tokenizer.
        form: the form that the model writes; None if it is not known.

    Raises:
        TemplateError: if the generation prompt ends with control tokens whose meaning is unknown.
    """
    thoughts = tuple(opening for opening, _ in THINKING)
    if form is not None and form.thinking is not None:
        thoughts += (form.thinking[0].rstrip(),)
    try:
        before, bare, whole = _renderings(rendering)
    except TemplateError:
        return Header("", "", thoughts, None)
    head, _, tail = whole.partition(_PROBE)
    between = head.removeprefix(before) if head.startswith(before) else ""
    pattern = codec.control_pattern
    match = pattern.match(tail.lstrip()) if pattern else None
    closing = codec.control_id(match.group()) if match else None
    if match and form is not None and _goes_on(match.group(), form):
        closing = None
    answer = _unthought(_after(before, head, thoughts, form), form)
    # A label in plain text is the template's own, and no habit of the model's.
    marked = pattern is not None and bool(pattern.search(answer))
    # A template that knows no generation prompt opens every turn alike.
    alike = before == bare and before.rpartition(_QUESTION.content)[0].endswith(answer)
    if not marked or alike or any(mark in answer for mark in thoughts):
        answer = ""
    header = Header(between if between.isspace() else "", answer, thoughts, closing)
    if unknown := _unknown(header.opened(before, answering=False), head, codec):
        raise TemplateError(
            f"the chat template of {rendering.name} ends its prompts with {unknown!r}, but it does "
            "not show which control token closes it; describe the form of the answers with "
            "ModelConfig(response_template=...)."
        )
    return header


def _unknown(prompt: str, head: str, codec: TextCodec) -> str:
    """A control token at the end of a prompt that a model would have to close by another one.

    Finished turns do not repeat what the prompt opens. Marks that come in pairs are closed.
    """
    pattern = codec.control_pattern
    shared = next(
        (i for i, (a, b) in enumerate(zip(prompt, head, strict=False)) if a != b), len(prompt)
    )
    if pattern is None or shared >= len(prompt):
        return ""
    marks = [match.group() for match in pattern.finditer(prompt) if match.end() > shared]
    return marks[-1] if len(marks) % 2 and prompt.rstrip().endswith(marks[-1]) else ""


def _renderings(rendering: Rendering) -> tuple[str, str, str]:
    """A question with the generation prompt, without it, and with an answer."""
    answered = [_QUESTION, Message("assistant", _PROBE)]
    tools: list[Mapping[str, Any]] = []
    try:
        before = rendering.render([_QUESTION])
    except TemplateError:
        # Some templates are for conversations with tools only.
        tools = [PROBE_TOOL]
        before = rendering.render([_QUESTION], tools)
    return (
        before,
        rendering.render([_QUESTION], tools, add_generation_prompt=False),
        rendering.render(answered, tools, add_generation_prompt=False),
    )


def _after(before: str, head: str, thoughts: tuple[str, ...], form: Form | None) -> str:
    """What stands between the generation prompt and the content of an answer.

    A thought that the generation prompt opens is not in finished turns.
    """
    if not head.startswith(before):
        before = before.rstrip()
        if form is not None and form.thinking is not None:
            before = before.removesuffix(form.thinking[1]).rstrip()
        opened = next((mark for mark in thoughts if before.endswith(mark)), "")
        before = before.removesuffix(opened)
    return head.removeprefix(before) if head.startswith(before) else ""


def _unthought(text: str, form: Form | None) -> str:
    """``text`` without an empty thought, or the end of one, at its beginning."""
    if form is None or form.thinking is None:
        return text
    opening, closing = form.thinking
    rest = text.lstrip().removeprefix(opening).lstrip()
    return rest.removeprefix(closing) if rest.startswith(closing) else text


def _goes_on(mark: str, form: Form) -> bool:
    """Whether a control token closes parts of an answer rather than the turn."""
    return mark in form.between or (form.thinking is not None and mark in form.thinking[1])
