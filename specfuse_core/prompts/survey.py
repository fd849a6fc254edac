"""What a chat template does to the usual kinds of conversation: what it keeps, changes and drops.

The kinds are data. Nothing here runs a model.
"""

from __future__ import annotations

from dataclasses import dataclass

from specfuse_core.errors import TemplateError
from specfuse_core.grammar.thoughts import THINKING
from specfuse_core.grammar.tools import Tool
from specfuse_core.model_report import ConversationReport, TemplateReport
from specfuse_core.prompts.template import ChatTemplate
from specfuse_core.request import Message, ToolCall

__all__ = ["KINDS", "Kind", "survey"]

_SYSTEM = Message("system", "Be brief.")
_ASK, _MORE = Message("user", "How warm is it?"), Message("user", "And tomorrow?")
_ANSWER = Message("assistant", "It is warm.")
_TOOL = Tool("get_weather", "Tells the weather.")
#: Some templates require ids of nine letters and digits.
_ONE, _TWO = (
    ToolCall(_TOOL.name, {"city": "Oslo"}, "call00001"),
    ToolCall(_TOOL.name, {"city": "Rome"}, "call00002"),
)


def _result(call: ToolCall) -> Message:
    return Message("tool", "12", name=_TOOL.name, tool_call_id=call.id)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of conversation.

    Args:
        name: the kind, as it stands in a sentence.
        turns: a conversation of this kind.
        tools: the tools that are offered with it.
    """

    name: str
    turns: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()


KINDS = (
    Kind("a question", (_ASK,)),
    Kind("a system message", (_SYSTEM, _ASK)),
    Kind("an earlier answer", (_ASK, _ANSWER, _MORE)),
    Kind("two user messages in a row", (_ASK, _MORE)),
    Kind("a later system message", (_ASK, _ANSWER, _SYSTEM, _MORE)),
    Kind("an answer before the first question", (_ANSWER, _ASK)),
    Kind("tools", (_ASK,), (_TOOL,)),
    Kind("tools and a system message", (_SYSTEM, _ASK), (_TOOL,)),
    Kind("a tool's result", (_ASK, Message("assistant", "", (_ONE,)), _result(_ONE)), (_TOOL,)),
    Kind(
        "a tool call after text",
        (_ASK, Message("assistant", "I look.", (_ONE,)), _result(_ONE), _ANSWER, _MORE),
        (_TOOL,),
    ),
    Kind(
        "two tool calls at once",
        (_ASK, Message("assistant", "", (_ONE, _TWO)), _result(_ONE), _result(_TWO)),
        (_TOOL,),
    ),
)


def survey(template: ChatTemplate) -> TemplateReport:
    """Describe a chat template, and try it with each of :data:`KINDS`."""
    form = template.manner.form
    own = _own_thinking(template)
    mentioned = (marks for marks in THINKING if template.mentions(marks[0]))
    if template.manner.common:
        calls = "common"
    else:
        calls = form.name if form is not None and template.manner.instructs else "instruction"
    return TemplateReport(
        header=template.header.answer,
        closing=template.codec.name_of(template.header.closing),
        describes_tools=template.manner.describes_tools,
        calls=calls,
        thinking=own or next(mentioned, None),
        conversations=tuple(_tried(template, kind) for kind in KINDS),
        thinking_switch=template.thinking_switch,
    )


def _own_thinking(template: ChatTemplate) -> tuple[str, str] | None:
    """The marks of thoughts in the model's form.

    A form may have marks that only some models of its family know.
    """
    form, control = template.manner.form, template.codec.control_pattern
    if form is None or form.thinking is None:
        return None
    opening, _ = form.thinking
    known = template.mentions(opening) or (control is not None and control.search(opening))
    return form.thinking if known else None


def _tried(template: ChatTemplate, kind: Kind) -> ConversationReport:
    try:
        turns, fit = template.fit(kind.turns, kind.tools)
    except TemplateError as error:
        return ConversationReport(kind.name, refused=str(error))
    return ConversationReport(
        kind.name,
        repairs=tuple(repair.description for repair in fit.repairs),
        lost=tuple(turns[index].role for index in fit.lost),
    )
