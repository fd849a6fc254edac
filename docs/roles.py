"""A griffe extension: Sphinx roles in docstrings (``:meth:`stream```) become plain code."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

__all__ = ["Roles"]

_ROLE = re.compile(r":(?:attr|class|func|meth|mod):`~?([^`]+)`")


class Roles(Extension):
    """Rewrites the docstring of everything that is documented."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Called for each object when its module is read."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
