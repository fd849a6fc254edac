"""The examples in the docstrings of the public classes run, and print what stands below them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

from langchain_specfuse import ChatSpecFuse
from llamaindex_specfuse import SpecFuseLLM

#: A block of Python, and the block with its output that may follow.
_BLOCKS = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)


def examples(thing: Any) -> Iterator[tuple[str, str]]:
    """The examples of a docstring, each with its output."""
    text = inspect.getdoc(thing) or ""
    # Sections indent their examples.
    flat = re.sub(r"^ {4}", "", text, flags=re.MULTILINE)
    yield from _BLOCKS.findall(flat)


@pytest.mark.parametrize("thing", [ChatSpecFuse, SpecFuseLLM], ids=lambda thing: thing.__name__)
async def test_examples_print_what_they_say(thing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    run = 0
    for code, output in examples(thing):
        # As in a notebook: await stands at the top level.
        compiled = compile(code, thing.__name__, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        pending = eval(compiled, names)
        if inspect.isawaitable(pending):
            await pending
        assert capsys.readouterr().out.rstrip("\n") == output.rstrip("\n"), code
        run += 1
    assert run >= 7


@pytest.mark.parametrize(
    ("thing", "parts"),
    [
        (
            ChatSpecFuse,
            (
                "Setup",
                "Key init args (models)",
                "Key init args (completion)",
                "Key init args (fusion)",
                "Instantiate",
                "Invoke",
                "Stream",
                "Async",
                "Tool calling",
                "Structured output",
                "Token usage",
                "Response metadata",
            ),
        ),
        (SpecFuseLLM, ("Examples",)),
    ],
)
def test_docstrings_have_the_parts_that_their_ecosystem_expects(
    thing: Any, parts: tuple[str, ...]
) -> None:
    found = re.findall(r"^(\w[^\n:]*):\n    ", inspect.getdoc(thing) or "", re.MULTILINE)
    assert [part for part in found if part in parts] == list(parts)
