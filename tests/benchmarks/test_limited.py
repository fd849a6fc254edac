"""Calls with a time limit, in another process."""

from __future__ import annotations

import os
import time

import pytest

from benchmarks.frameworks.limited import Limited


def behave(how: str) -> None:
    if how == "hang":
        time.sleep(60)
    if how == "die":
        raise SystemExit("gone\nwith more lines")
    if how == "vanish":
        os._exit(3)
    if how == "fail":
        raise ValueError("no\nmore")


def test_what_hangs_or_dies_fails_and_the_next_call_is_made() -> None:
    with Limited(behave, 1.0) as calls:
        assert calls.why_not("work") is None
        assert calls.why_not("fail") == "ValueError: no"
        assert calls.why_not("die") == "SystemExit: gone"
        assert calls.why_not("hang") == "took longer than 1 s"
        assert calls.why_not("vanish") == "its process ended with exit code 3"
        assert calls.why_not("work") is None


class Unreadable:
    def __call__(self) -> None: ...

    def __setstate__(self, state: object) -> None:
        raise ValueError("not here")

    def __getstate__(self) -> dict[str, int]:
        return {"something": 1}


def test_a_process_that_cannot_start_is_an_error() -> None:
    with Limited(Unreadable(), 1.0) as calls, pytest.raises(RuntimeError, match="did not start"):
        calls.why_not()
