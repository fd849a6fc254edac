"""The chat templates: one per bundled model, with different formats on purpose.

All of them support system, user, assistant and tool messages, tool descriptions, and tool calls in
the common format of the ensemble: a `<tool_call>` block of plain text. A system message may occur
anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

_TOOLS = """\
{%- macro describe(tools) -%}
You can call these tools:
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}To call one, write:
<tool_call>
{"name": "...", "arguments": {...}}
</tool_call>
{%- endmacro -%}
{%- macro body(message) -%}
{{ message['content'] or '' }}
{%- for call in message['tool_calls'] or [] -%}
{%- set function = call['function'] or call -%}
{{ '\\n' if message['content'] or not loop.first else '' }}<tool_call>
{"name": {{ function['name'] | tojson }}, "arguments": {{ function['arguments'] \
if function['arguments'] is string else function['arguments'] | tojson }}}
</tool_call>
{%- endfor -%}
{%- endmacro -%}
"""


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """The special tokens of a chat format, and the template that inserts them."""

    template: str
    end_of_turn: str
    pad: str
    marks: tuple[str, ...]  # the other special tokens
    begin: str | None = None


def _template(begin: str, opening: str, closing: str) -> str:
    """Build a template. `opening` and `closing` of a message are Jinja, which can use `role`."""
    first = opening.replace("role", "'system'")
    answer = opening.replace("role", "'assistant'")
    return (
        _TOOLS
        + begin
        + "{%- if tools and not (messages and messages[0]['role'] == 'system') -%}"
        + f"{first}{{{{ describe(tools) }}}}{closing}"
        + "{%- endif -%}"
        + "{%- for message in messages -%}{%- set role = message['role'] -%}"
        + f"{opening}{{{{ body(message) }}}}"
        + "{%- if tools and loop.first and role == 'system' -%}"
        + "{{ '\\n\\n' }}{{ describe(tools) }}{%- endif -%}"
        + f"{closing}{{%- endfor -%}}"
        + f"{{%- if add_generation_prompt -%}}{answer}{{%- endif -%}}"
    )


# One special token per role: <|user|>\n...<|end|>\n
ROLE_MARKS = ChatFormat(
    template=_template(
        "{{- bos_token -}}", "{{- '<|' + role + '|>\\n' -}}", "{{- '<|end|>\\n' -}}"
    ),
    end_of_turn="<|end|>",
    pad="<|pad|>",
    begin="<|begin|>",
    marks=("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"),
)
# Headers: <|start|>user<|text|>...<|stop|>\n
HEADERS = ChatFormat(
    template=_template("", "{{- '<|start|>' + role + '<|text|>' -}}", "{{- '<|stop|>\\n' -}}"),
    end_of_turn="<|stop|>",
    pad="<|pad|>",
    marks=("<|start|>", "<|text|>"),
)
# ChatML: <|im_start|>user\n...<|im_end|>\n
CHATML = ChatFormat(
    template=_template("", "{{- '<|im_start|>' + role + '\\n' -}}", "{{- '<|im_end|>\\n' -}}"),
    end_of_turn="<|im_end|>",
    pad="<|endoftext|>",
    marks=("<|im_start|>",),
)
