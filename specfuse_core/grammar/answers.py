r"""The grammar of a whole answer: its reasoning, its text, and its tool calls.

The grammar of one constraint is in ``constraints``. Where a call may open is the rule of
``openings``, which is written here as regular expressions. Lazy rules end as soon as they can, so
that the first mark counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from specfuse_core.errors import InvalidConstraintError
from specfuse_core.grammar.calls import ARGUMENT_KEYS, CALL_CLOSE, CALL_OPEN
from specfuse_core.grammar.constraints import Constraint, json_rule, quoted, rules_of
from specfuse_core.grammar.thoughts import THINKING
from specfuse_core.grammar.tools import Tool, ToolChoice, called_tools

__all__ = ["grammar_of"]


def _pattern(text: str) -> str:
    """A regular expression for ``text`` that can stand between slashes."""
    return re.escape(text).replace("/", r"\/")


_SPACE = r"[ \t\r\n]*"
#: White space where nothing but a call can follow. It is bounded, since models may go on with it.
_GAP = r"[ \t\r\n]{0,4}"
_OPENINGS = "|".join(_pattern(opening) for opening, _ in THINKING)
_THOUGHTS = "|".join(f"{_pattern(a)}(?s:.*){_pattern(b)}" for a, b in THINKING)

#: Reasoning, with the white space after it.
_REASONING = rf"""
thought: reasoning SPACES?
reasoning[lazy]: REASONED
REASONED: /{_SPACE}({_THOUGHTS})/
SPACES: /[ \t\r\n]{{1,4}}/
"""
#: Reasoning that does not end, and the beginning of any reasoning.
_UNENDED = rf"""
UNENDED: BEGUN & ~(REASONED ANY)
BEGUN: /{_SPACE}({_OPENINGS})(?s:.*)/
"""
#: What keeps text from beginning like reasoning.
_NOT_BEGUN = " & ~BEGUN"
#: Text, up to the first call of an offered tool. LIVE is text up to where the name of a call
#: stands: whole lines and code fences, and a mark at the start of a line. If the name is not one of
#: NAMES, OTHER goes on as text.
_TEXT = rf"""
body: FREE | opened tail
tail: calls | LAST | more tail
opened[lazy]: OPENED
more[lazy]: MORE
FREE: ANY & ~(LIVE ANY){_NOT_BEGUN}
OPENED: LIVE{_NOT_BEGUN}
LAST: OTHER & ~(ANY_LINE LIVE ANY)
MORE: OTHER & (ANY_LINE LIVE)
OTHER: ANY & ~(NAMES ANY)
LIVE: (LINE | TICKED | TILDED)* / {{0,3}}/ HEAD
LINE: ANY_LINE & ~/ {{0,3}}(`{{3,}}[^`\n]*|~{{3,}}[^\n]*)\n/
TICKED: / {{0,3}}`{{3,}}[^`\n]*\n/ (ANY_LINE & ~TICKS)* TICKS
TICKS: / {{0,3}}`{{3,}}[ \t\r]*\n/
TILDED: / {{0,3}}~{{3,}}[^\n]*\n/ (ANY_LINE & ~TILDES)* TILDES
TILDES: / {{0,3}}~{{3,}}[ \t\r]*\n/
ANY_LINE: /[^\n]*\n/
ANY: /(?s:.*)/
TRAILING: /[ \t\r\n]{{1,8}}/
HEAD: /{CALL_OPEN}{_SPACE}\{{{_SPACE}"name"{_SPACE}:/
KEY: /{_GAP},{_GAP}"({"|".join(ARGUMENT_KEYS)})"{_GAP}: ?/
CLOSE: /{_GAP}\}}{_GAP}{_pattern(CALL_CLOSE)}/
"""


def grammar_of(
    constraint: Constraint | None,
    tools: Sequence[Tool] = (),
    choice: ToolChoice = "auto",
    *,
    parallel: bool = True,
    thinks: bool = False,
) -> str | None:
    """Return the grammar of the whole answer; None if the answer is unconstrained.

    Args:
        constraint: constraint on an answer that calls no tool.
        tools: tools that the answer may call.
        choice: whether the answer must call a tool, and which one.
        parallel: whether the answer may call several tools.
        thinks: whether the answer may begin with reasoning, which is not constrained.

    Raises:
        InvalidConstraintError: if the constraint cannot be combined with the tools, or a schema
            is not JSON.
    """
    called = called_tools(tools, choice)
    if constraint is None and not called:
        return None
    if constraint is None and choice == "auto":
        return _free(called, parallel=parallel, thinks=thinks)
    forms, rules = [], ""
    if constraint is not None:
        if called and choice != "auto":
            raise InvalidConstraintError(
                f"tool_choice={choice!r} cannot be combined with a constraint; "
                "use tool_choice='auto' or leave the constraint out."
            )
        forms.append("answer")
        rules += f"answer: %lark {{\n{rules_of(constraint)}\n}}\n"
    if called:
        forms.append(f"{quoted(CALL_OPEN)} calls")
        rules += _calls(called, parallel=parallel)
    start = " | ".join(forms)
    if thinks:
        return f"start: thought? ({start})\n{_REASONING}{rules}"
    return f"start: {start}\n{rules}"


def _calls(tools: Sequence[Tool], *, parallel: bool) -> str:
    """The rule ``calls``: calls in the common format, after the mark that opens the first one."""
    bodies, rules = [], ""
    for number, tool in enumerate(tools):
        opening = f'\n{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "arguments": '
        bodies.append(f"{quoted(opening)} args{number}")
        rules += f"args{number}: {json_rule(tool.schema)}\n"
    rules += f"body: ({' | '.join(bodies)}) {quoted('}' + chr(10) + CALL_CLOSE)}\n"
    rules += f"again[lazy]: /[ \\n]{{0,2}}{CALL_OPEN}/\n" if parallel else ""
    return f"calls: body{' (again body)*' if parallel else ''}\n{rules}"


def _free(tools: Sequence[Tool], *, parallel: bool, thinks: bool) -> str:
    """Text and calls. Here the models choose the white space of a call up to its arguments."""
    calls, names, rules = [], [], ""
    for number, tool in enumerate(tools):
        name = quoted(json.dumps(tool.name, ensure_ascii=False))
        names.append(name)
        calls.append(f"NAME{number} KEY args{number} CLOSE")
        rules += f"NAME{number}: /{_SPACE}/ {name}\nargs{number}: {json_rule(tool.schema)}\n"
    rules += f"call: {' | '.join(calls)}\nNAMES: /{_SPACE}/ ({' | '.join(names)})\n"
    rules += f"calls: call{' (again tail)?' if parallel else ''} TRAILING?\n"
    rules += "again[lazy]: AGAIN\nAGAIN: TRAILING? HEAD\n" if parallel else ""
    if thinks:
        return f"start: body | thought body | UNENDED\n{_REASONING}{_UNENDED}{_TEXT}{rules}"
    return f"start: body\n{_TEXT.replace(_NOT_BEGUN, '')}{rules}"
