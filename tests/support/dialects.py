"""Chat templates of our own that write tool calls in the usual native forms."""

from __future__ import annotations

from dataclasses import dataclass

import tiny
from transformers import PreTrainedTokenizerFast

from specfuse_core.prompts.dialects.table import FORMS

__all__ = ["DIALECTS", "Dialect", "tokenizer"]

_EACH = "{% for c in m.tool_calls %}"
_END = "{% endfor %}"
_NAME, _ARGUMENTS = "{{ c.function.name }}", "{{ c.function.arguments | tojson }}"
_COMMA = "{{ ', ' if not loop.last }}"
_LIST = (
    "[" + _EACH + '{"name": "' + _NAME + '", "arguments": ' + _ARGUMENTS + "}" + _COMMA + _END + "]"
)
_PAIRS = "{% for key, value in c.function.arguments.items() %}"
_VALUE = "{{ value if value is string else value | tojson }}"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One family's way, as its chat template shows it.

    Args:
        form: the name of the form that should be found.
        calls: writes the calls of a turn ``m``, in Jinja.
        marks: the control tokens of the form.
        told: what the template tells about calls, in Jinja; empty if nothing.
        several: whether several calls of one turn can be written.
    """

    form: str
    calls: str
    marks: tuple[str, ...] = ()
    told: str = ""
    several: bool = True

    def template(self, *, writes: bool = True) -> str:
        """A chat template that takes tools; without ``writes`` it drops calls."""
        calls = "{% if m.tool_calls %}" + self.calls + "{% endif %}" if writes else ""
        return (
            "{% if tools %}<|im_start|>system\nTools: {{ tools | tojson }}"
            + self.told
            + "<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
            "{{ m.content or '' }}" + calls + "<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        )


def tokenizer(dialect: Dialect, *, writes: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer with the template and the control tokens of ``dialect``."""
    made = tiny.tokenizer("bytelevel", dialect.template(writes=writes))
    made.add_special_tokens({"additional_special_tokens": list(dialect.marks)})
    return made


