"""A griffe extension: docstrings as the Markdown that the API reference is made of.

This module knows forms of docstrings, and nothing of what they document.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

__all__ = ["Docstrings", "as_markdown"]

_ROLE = re.compile(r":(?:attr|class|func|meth|mod):`~?([^`]+)`")
_COLONS = re.compile(r"::$", re.MULTILINE)
_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
#: A section of LangChain's and LlamaIndex's docstrings: arguments by kind.
_ARGUMENTS = re.compile(r"^Key init args \((\w+)\):\n((?: +.*\n|\n)+)", re.MULTILINE)
_ARGUMENT = re.compile(r"^    ([a-z_]+(?:, [a-z_]+)*):$", re.MULTILINE)


class Docstrings(Extension):
    """Rewrites the docstring of everything that is documented."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Called for each object when its module is read."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """``docstring`` in forms that griffe and Markdown know.

    Sphinx roles become code, ``::`` before a block becomes a colon, an example becomes a section of
    examples, and arguments by kind become lists.
    """
    text = _COLONS.sub(":", _ROLE.sub(r"`\1`", docstring))
    return _ARGUMENTS.sub(_listed, _EXAMPLE.sub("Examples:", text))


def _listed(section: re.Match[str]) -> str:
    kind, arguments = section.groups()
    return f"Key init args - {kind}:\n" + _ARGUMENT.sub(r"    - `\1`:", arguments)
