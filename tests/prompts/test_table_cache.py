"""Byte tables on disk: read only if they are whole, and never in the way."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import tiny
from tokenizers import Tokenizer

from specfuse_core.prompts import byte_table, table_cache
from specfuse_core.prompts.codec import TextCodec

TABLE = [b"", b" the", b"\xf0\x9f", b"\n\n", b"", b"x" * 300]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPECFUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_table_is_read_as_it_was_stored(place: Path) -> None:
    assert table_cache.load("key", "label", len(TABLE)) is None
    table_cache.store("key", "label", TABLE)
    assert table_cache.load("key", "label", len(TABLE)) == TABLE
    assert [path.name for path in place.iterdir()] == ["key.bytes"]
    table_cache.store("key", "label", [])
    assert table_cache.load("key", "label", 0) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:-1],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw + b"x",
        lambda raw: b"PK\x03\x04" + raw,
        lambda raw: raw[:-40] + b"y" + raw[-39:],
        lambda raw: raw.replace(b"specfuse ", b"specfuse 9"),
        lambda raw: b"\x80\x04" + b"cos\nsystem\n",
    ],
)
def test_a_damaged_or_foreign_file_counts_as_none(place: Path, damage: object) -> None:
    table_cache.store("key", "label", TABLE)
    path = place / "key.bytes"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert table_cache.load("key", "label", len(TABLE)) is None
    table_cache.store("key", "label", TABLE)
    assert table_cache.load("key", "label", len(TABLE)) == TABLE


def test_a_table_of_another_label_or_size_counts_as_none(place: Path) -> None:
    table_cache.store("key", "label", TABLE)
    assert table_cache.load("key", "lab", len(TABLE)) is None
    assert table_cache.load("key", "label 2", len(TABLE)) is None
    assert table_cache.load("key", "label", 4000) is None


def test_a_place_that_cannot_be_written_is_no_error(place: Path) -> None:
    place.write_text("not a directory")
    table_cache.store("key", "label", TABLE)
    assert table_cache.load("key", "label", len(TABLE)) is None
    assert place.read_text() == "not a directory"


def test_a_write_that_fails_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(made: object, path: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    table_cache.store("key", "label", TABLE)
    assert list(place.iterdir()) == []


def test_where_the_tables_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert table_cache.directory() == tmp_path / "cache"
    monkeypatch.setenv("SPECFUSE_CACHE", "~/mine")
    assert table_cache.directory() == tmp_path / "mine"
    monkeypatch.setenv("SPECFUSE_CACHE", "")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert table_cache.directory() == tmp_path / "xdg" / "specfuse"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert table_cache.directory() == tmp_path / ".cache" / "specfuse"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert table_cache.directory() == tmp_path / "Library" / "Caches" / "specfuse"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert table_cache.directory() == tmp_path / "local" / "specfuse" / "Cache"


def built(family: str) -> list[bytes]:
    """The bytes of a tokenizer that nothing else in the process uses."""
    made = tiny.tokenizer(family)
    made.add_tokens([f"<{family} of the cache>"])
    return TextCodec(made).token_bytes()


def test_a_table_that_builds_fast_is_not_stored(place: Path) -> None:
    built("metaspace")
    assert not place.exists()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_table_that_builds_slowly_is_built_once(
    family: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_table, "_SLOW_SECONDS", -1.0)
    first = built(family)
    (path,) = place.iterdir()

    def never(tokenizer: Tokenizer, size: int) -> list[bytes]:
        pytest.fail("built again")

    with monkeypatch.context() as patched:
        patched.setattr(byte_table, "_built", never)
        assert built(family) == first
    path.write_bytes(path.read_bytes()[:-3])
    assert built(family) == first
    monkeypatch.setattr(byte_table, "_ALGORITHM", 2)
    calls = []
    build = byte_table._built
    monkeypatch.setattr(byte_table, "_built", lambda *given: calls.append(given) or build(*given))
    assert built(family) == first
    assert len(calls) == 1