_ALL = (
    Dialect(
        "tool_call",
        _EACH
        + '<tool_call>\n{"name": "'
        + _NAME
        + '", "arguments": '
        + _ARGUMENTS
        + "}\n</tool_call>"
        + _END,
        ("<tool_call>", "</tool_call>"),
        'Write <tool_call>\n{"name": "...", "arguments": {}}\n</tool_call>.',
    ),
    Dialect(
        "json-parameters",
        _EACH + '{"name": "' + _NAME + '", "parameters": ' + _ARGUMENTS + "}" + _END,
        (),
        'Respond with {"name": the function, "parameters": its arguments}.',
        several=False,
    ),
    Dialect(
        "json-arguments",
        _EACH + '<|python_tag|>{"name": "' + _NAME + '", "arguments": ' + _ARGUMENTS + "}" + _END,
        ("<|python_tag|>",),
        'Respond with {"name": the function, "arguments": its arguments}.',
        several=False,
    ),
    Dialect("tool-calls-list", "[TOOL_CALLS]" + _LIST, ("[TOOL_CALLS]",), " [AVAILABLE_TOOLS]"),
    Dialect(
        "tool-calls-named",
        _EACH + "[TOOL_CALLS]" + _NAME + "[ARGS]" + _ARGUMENTS + _END,
        ("[TOOL_CALLS]", "[ARGS]"),
    ),
    Dialect("tool-call-list", "<|tool_call|>" + _LIST, ("<|tool_call|>",), "Use <|tool_call|>."),
    Dialect(
        "function-parameter",
        _EACH
        + "<tool_call>\n<function="
        + _NAME
        + ">\n"
        + _PAIRS
        + "<parameter={{ key }}>\n"
        + _VALUE
        + "\n</parameter>\n"
        + _END
        + "</function>\n</tool_call>"
        + _END,
        (),
        "Write <function=name>\n<parameter=key>\nvalue\n</parameter>\n</function>.",
    ),
    Dialect(
        "function-json",
        _EACH + "<function=" + _NAME + ">" + _ARGUMENTS + "</function>" + _END,
        (),
        "Write <function=name>{}</function>.",
    ),
    Dialect(
        "name-arg-key",
        _EACH
        + "<tool_call>"
        + _NAME
        + "\n"
        + _PAIRS
        + "<arg_key>{{ key }}</arg_key>\n<arg_value>"
        + _VALUE
        + "</arg_value>\n"
        + _END
        + "</tool_call>"
        + _END,
        (),
        "Write <tool_call>name\n<arg_key>key</arg_key>.",
    ),
    Dialect(
        "invoke-parameter",
        "<calls:tool_calls>\n"
        + _EACH
        + '<calls:invoke name="'
        + _NAME
        + '">\n'
        + _PAIRS
        + '<calls:parameter name="{{ key }}">'
        + _VALUE
        + "</calls:parameter>\n"
        + _END
        + "</calls:invoke>\n"
        + _END
        + "</calls:tool_calls>",
        (),
        'Write <calls:invoke name="...">.',
        several=False,
    ),
    Dialect(
        "python-list",
        "<|tool_call_start|>["
        + _EACH
        + _NAME
        + "("
        + _PAIRS
        + "{{ key }}={{ value | tojson }}{{ ', ' if not loop.last }}"
        + _END
        + ")"
        + _COMMA
        + _END
        + "]<|tool_call_end|>",
        ("<|tool_call_start|>", "<|tool_call_end|>"),
        "Use <|tool_call_start|>.",
    ),
    Dialect(
        "calls-begin-fence",
        "<\uff5ctool\u2581calls\u2581begin\uff5c>"
        + _EACH
        + "<\uff5ctool\u2581call\u2581begin\uff5c>function<\uff5ctool\u2581sep\uff5c>"
        + _NAME
        + "\n```json\n"
        + _ARGUMENTS
        + "\n```<\uff5ctool\u2581call\u2581end\uff5c>"
        + _END
        + "<\uff5ctool\u2581calls\u2581end\uff5c>",
        tuple(
            f"<\uff5ctool\u2581{part}\uff5c>"
            for part in (
                "calls\u2581begin",
                "call\u2581begin",
                "sep",
                "call\u2581end",
                "calls\u2581end",
            )
        ),
    ),
    Dialect(
        "calls-section",
        "<|tool_calls_section_begin|>"
        + _EACH
        + "<|tool_call_begin|>functions."
        + _NAME
        + ":{{ loop.index0 }}<|tool_call_argument_begin|>"
        + _ARGUMENTS
        + "<|tool_call_end|>"
        + _END
        + "<|tool_calls_section_end|>",
        (
            "<|tool_calls_section_begin|>",
            "<|tool_call_begin|>",
            "<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
            "<|tool_calls_section_end|>",
        ),
    ),
    Dialect(
        "action-list",
        "<|START_ACTION|>["
        + _EACH
        + '{"tool_call_id": "{{ loop.index0 }}", "tool_name": "'
        + _NAME
        + '", "parameters": '
        + _ARGUMENTS
        + "}"
        + _COMMA
        + _END
        + "]<|END_ACTION|>",
        ("<|START_ACTION|>", "<|END_ACTION|>"),
    ),
    Dialect(
        "channel-call",
        _EACH
        + "<|tool_call>call:"
        + _NAME
        + "{{ '{' }}"
        + _PAIRS
        + '{{ key }}:{% if value is string %}<|"|>{{ value }}<|"|>{% else %}{{ value | tojson }}'
        + "{% endif %}{{ ',' if not loop.last }}"
        + _END
        + "{{ '}' }}<tool_call|>"
        + _END,
        ("<|tool_call>", "<tool_call|>", '<|"|>'),
    ),
    Dialect(
        "tool-calls-tag-list",
        "<TOOLCALL>" + _LIST + "</TOOLCALL>",
        (),
        "Write <TOOLCALL>[...]</TOOLCALL>.",
    ),
    Dialect("functools", "functools" + _LIST, (), "Write functools[...]."),
)


def _executable(form: str) -> bool:
    """Whether the installed transformers can read the form (the lowest release knows fewer)."""
    (template,) = [known.template for known in FORMS if known.name == form]
    try:
        tiny.tokenizer("bytelevel").get_response_parser(dict(template), prefix="")
    except ValueError:
        return False
    return True


DIALECTS = tuple(dialect for dialect in _ALL if _executable(dialect.form))
