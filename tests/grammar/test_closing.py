"""The ends of answers under everyday patterns and odd grammars, in a bounded number of steps."""

from __future__ import annotations

import itertools
import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specfuse_core.answer.follower import Follower
from specfuse_core.errors import InvalidConstraintError
from specfuse_core.grammar.answers import grammar_of
from specfuse_core.grammar.closing import any_close, quick_close, short_close
from specfuse_core.grammar.constraints import (
    Choice,
    Constraint,
    JsonSchema,
    Regex,
)
from specfuse_core.grammar.endings import Trail
from specfuse_core.grammar.matching import matcher_of, vocabulary_of
from specfuse_core.grammar.spots import Effort, Memory
from specfuse_core.grammar.tools import Tool

PATTERNS = {
    "phone": r"\d{3}-\d{4}",
    "anchored phone": r"^\+?[0-9 ()-]{7,15}$",
    "postcode": r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}",
    "date": r"^\d{4}-\d{2}-\d{2}$",
    "time": r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?",
    "uuid": r"^[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
    "email": r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}",
    "url": r"^https?://[^\s/$.?#][^\s]*$",
    "semver": r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$",
    "color": r"#[0-9a-fA-F]{6}",
    "address": r"^((25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(25[0-5]|2[0-4]\d|1?\d?\d)$",
    "price": r"\$\d+\.\d{2}",
    "plate": r"[A-Z]{1,3}-[A-Z]{1,2} \d{1,4}",
    "code": r"^[A-Z]{2}\d+$",
    "word": "abc",
    "alternatives": "(foo|bar)baz",
    "contained": ".*abc.*",
    "optional": r"^(Dr\. )?[A-Z][a-z]+( [A-Z][a-z]+)*$",
    "repeated": r"(ab){2,5}-(cd)+",
    "unicode": r"\p{Lu}\p{L}+ \d+",
    "nested": "(.*a){20}",
}


def in_object(pattern: str, **more: object) -> JsonSchema:
    text = {"type": "string", "pattern": pattern, **more}
    return JsonSchema(
        {
            "type": "object",
            "properties": {"name": {"type": "string"}, "value": text, "n": {"type": "integer"}},
            "required": ["name", "value", "n"],
            "additionalProperties": False,
        }
    )


def in_array(pattern: str) -> JsonSchema:
    return JsonSchema(
        {"type": "array", "items": {"type": "string", "pattern": pattern}, "minItems": 2}
    )


def followers(constraint: Constraint, seed: int, length: int = 30) -> list[Follower]:
    """Follow random text that the grammar allows, and return the follower after each character."""
    follower, rng = Follower(grammar_of(constraint) or ""), random.Random(seed)
    found = [follower]
    while len(found) < length and not follower.done:
        legal = [char for char in map(chr, range(32, 127)) if follower.legal(char)]
        # A quote would end a string soon, and a backslash begins an escape.
        legal = [char for char in legal if char not in '"\\'] or legal
        follower = follower.copy()
        follower.push(rng.choice(legal))
        found.append(follower)
    return found


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=list(PATTERNS))
@pytest.mark.parametrize("form", [Regex, in_object, in_array])
def test_everyday_patterns_are_closed_from_any_place(form: type, pattern: str) -> None:
    for follower in followers(form(pattern), seed=3):
        for shortest in (False, True):
            closing = follower.closing(shortest=shortest)
            assert closing is not None
            after = follower.copy()
            assert after.legal(closing) == len(closing)
            after.push(closing)
            assert after.may_end


@pytest.mark.parametrize("pattern", [PATTERNS[name] for name in ("phone", "word", "email")])
def test_patterns_with_lengths_are_closed(pattern: str) -> None:
    for follower in followers(in_object(pattern, minLength=25, maxLength=40), seed=1, length=75):
        assert follower.closing() is not None


def test_what_is_written_is_used() -> None:
    follower = Follower(grammar_of(in_object(r"\d{3}-\d{4}")) or "")
    follower.push('{"name": "Bo", "value": "call 555')
    assert follower.closing() == '-0000", "n": 0}'


def test_a_pattern_with_escapes_is_closed() -> None:
    follower = Follower(grammar_of(in_object(r'"a\\b"')) or "")
    follower.push('{"name": "", "value": "x')
    closing = follower.closing()
    assert closing is not None
    assert '"a\\b"' in json.loads('{"name": "", "value": "x' + closing)["value"]


@pytest.mark.parametrize("name", ["phone", "word", "contained", "nested", "email"])
def test_a_search_takes_a_bounded_number_of_steps(name: str) -> None:
    grammar = grammar_of(in_object(PATTERNS[name])) or ""
    vocabulary, trail = vocabulary_of((), slices=[]), Trail.of(grammar)
    matcher, written = matcher_of(vocabulary, grammar), '{"name": "Bo", "value": "x@1'
    matcher.consume_tokens([*written.encode()])
    trail = trail.after(written)
    effort = Effort()
    assert quick_close(matcher, trail, effort, Memory()) is not None
    assert effort.taken < 120
    for search in (
        lambda effort: short_close(matcher, trail, effort),
        lambda effort: any_close(matcher, trail, effort, Memory()),
    ):
        effort = Effort(100)
        search(effort)
        assert effort.taken < 600  # one state may take a step for each byte


