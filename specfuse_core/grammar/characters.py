"""Sets of characters, as the classes of regular expressions describe them.

This module knows nothing of the syntax of expressions.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["POSIX", "SHORTHANDS", "Characters", "category", "folded"]

#: Characters to try as an example of a class, the preferred ones first.
_EXAMPLES = "a0A -_.@:/," + string.ascii_letters + string.digits + string.punctuation + "\téЖ中"

#: Conditions of the classes that POSIX names, as in ``[[:alpha:]]``.
POSIX: dict[str, Callable[[str], bool]] = {
    "alpha": str.isalpha,
    "digit": str.isdigit,
    "alnum": str.isalnum,
    "upper": str.isupper,
    "lower": str.islower,
    "space": str.isspace,
    "punct": string.punctuation.__contains__,
    "xdigit": string.hexdigits.__contains__,
    "word": lambda char: char.isalnum() or char == "_",
}
#: Conditions of ``\d``, ``\s`` and ``\w``.
SHORTHANDS = {"d": str.isdecimal, "s": str.isspace, "w": POSIX["word"]}


@dataclass(frozen=True, slots=True)
class Characters:
    """A set of characters.

    Args:
        ranges: first and last characters.
        kinds: conditions; a character that meets one of them belongs to the set.
        negated: whether the set holds all other characters instead.
    """

    ranges: tuple[tuple[str, str], ...] = ()
    kinds: tuple[Callable[[str], bool], ...] = ()
    negated: bool = False

    def __contains__(self, char: str) -> bool:
        found = any(low <= char <= high for low, high in self.ranges)
        return (found or any(kind(char) for kind in self.kinds)) != self.negated

    def example(self) -> str | None:
        """Return a character of the set; None if none was found."""
        tried: Iterable[str] = _EXAMPLES + "".join(low for low, _ in self.ranges)
        return next((char for char in tried if char in self), None)


def folded(chars: Characters) -> Characters:
    """Return the characters of a set in upper and lower case."""
    return Characters(kinds=(lambda char: char.lower() in chars or char.upper() in chars,))


def category(name: str) -> Callable[[str], bool]:
    """Return the condition of a general category of Unicode, or of a script by its name."""
    long = {"letter": "L", "number": "N", "punctuation": "P", "symbol": "S", "separator": "Z"}
    short = long.get(name.lower(), name)
    if len(short) <= 2:
        return lambda char: unicodedata.category(char).startswith(short)
    script = name.rpartition("=")[2].upper()
    return lambda char: unicodedata.name(char, "").startswith(script)
