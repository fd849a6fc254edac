"""Proposes texts that end a match of a regular expression, from any position in it.

A pattern that is not anchored may match anywhere in a string, so the bytes that are allowed next do
not show the way to its end. These endings do. They are proposals: whoever uses them must check
them against the grammar. This module knows nothing of matchers.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterator
from typing import Any

from specfuse_core.grammar.characters import Characters
from specfuse_core.grammar.patterns import Expression, UnknownSyntaxError, parse

__all__ = ["Endings", "Trail"]

#: Maximum number of endings that are proposed at one position.
_MOST_WORDS = 12
#: Maximum number of patterns of a grammar that are followed, and of characters of each.
_MOST_PATTERNS, _LONGEST_PATTERN = 64, 1_000
#: Maximum number of steps that are remembered for each pattern.
_MOST_STEPS = 20_000

#: How JSON writes characters that cannot stand for themselves in a string.
_ESCAPES = {'"': '"', "\\": "\\", "\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}

_DATE = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?"
#: Patterns of the formats whose ends are far from their beginnings.
_FORMATS = {
    "date": _DATE,
    "time": f"{_TIME}Z",
    "date-time": f"{_DATE}T{_TIME}Z",
    "uuid": "[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}",
    "ipv4": r"\d+\.\d+\.\d+\.\d+",
    "email": r"\w+@\w+",
    "uri": r"\w+:\w",
}

# Parts of a grammar in Lark: a string, a regular expression, a comment, or an embedded schema.
_LARK = re.compile(r'"(?:\\.|[^"\\])*"|//.*|/((?:\\.|[^/\\\n])+)/|(%json)\s*')

#: A set of states of one automaton.
Position = frozenset[int]


class Endings:
    """The endings of one pattern.

    Args:
        expression: the automaton of the pattern.
        in_json: whether the pattern describes the value of a JSON string, so that the text may
            hold escapes.
    """

    def __init__(self, expression: Expression, *, in_json: bool) -> None:
        self._expression = expression
        if in_json:
            _escape(expression)
        self._ways = _ways(expression)
        self._steps: dict[tuple[Position, str], Position] = {}
        self._words: dict[Position, tuple[str, ...]] = {}
        #: The position before any text.
        self.start = self._closure({expression.start})

    def after(self, position: Position, text: str) -> Position:
        """Return the position after ``text``. A match may begin at every character."""
        if len(self._steps) > _MOST_STEPS:
            self._steps.clear()
        for char in text:
            key = (position, char)
            found = self._steps.get(key)
            if found is None:
                steps = self._expression.steps
                reached = {to for state in position for chars, to in steps[state] if char in chars}
                found = self._steps[key] = self._closure(reached) | self.start
            position = found
        return position

    def words(self, position: Position) -> tuple[str, ...]:
        """Return texts that complete a match, the shortest first. None of them is empty."""
        if position not in self._words:
            if len(self._words) > _MOST_STEPS:
                self._words.clear()
            words = {self._word(state) for state in position if state in self._ways} - {""}
            ordered = sorted(words, key=lambda word: (len(word.encode()), word))
            self._words[position] = tuple(ordered[:_MOST_WORDS])
        return self._words[position]

    def _word(self, state: int) -> str:
        word = ""
        while state != self._expression.end:
            char, state = self._ways[state]
            word += char
        return word

    def _closure(self, states: set[int]) -> Position:
        found, new = set(states), list(states)
        while new:
            for state in self._expression.jumps[new.pop()]:
                if state not in found:
                    found.add(state)
                    new.append(state)
        return frozenset(found)


def _escape(expression: Expression) -> None:
    """Let the automaton read characters in the form that they have in a JSON string."""
    for steps in list(expression.steps):
        plain = []
        for chars, to in steps:
            plain.append((_plain(chars), to))
            letters = "".join(letter for char, letter in _ESCAPES.items() if char in chars)
            if letters:
                between = expression.state()
                plain.append((Characters((("\\", "\\"),)), between))
                each = Characters(tuple((letter, letter) for letter in letters))
                expression.steps[between].append((each, to))
        steps[:] = plain


def _plain(chars: Characters) -> Characters:
    return Characters(kinds=(lambda char: char in chars and char not in _ESCAPES and char >= " ",))


def _ways(expression: Expression) -> dict[int, tuple[str, int]]:
    """Return the next character and state on the shortest way to the end, for each state."""
    back: list[list[tuple[str, int]]] = [[] for _ in expression.steps]
    for state, steps in enumerate(expression.steps):
        for chars, to in steps:
            char = chars.example()
            if char is not None:
                back[to].append((char, state))
    for state, jumps in enumerate(expression.jumps):
        for to in jumps:
            back[to].append(("", state))
    ways: dict[int, tuple[str, int]] = {}
    heap, done = [(0, expression.end, "", -1)], set[int]()
    while heap:
        cost, state, char, to = heapq.heappop(heap)
        if state in done:
            continue
        done.add(state)
        ways[state] = (char, to)
        for char, before in back[state]:
            if before not in done:
                heapq.heappush(heap, (cost + len(char.encode()), before, char, state))
    return ways


class Trail:
    """The positions of one text in all patterns of a grammar. It does not change."""

    __slots__ = ("_endings", "positions")

    def __init__(self, endings: tuple[Endings, ...], positions: tuple[Position, ...]) -> None:
        self._endings = endings
        self.positions = positions

    @classmethod
    def of(cls, grammar: str) -> Trail:
        """Return the trail of the empty text. Patterns that are not understood are left out.

        Args:
            grammar: a grammar in llguidance's dialect of Lark.
        """
        found: list[Endings] = []
        for pattern, in_json in dict.fromkeys(_patterns(grammar)):
            if len(found) < _MOST_PATTERNS and len(pattern) <= _LONGEST_PATTERN:
                try:
                    found.append(Endings(parse(pattern), in_json=in_json))
                except (UnknownSyntaxError, RecursionError):
                    continue
        return cls(tuple(found), tuple(endings.start for endings in found))

    def after(self, text: str) -> Trail:
        """Return the trail after ``text``."""
        if not (text and self._endings):
            return self
        pairs = zip(self._endings, self.positions, strict=True)
        return Trail(self._endings, tuple(each.after(place, text) for each, place in pairs))

    def words(self) -> tuple[str, ...]:
        """Return texts that complete a match of one of the patterns, the shortest first."""
        pairs = zip(self._endings, self.positions, strict=True)
        words = {word for endings, place in pairs for word in endings.words(place)}
        return tuple(sorted(words, key=lambda word: (len(word), word)))


def _patterns(grammar: str) -> Iterator[tuple[str, bool]]:
    """Yield the patterns in a grammar, and whether each describes a JSON string."""
    place = 0
    while match := _LARK.search(grammar, place):
        place = match.end()
        if match[1]:
            yield match[1], False
        elif match[2]:
            try:
                schema, place = json.JSONDecoder().raw_decode(grammar, place)
            except (ValueError, RecursionError):
                continue
            yield from ((pattern, True) for pattern in _schema_patterns(schema))


def _schema_patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        pattern, properties = schema.get("pattern"), schema.get("patternProperties")
        if isinstance(pattern, str):
            yield pattern
        if schema.get("format") in _FORMATS:
            yield _FORMATS[schema["format"]]
        if isinstance(properties, dict):
            yield from properties
    values = schema.values() if isinstance(schema, dict) else schema
    if isinstance(schema, dict | list):
        for value in values:
            yield from _schema_patterns(value)
