"""A griffe extension: docstrings as Markdown.

Sphinx roles (``:meth:`stream```) become plain code, ``::`` before a block becomes a colon, and a
section ``Example:`` becomes one that griffe shows as code.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

__all__ = ["Roles"]

_ROLE = re.compile(r":(?:attr|class|func|meth|mod):`~?([^`]+)`")
_COLONS = re.compile(r"::$", re.MULTILINE)
_EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)


class Roles(Extension):
    """Rewrites the docstring of everything that is documented."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Called for each object when its module is read."""
        if obj.docstring is not None:
            text = _COLONS.sub(":", _ROLE.sub(r"`\1`", obj.docstring.value))
            obj.docstring.value = _EXAMPLE.sub(r"\1Examples:", text)