def test_a_search_that_failed_is_left_out_for_a_while() -> None:
    """A search for ten thousand items gives up; the next ones cost less."""
    grammar = grammar_of(JsonSchema({"type": "array", "minItems": 10_000})) or ""
    matcher, memory = matcher_of(vocabulary_of((), slices=[]), grammar), Memory()
    taken = []
    for _ in range(10):
        effort = Effort()
        assert any_close(matcher, Trail.of(grammar), effort, memory) is None
        taken.append(effort.taken)
    assert sum(map(bool, taken)) == 2


def test_many_items_are_refused_or_quick() -> None:
    follower = Follower(grammar_of(JsonSchema({"type": "array", "minItems": 10_000})) or "")
    assert follower.closing() is None
    few = JsonSchema({"type": "array", "minItems": 500, "items": {"type": "integer"}})
    closing = Follower(grammar_of(few) or "").closing()
    assert closing is not None and json.loads(closing) == [0] * 500


@pytest.mark.parametrize(
    ("grammar", "says"),
    [
        ("start: /y+/ /y+/", "more than 50,000 bytes, which begins with 'yyyy"),
        ('%llguidance {"no_forcing": false}\nstart: /y+/ /y+/', "more than 50,000 bytes"),
        ('start: "ab" start', "more than 50,000 bytes, which begins with 'abab"),
        ("start: /[ab]+/ /[ab]+/", "no text that ends"),
        ('start: /[a-z]+/ " " /[a-z]+/ "x"', "no text that ends"),
        ('start: "a" b\nb: "x" b | "y" b', "no text that ends"),
    ],
)
def test_a_grammar_without_an_end_is_refused(grammar: str, says: str) -> None:
    with pytest.raises(InvalidConstraintError, match=re.escape(says)):
        Follower(grammar)


def test_a_pattern_that_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidConstraintError, match="more than 50,000 bytes"):
        Follower(grammar_of(Regex("(a{1000}){1000}")) or "")


def test_the_error_of_llguidance_is_told() -> None:
    many = " | ".join(f'"code {number}"' for number in range(3_000))
    with pytest.raises(InvalidConstraintError, match="3001 items; max is 2000") as caught:
        Follower(f"start: {many}")
    assert len(str(caught.value)) < 400


def test_long_repetitions_are_not_refused() -> None:
    for grammar, length in (
        ('start: ("ab" | "cd"){50} "z"', 101),
        ("start: /[ab]{1000}z/", 1_001),
        ('start: w " " w\nw: /[a-z]{300}/', 601),
    ):
        closing = Follower(grammar).closing()
        assert closing is not None and len(closing) == length


def test_a_long_fixed_text_is_forced_in_pieces() -> None:
    follower, text = Follower(f'start: "{"xy" * 4_000}" /[ab]/'), ""
    while forced := follower.forced:
        follower.push(forced)
        text += forced
    assert text == "xy" * 4_000


def test_a_choice_may_have_ten_thousand_options() -> None:
    options = [f'product {number} (ä/"{number % 7}")' for number in range(10_000)]
    follower = Follower(grammar_of(Choice(options)) or "")
    assert follower.legal(options[-1]) == len(options[-1])
    assert follower.legal("product 10000 ") < len("product 10000 ")
    follower.push(options[4_321])
    assert follower.may_end and follower.done
    grammar = grammar_of(Choice(options), [Tool("look", "Looks.", {})], "auto")
    assert Follower(grammar or "").legal(options[-1]) == len(options[-1])


ATOMS = ["a", "b", "[ab]", "[^a]", "c", "-", r"\d", "."]


@st.composite
def expressions(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.integers(0, 5)) if depth else 0
    inner = expressions(depth=depth - 1)
    if kind in (0, 1):
        return draw(st.sampled_from(ATOMS))
    if kind == 2:
        return draw(inner) + draw(inner)
    if kind == 3:
        return f"({draw(inner)}|{draw(inner)})"
    return f"({draw(inner)}){draw(st.sampled_from(['*', '+', '?', '{2}', '{1,3}']))}"


@settings(max_examples=120, deadline=None)
@given(expressions(), st.booleans(), st.integers(0, 1_000))
def test_a_closing_completes_the_grammar_and_is_found_if_there_is_one(
    pattern: str, search: bool, seed: int
) -> None:
    constraint = Regex(f".*{pattern}.*" if search else pattern)
    for follower in followers(constraint, seed, length=6):
        closing = follower.closing(shortest=True)
        short = shortest_by_trying(follower, 3)
        if closing is not None:
            after = follower.copy()
            assert after.legal(closing) == len(closing)
            after.push(closing)
            assert after.may_end
        if short is not None:
            assert closing is not None and len(closing) <= len(short)


def shortest_by_trying(follower: Follower, most: int) -> str | None:
    """Try all texts over a few characters, the shortest first."""
    for length in range(most + 1):
        for text in map("".join, itertools.product("abc-0", repeat=length)):
            if follower.legal(text) == len(text):
                after = follower.copy()
                after.push(text)
                if after.may_end:
                    return text
    return None
