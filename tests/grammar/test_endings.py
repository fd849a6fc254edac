"""Endings of patterns, against Python's own regular expressions."""

from __future__ import annotations

import re

import pytest

from specfuse_core.grammar.endings import Endings, Trail
from specfuse_core.grammar.patterns import UnknownSyntaxError, parse


def words(pattern: str, text: str = "", *, in_json: bool = False) -> tuple[str, ...]:
    endings = Endings(parse(pattern), in_json=in_json)
    return endings.words(endings.after(endings.start, text))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"\d{3}-\d{4}", "12"),
        (r"(foo|bar)baz", "fo"),
        (r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}", "B"),
        (r"x{2,}y?z", "x"),
        (r"(?:ab)+[^a-z]", "ab"),
        (r"(?i)yes|no", "y"),
        (r"(?P<year>\d{4})\.\x41\t", "19"),
        (r"[\w.-]+@[\w-]+", "me"),
        (r"a*?b+?", ""),
        (r"[]a]\]", ""),
        (r"\$[\d,]+\.\d\d", "$1"),
        (r"\D\S\W", ""),
    ],
)
def test_a_word_completes_a_match(pattern: str, text: str) -> None:
    found = words(pattern, text)
    assert found
    assert any(re.fullmatch(pattern, text + word) for word in found)
    for word in found:
        assert re.search(f"(?:{pattern.removeprefix('(?i)')})\\Z", text + word, re.IGNORECASE)


def test_the_shortest_word_comes_first_and_uses_what_is_written() -> None:
    assert words(r"\d{3}-\d{4}", "call 55")[0] == "0-0000"
    assert words("abc", "xab") == ("c", "abc")


def test_unicode_classes_have_examples() -> None:
    assert words(r"\p{Lu}\p{L}+\d", "Äж")[0] == "0"
    assert words(r"\p{Cyrillic}+!", "ж")[0] == "!"


def test_words_of_json_strings_are_escaped() -> None:
    assert words(r'"\\', in_json=True) == (r"\"\\",)
    assert words(r'"\\', r"\"", in_json=True)[0] == r"\\"


@pytest.mark.parametrize(
    "pattern",
    ["a(?=b)", "(?<!a)b", "a(", "a)", "[a", "[a&&b]", "*a", "a{2", r"\1", "(a{1000}){1000}", "\\"],
)
def test_unknown_syntax_is_refused(pattern: str) -> None:
    with pytest.raises(UnknownSyntaxError):
        parse(pattern)


def test_patterns_are_found_in_a_grammar() -> None:
    grammar = (
        'start: "a/b/" X | j // /no/\nX: /p\\/q/\n'
        'j: %json {"properties": {"x": {"pattern": "r"}}, "patternProperties": {"^s": {}}}\n'
        "y: /(?=t)/ | /u/\n"
    )
    assert Trail.of(grammar).words() == ("r", "s", "u", "p/q")
