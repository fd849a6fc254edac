"""Which form a model writes: asked of its chat template, never of its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from specfuse_core.prompts.dialects.reading import THOUGHTS, MakeParser, Reader
from specfuse_core.prompts.dialects.table import FORMS, PROBE, Form

__all__ = ["PROBE_ARGUMENTS", "PROBE_TOOL", "choose", "known_forms", "own_form", "writes"]

#: A tool and a call of it, with which chat templates are tried.
PROBE_TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": PROBE,
        "description": "Look something up.",
        "parameters": {
            "type": "object",
            "properties": {
                "topic": {"type": "string", "description": "What to look up."},
                "count": {"type": "integer", "description": "How many results."},
            },
            "required": ["topic", "count"],
        },
    },
}
PROBE_ARGUMENTS: Mapping[str, Any] = {"topic": "old lamps", "count": 3}


def choose(
    told: str, written: Sequence[str], forms: Sequence[Form], parser: MakeParser
) -> Form | None:
    """The form that a chat template asks for, or writes; None if it is not known.

    Args:
        told: what the template adds to a prompt for ``PROBE_TOOL``.
        written: how it writes a call of it in an earlier turn, with and without the end of the
            turn; empty if it does not.
        forms: the forms from which one is chosen.
        parser: makes transformers' parser.
    """
    for form in forms:
        if writes(form, written, parser):
            return form
    for form in forms:
        if form.hint and re.search(form.hint, told):
            return form
    return None


def writes(form: Form, written: Sequence[str], parser: MakeParser) -> bool:
    """Whether one of the texts is a call of ``PROBE_TOOL`` in ``form``."""
    reader = Reader(form, parser, [PROBE_TOOL])
    return any(reader.calls(text)[1] == [(PROBE, PROBE_ARGUMENTS)] for text in written)


def known_forms(parser: MakeParser) -> tuple[Form, ...]:
    """The usual forms that the installed transformers can read."""
    return tuple(form for form in FORMS if _executable(form, parser))


def own_form(template: Mapping[str, Any], parser: MakeParser) -> Form:
    """The form of a response template that a tokenizer or a user gives.

    Raises:
        ValueError: if transformers refuses the template.
    """
    parser(template, "", [])
    fields = template.get("fields", {})
    thought: Mapping[str, Any] = next((fields[name] for name in THOUGHTS if name in fields), {})
    opening, closing = thought.get("open"), thought.get("close")
    content = fields.get("content", {}).get("open", "")
    return Form(
        "response_template",
        template,
        thinking=(
            (opening, closing) if isinstance(opening, str) and isinstance(closing, str) else None
        ),
        content=content if isinstance(content, str) else "",
    )


def _executable(form: Form, parser: MakeParser) -> bool:
    """Whether the installed transformers can run the form's template."""
    try:
        parser(form.template, "", [])
    except ValueError:
        return False
    return True
