"""Where a segment may end, and what is held back as a possible stop string."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from specfuse_core.grammar.boundaries import StopBuffer, complete_characters, complete_words

invariant = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Written apart from the module under test: a letter or digit, its marks, and what joins them.
WORD_CHARACTER = re.compile(r"[^\W_]|[_'\u2019\u2010\u2011-]")
UNSPACED_BLOCKS = (
    "CJK UNIFIED",
    "CJK COMPATIBILITY",
    "HIRAGANA",
    "KATAKANA",
    "THAI",
    "LAO",
    "KHMER",
)


def is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def is_unspaced(character: str) -> bool:
    return unicodedata.name(character, "").startswith(UNSPACED_BLOCKS)


def splits_a_word(text: str, cut: int) -> bool:
    """Whether ``cut`` separates two characters of one word, or a mark from its base."""
    before, after = text[cut - 1], text[cut]
    if is_mark(after):
        return True
    base = next((c for c in reversed(text[:cut]) if not is_mark(c)), before)
    both_in_word = all(WORD_CHARACTER.match(character) for character in (base, after))
    return both_in_word and not (is_unspaced(base) or is_unspaced(after))


words = st.text(
    alphabet=st.sampled_from(
        "abZé9 \n\t.,!?'\u2019-_(){}\"§中文字かカ。、กำ้ក្\u0301\u0308\U000e0100😀"
    ),
    max_size=30,
)


@invariant
@given(words | st.text(max_size=30))
def test_complete_words_keeps_a_start_and_never_nothing(text: str) -> None:
    kept = complete_words(text)
    assert text.startswith(kept)
    assert bool(kept) == bool(text)


@invariant
@given(words)
@example("ab 葛\U000e0100 c")
@example("日葛\U000e0100")
@example("3.14159")
def test_complete_words_never_cuts_inside_a_word(text: str) -> None:
    kept = complete_words(text)
    if kept != text:
        assert not splits_a_word(text, len(kept))
        assert not kept.rstrip("\r\n")[-1].isspace()


@invariant
@given(words)
def test_complete_words_is_stable_under_a_following_space(text: str) -> None:
    # What is kept is complete in itself: with a space behind it, all of it is kept again.
    kept = complete_words(text)
    if kept != text:
        assert complete_words(kept + " ") == kept


@invariant
@given(words, st.text(alphabet="abcé9", min_size=1, max_size=8))
def test_complete_words_drops_exactly_a_word_begun(text: str, begun: str) -> None:
    kept = complete_words(f"{text} ok {begun}")
    assert kept == f"{text} ok"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("hello", "hello"),
        ("hello wor", "hello"),
        ("hello world ", "hello world"),
        ("hello\n\n", "hello\n\n"),
        ("hello.\nwor", "hello.\n"),
        ("hello.\r\n\r\n  wor", "hello.\r\n\r\n"),
        ("hello \nwor", "hello"),
        ("hello,", "hello,"),
        ("hello, wor", "hello,"),
        ("He said: yes.", "He said: yes."),
        (" world", " world"),
        ("\n\nworld", "\n\nworld"),
        ("   ", "   "),
        # nothing is cut inside a number, an apostrophe or a compound
        ("pi is 3.14", "pi is"),
        ("about 1,000 ", "about 1,000"),
        ("I don't", "I"),
        ("I don\u2019t kno", "I don\u2019t"),
        ("I don'", "I"),
        ("a half-bak", "a"),
        ("call snake_", "call"),
        ("see foo.bar", "see"),
        ("call f(x", "call"),
        ('he said "hel', "he said"),
        # scripts without spaces are complete everywhere
        ("今日は天", "今日は天"),
        ("カタカ", "カタカ"),
        ("ภาษาไท", "ภาษาไท"),
        ("ភាសា", "ភាសា"),
        ("中文ab", "中文"),
        ("ab中", "ab中"),
        ("好。wor", "好"),
        ("好。天wo", "好。天"),
        # marks stay with their base
        ("ok cafe\u0301", "ok"),
        ("cafe\u0301", "cafe\u0301"),
        ("cafe\u0301 x", "cafe\u0301"),
        ("हिन्दी मे", "हिन्दी"),
        ("か\u3099ab", "か\u3099"),
        ("ยินดีab", "ยินดี"),
        ("日葛\U000e0100", "日葛\U000e0100"),
        ("日葛\U000e0100ab", "日葛\U000e0100"),
        ("9\u0e49", "9\u0e49"),
        ("a 9\u0e499", "a"),
        ("I \u2764\ufe0f", "I \u2764\ufe0f"),
        # Korean, Greek and Cyrillic write spaces
        ("안녕하세요 여러", "안녕하세요"),
        ("добрый ден", "добрый"),
    ],
)
def test_complete_words_by_hand(text: str, kept: str) -> None:
    assert complete_words(text) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("abc", "abc"),
        ("abc\ufffd", "abc"),
        ("abc\ufffd\ufffd\ufffd", "abc"),
        ("a\ufffdc", "a\ufffdc"),
        ("\ufffd", ""),
    ],
)
def test_complete_characters_drops_only_what_is_unfinished(text: str, kept: str) -> None:
    assert complete_characters(text) == kept


def feed_all(stop: list[str], chunks: list[str]) -> tuple[list[str], bool]:
    """Return the emitted text per chunk, and whether a stop string was found."""
    buffer = StopBuffer(stop)
    emitted = []
    for chunk in chunks:
        shown, stopped = buffer.feed(chunk)
        emitted.append(shown)
        if stopped:
            assert buffer.flush() == ""
            return emitted, True
    emitted.append(buffer.flush())
    return emitted, False


def offline(stop: list[str], text: str) -> tuple[str, bool]:
    """The first prefix of ``text`` that ends with a stop string, without that string."""
    for end in range(len(text) + 1):
        starts = [end - len(s) for s in stop if text[:end].endswith(s)]
        if starts:
            return text[: min(starts)], True
    return text, False


letters = st.text(alphabet="abc", max_size=5)
stops = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3)


@invariant
@given(stops, st.lists(letters, max_size=10))
@example(["abcd", "bc"], ["abc"])
@example(["abcd", "bc"], ["ab", "cd"])
@example(["aab"], ["a", "a", "a", "b"])
def test_stop_buffer_is_the_same_however_the_text_is_cut(
    stop: list[str], chunks: list[str]
) -> None:
    emitted, stopped = feed_all(stop, chunks)
    assert ("".join(emitted), stopped) == offline(stop, "".join(chunks))


@invariant
@given(stops, st.lists(letters, max_size=10))
def test_stop_buffer_loses_nothing_and_holds_no_more_than_it_must(
    stop: list[str], chunks: list[str]
) -> None:
    buffer = StopBuffer(stop)
    fed = emitted = ""
    for chunk in chunks:
        shown, stopped = buffer.feed(chunk)
        if stopped:
            return
        fed += chunk
        emitted += shown
        held = fed[len(emitted) :]
        assert fed == emitted + held
        # What is held could still become a stop string; nothing that could not is held.
        assert held == "" or any(s.startswith(held) and s != held for s in stop)
    assert emitted + buffer.flush() == fed
    assert buffer.flush() == ""


def test_stop_buffer_without_stop_strings_passes_all_on_at_once() -> None:
    buffer = StopBuffer(())
    assert buffer.feed("abc") == ("abc", False)
    assert buffer.flush() == ""


def test_a_stop_string_may_span_segments() -> None:
    buffer = StopBuffer(["</end>"])
    assert buffer.feed("text </") == ("text ", False)
    assert buffer.feed("en") == ("", False)
    assert buffer.feed("d> more") == ("", True)


def test_a_false_start_is_given_back() -> None:
    buffer = StopBuffer(["</end>"])
    assert buffer.feed("text </e") == ("text ", False)
    assert buffer.feed("m>") == ("</em>", False)


@pytest.mark.parametrize(
    ("stop", "text", "kept"),
    [
        (["b", "a"], "xab", "x"),
        (["ab", "b"], "xab", "x"),
        (["ab", "abc"], "xabc", "x"),
        (["abcd", "bc"], "xabcd", "xa"),
        (["a"], "a", ""),
    ],
)
def test_of_several_stop_strings_the_first_to_end_counts(
    stop: list[str], text: str, kept: str
) -> None:
    assert StopBuffer(stop).feed(text) == (kept, True)
    emitted, stopped = feed_all(stop, list(text))
    assert ("".join(emitted), stopped) == (kept, True)
