"""Parses a regular expression into an automaton over characters.

The automaton is only a guide for a search (see ``endings``), not an exact matcher. Anchors are
taken as empty, and expressions with other syntax (look-around, back-references) are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from specfuse_core.grammar.characters import (
    POSIX,
    SHORTHANDS,
    Characters,
    category,
    folded,
)

__all__ = ["Expression", "UnknownSyntaxError", "parse"]

#: The largest number of states of an automaton.
_MOST_STATES = 2_000

_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}


class UnknownSyntaxError(ValueError):
    """The expression has syntax that this module does not know, or too many states."""


@dataclass(slots=True)
class Expression:
    """A parsed expression: an automaton with one start and one end.

    Attributes:
        steps: for each state, the characters that lead on and the next state.
        jumps: for each state, the states that it reaches without a character.
        start: the first state.
        end: the state in which the expression has matched.
    """

    steps: list[list[tuple[Characters, int]]] = field(default_factory=list)
    jumps: list[list[int]] = field(default_factory=list)
    start: int = 0
    end: int = 0

    def state(self) -> int:
        """Add a state."""
        if len(self.steps) >= _MOST_STATES:
            raise UnknownSyntaxError(f"more than {_MOST_STATES} states")
        self.steps.append([])
        self.jumps.append([])
        return len(self.steps) - 1


def parse(pattern: str) -> Expression:
    """Return the automaton of a regular expression.

    Raises:
        UnknownSyntaxError: if the expression is not understood.
    """
    return _Parser(pattern).parse()


# A part of an expression: adds its states from a given state on, and returns the last one.
_Part = Callable[[int], int]


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._rest = pattern
        self._made = Expression()
        # The flags "i" and "s".
        self._flags = frozenset[str]()

    def parse(self) -> Expression:
        whole = self._alternatives()
        if self._rest:
            raise UnknownSyntaxError(f"unbalanced {self._rest[0]!r}")
        self._made.start = self._made.state()
        self._made.end = whole(self._made.start)
        return self._made

    def _take(self, *texts: str) -> str:
        """Return the first of ``texts`` that comes next, and move behind it."""
        for text in texts:
            if self._rest.startswith(text):
                self._rest = self._rest[len(text) :]
                return text
        return ""

    def _next(self) -> str:
        if not self._rest:
            raise UnknownSyntaxError("unexpected end")
        return self._take(self._rest[0])

    def _until(self, end: str) -> str:
        text, found, self._rest = self._rest.partition(end)
        if not found:
            raise UnknownSyntaxError(f"{end!r} is missing")
        return text

    def _alternatives(self) -> _Part:
        flags = self._flags
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        self._flags = flags
        return branches[0] if len(branches) == 1 else self._either(branches)

    def _either(self, branches: list[_Part]) -> _Part:
        def add(start: int) -> int:
            ends = [branch(self._jump(start)) for branch in branches]
            end = self._made.state()
            for each in ends:
                self._made.jumps[each].append(end)
            return end

        return add

    def _sequence(self) -> _Part:
        parts = []
        while self._rest and self._rest[0] not in "|)":
            parts.append(self._repeated(self._atom()))

        def add(start: int) -> int:
            for part in parts:
                start = part(start)
            return start

        return add

    def _repeated(self, part: _Part) -> _Part:
        while mark := self._take("*", "+", "?", "{"):
            low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(mark) or self._bounds()
            self._take("?", "+")  # lazy and possessive marks do not change what matches
            part = self._times(part, low, high)
        return part

    def _bounds(self) -> tuple[int, int | None]:
        low, comma, high = self._until("}").partition(",")
        try:
            return int(low or 0), (int(high) if high.strip() else None) if comma else int(low)
        except ValueError:
            raise UnknownSyntaxError("bad repetition") from None

    def _times(self, part: _Part, low: int, high: int | None) -> _Part:
        def add(start: int) -> int:
            for _ in range(low):
                start = part(start)
            if high is None:
                loop = self._jump(start)
                self._made.jumps[part(loop)].append(loop)
                return self._jump(loop)
            skips = [start]
            for _ in range(high - low):
                skips.append(start := part(start))
            end = self._made.state()
            for each in skips:
                self._made.jumps[each].append(end)
            return end

        return add

    def _jump(self, start: int) -> int:
        state = self._made.state()
        self._made.jumps[start].append(state)
        return state

    def _atom(self) -> _Part:
        char = self._next()
        if char == "(":
            return self._group()
        if char == "[":
            return self._one(self._class())
        if char in "^$":
            return lambda start: start
        if char == ".":
            line = () if "s" in self._flags else (("\n", "\n"),)
            return self._one(Characters(line, negated=True))
        if char == "\\":
            escaped = self._escape()
            return (lambda start: start) if escaped is None else self._one(escaped)
        if char in "*+?{":
            raise UnknownSyntaxError(f"nothing to repeat before {char!r}")
        return self._one(Characters(((char, char),)))

    def _group(self) -> _Part:
        flags = self._flags
        if self._take("?P<", "?<"):
            if self._rest[:1] in ("=", "!"):
                raise UnknownSyntaxError("look-behind")
            self._until(">")
        elif self._take("?"):
            on, _, off = self._take_flags().partition("-")
            self._flags = (flags | {*on}) - {*off}
            if self._take(")"):  # the flags hold for the rest of the group around
                return lambda start: start
            if not self._take(":"):
                raise UnknownSyntaxError("look-ahead")
        inner = self._alternatives()
        self._flags = flags
        if not self._take(")"):
            raise UnknownSyntaxError("')' is missing")
        return inner

    def _take_flags(self) -> str:
        flags = ""
        while mark := self._take(*"imsuUR-"):
            flags += mark
        return flags

    def _one(self, chars: Characters) -> _Part:
        chars = folded(chars) if "i" in self._flags else chars

        def add(start: int) -> int:
            end = self._made.state()
            self._made.steps[start].append((chars, end))
            return end

        return add

    def _class(self) -> Characters:
        negated = bool(self._take("^"))
        ranges: list[tuple[str, str]] = []
        kinds: list[Callable[[str], bool]] = []
        first = True
        while first or not self._take("]"):
            if self._take("[:"):
                kinds.append(self._posix(self._until(":]")))
            elif self._rest[:1] == "[" or self._take("&&", "--", "~~"):
                raise UnknownSyntaxError("operations on classes")
            else:
                low = self._class_part()
                if len(low.ranges) == 1 and not low.kinds and self._range_follows():
                    self._next()
                    high = self._class_part()
                    if len(high.ranges) != 1:
                        raise UnknownSyntaxError("bad range")
                    low = Characters(((low.ranges[0][0], high.ranges[0][0]),))
                ranges += () if low.negated else low.ranges
                kinds += (low.__contains__,) if low.negated else low.kinds
            first = False
        return Characters(tuple(ranges), tuple(kinds), negated)

    def _range_follows(self) -> bool:
        return self._rest[:1] == "-" and self._rest[1:2] not in ("]", "")

    def _posix(self, name: str) -> Callable[[str], bool]:
        kind = POSIX.get(name.removeprefix("^"))
        if kind is None:
            raise UnknownSyntaxError(f"class {name!r}")
        return (lambda char: not kind(char)) if name.startswith("^") else kind

    def _class_part(self) -> Characters:
        char = self._next()
        if char != "\\":
            return Characters(((char, char),))
        escaped = self._escape()
        if escaped is None:
            return Characters((("\b", "\b"),))
        return escaped

    def _escape(self) -> Characters | None:
        """Return the characters of an escape; None for an anchor."""
        char = self._next()
        if char in "bBAzZ":
            return None
        if char.lower() in SHORTHANDS:
            return Characters(kinds=(SHORTHANDS[char.lower()],), negated=char.isupper())
        if char in "pP":
            name = self._until("}").removeprefix("{") if self._rest[:1] == "{" else self._next()
            return Characters(kinds=(category(name),), negated=char == "P")
        if char in "xuU":
            char = self._code({"x": 2, "u": 4, "U": 8}[char])
        elif char in _CONTROLS:
            char = _CONTROLS[char]
        elif char.isalnum():
            raise UnknownSyntaxError(f"escape {char!r}")
        return Characters(((char, char),))

    def _code(self, digits: int) -> str:
        if self._take("{"):
            code = self._until("}")
        else:
            code, self._rest = self._rest[:digits], self._rest[digits:]
        try:
            return chr(int(code, 16))
        except (ValueError, OverflowError):
            raise UnknownSyntaxError(f"code {code!r}") from None
