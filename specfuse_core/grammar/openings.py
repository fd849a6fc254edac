"""Finds where the calls of an answer open and end.

A mark opens a call only at the start of the answer or of a line, outside of reasoning and of code
fences, and only if the name of an offered tool follows (DESIGN section 6). Everywhere else it is
text. ``grammar.answers`` writes the same rule as a grammar. This module sees characters only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from specfuse_core.grammar.boundaries import complete_words
from specfuse_core.grammar.calls import ARGUMENT_KEYS, CALL_CLOSE, CALL_OPEN, ObjectEnd
from specfuse_core.grammar.thoughts import end_of_thought

__all__ = ["Offered", "Opening", "Place"]

_SPACE = " \t\r\n"
_INDENT = re.compile(" *")
_NAMED = re.compile(rf'{CALL_OPEN}\s*\{{\s*"name"\s*:\s*"([\w.\-]+)"')
_BEGUN_NAME = re.compile(r'(?:"[\w.\-]*)?')
_FENCE = re.compile(r" {0,3}(?:(`{3,})[^`]*|(~{3,}).*)")


@dataclass(frozen=True, slots=True)
class Place:
    """A position in the lines of an answer.

    Args:
        line: the current line up to the position.
        fence: the mark of the code fence that is open; empty if none is.
    """

    line: str = ""
    fence: str = ""

    @property
    def begins_line(self) -> bool:
        """Whether a call may open here: at the start of a line, outside of code fences."""
        return not self.fence and len(self.line) <= 3 and not self.line.strip(" ")

    def after(self, text: str) -> Place:
        """Return the position after ``text``."""
        *lines, last = (self.line + text).split("\n")
        fence = self.fence
        for line in lines:
            match = _FENCE.fullmatch(line.removesuffix("\r"))
            mark = (match[1] or match[2])[:3] if match else ""
            if not fence:
                fence = mark
            elif mark == fence and not line.strip().strip(mark[0]):
                fence = ""
        return Place(last, fence)


@dataclass(frozen=True, slots=True)
class Opening:
    """The beginning of a call in a text.

    Args:
        start: where its mark begins.
        end: where its arguments begin; None if the text ends before them.
        name: name of the tool; empty if the text ends before it.
    """

    start: int
    end: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Call:
    """A call in an answer: ``known`` once its tool is known, with an ``end`` once it is closed."""

    start: int
    known: bool
    end: int | None


@dataclass(frozen=True, slots=True)
class Offered:
    """The tools that an answer may call.

    Args:
        names: names of the tools. If there are none, no call is found in a text, but segments
            still end where a call of any tool would, since models vote on whole calls.
        thinks: whether the answer may begin with reasoning.
    """

    names: tuple[str, ...] = ()
    thinks: bool = True

    def find(self, text: str, place: Place) -> Opening | None:
        """Return the first place in ``text`` where a call opens, or may open once it goes on.

        Args:
            text: text of the answer, outside of reasoning and calls.
            place: the position at which it begins.
        """
        return self._find(text, place) if self.names else None

    def _find(self, text: str, place: Place) -> Opening | None:
        for start, here in _line_starts(text, place):
            at = _INDENT.match(text, start).end()  # type: ignore[union-attr]
            if text[at : at + 1] not in CALL_OPEN[:1] or at == len(text):
                continue
            if not here.after(text[start:at]).begins_line:
                continue
            found = self._head(text[at:])
            if found is not None:
                end, name = found
                return Opening(at, None if end is None else at + end, name)
        return None

    def in_call(self, answer: str) -> bool:
        """Whether ``answer`` ends inside a call."""
        calls = self._calls(answer)
        return bool(calls) and calls[-1].end is None and calls[-1].known

    def place(self, answer: str) -> Place:
        """Return the position at the end of ``answer``, which is outside of reasoning and calls."""
        calls = [call for call in self._calls(answer) if call.end is not None]
        begun = calls[-1].end if calls else self._begun(answer)
        return Place().after(answer[begun or 0 :])

    def begins_call(self, before: str, text: str) -> bool:
        """Whether ``text`` after ``before`` is an incomplete call, or may become one."""
        calls = self._calls(before + text)
        if not calls or calls[-1].end is not None:
            return False
        said = (before + text)[len(before) : calls[-1].start]
        return calls[-1].start >= len(before) and bool(text) and not said.strip()

    def complete_segment(self, before: str, text: str, *, free: bool = True) -> str:
        """Cut a draft back to a complete segment: a call, a thought, or complete words.

        Args:
            before: text of the answer before the draft.
            text: the drafted text; not empty.
            free: whether the text outside of calls and reasoning is unconstrained. Under a grammar,
                a segment may end inside a word.

        Returns:
            The segment, which is never empty.
        """
        whole, size = before + text, len(before)
        begun = self._begun(whole)
        if begun is None:
            return complete_words(text)
        if begun > size and not free:
            return text[: begun - size]
        for call in self._calls(whole):
            if call.end is not None and call.end <= size:
                continue
            said = whole[size : max(call.start, size)]
            if free and said.strip():
                return said.rstrip(" ")
            return text if call.end is None else whole[size : call.end]
        return complete_words(text) if free else text

    def _begun(self, answer: str) -> int | None:
        """Where the reasoning at the start of ``answer`` ends; None if it does not."""
        return end_of_thought(answer) if self.thinks else 0

    def _calls(self, answer: str) -> list[_Call]:
        at = self._begun(answer)
        calls: list[_Call] = []
        while at is not None:
            opening = self._find(answer[at:], Place())
            if opening is None:
                break
            end = None
            if opening.end is not None:
                arguments = answer[at + opening.end :]
                inside = ObjectEnd().feed(arguments)
                closed = arguments.find(CALL_CLOSE, inside)
                end = None if closed < 0 else at + opening.end + closed + len(CALL_CLOSE)
            calls.append(_Call(at + opening.start, bool(opening.name), end))
            at = end
        return calls

    def _head(self, text: str) -> tuple[int | None, str] | None:
        """Read the beginning of a call at the start of ``text``.

        Returns:
            Where its arguments begin, and the name; None in place of the former if the text ends
            before; None if this is no call.
        """
        names = {json.dumps(name, ensure_ascii=False): name for name in self.names or _any(text)}
        keys = dict.fromkeys(f'"{key}"' for key in ARGUMENT_KEYS)
        rest, name = text, ""
        for expected in ([CALL_OPEN], ["{"], ['"name"'], [":"], names, [","], keys, [":"]):
            rest = rest.lstrip(_SPACE) if rest is not text else rest
            found = next((each for each in expected if rest.startswith(each)), None)
            if found is None:
                begins = any(each.startswith(rest) for each in expected)
                if expected is names and not self.names:
                    begins = _BEGUN_NAME.fullmatch(rest) is not None
                return (None, name) if begins else None
            name = names[found] if expected is names else name
            rest = rest[len(found) :]
        rest = rest.lstrip(_SPACE)
        return (len(text) - len(rest), name) if rest else (None, name)


def _any(text: str) -> tuple[str, ...]:
    """The name of the tool that ``text``, the beginning of a call, calls; none if it has none."""
    named = _NAMED.match(text)
    return () if named is None else (named[1],)


def _line_starts(text: str, place: Place) -> Iterator[tuple[int, Place]]:
    """Yield each position in ``text`` from which a line may begin, and what precedes it."""
    start, here = 0, place
    yield start, here
    for match in re.finditer("\n", text):
        here, start = here.after(text[start : match.end()]), match.end()
        yield start, here
