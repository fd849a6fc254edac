"""Content of messages that is not text: files that hold text, and media that no model here can see.

This module knows no framework. The blocks of each framework are in its own package.
"""

from __future__ import annotations

import base64
import binascii
import warnings
from collections.abc import Iterable

from specfuse_core.errors import HiddenContentWarning, InvalidMessageError
from specfuse_core.values import shown

__all__ = ["placeholder", "plain_text", "unsupported", "warn_of_hidden"]

#: Types of files that are text, besides ``text/*``.
_TEXTS = ("application/json", "application/xml", "application/yaml", "application/x-yaml")
#: Prefixes and suffixes that providers give to the names of media.
_AROUND = ("input_", "output_", "_url")


def plain_text(data: bytes | str, mime_type: str | None) -> str | None:
    """Return the text of a file; None if it is not a text file.

    Args:
        data: the content, encoded as base64 if it is a string.
        mime_type: the type of the content; None if it is not known.
    """
    if mime_type is not None:
        kind = mime_type.partition(";")[0].strip()
        if not kind.startswith("text/") and kind not in _TEXTS:
            return None
    try:
        raw = base64.b64decode(data, validate=True) if isinstance(data, str) else data
        text = raw.decode()
    except (binascii.Error, ValueError):
        return None
    return None if "\0" in text or text.startswith("%PDF") else text


def placeholder(kind: str) -> str:
    """Return the text that stands for media in the message of a model or a tool."""
    for part in _AROUND:
        kind = kind.removeprefix(part).removesuffix(part)
    return f"[{kind}: not shown to the models]"


def unsupported(where: str, kind: object) -> InvalidMessageError:
    """The error for content that is not text.

    Args:
        where: the message, for example ``a HumanMessage``.
        kind: the type of the content.
    """
    return InvalidMessageError(
        f"{where} has a content block of type {shown(kind)}, but only text is supported. Describe "
        "the content in words, or leave it out."
    )


def warn_of_hidden(kinds: Iterable[str]) -> None:
    """Issue one warning if there are ``kinds`` of content that became placeholders."""
    names = sorted(set(kinds))
    if names:
        warnings.warn(
            f"messages of models or tools have content of type {', '.join(map(repr, names))}, "
            "which the models cannot see. They get a placeholder instead. Let tools return text.",
            HiddenContentWarning,
            stacklevel=2,
        )
