"""The dates that the grammar of a schema allows.

llguidance's formats also allow the year 0, and February 29 in every year.
"""

from __future__ import annotations

from typing import Any

__all__ = ["enforce_dates"]

_YEAR = r"(?:[1-9]\d{3}|0[1-9]\d{2}|00[1-9]\d|000[1-9])"
_FOURTH = r"(?:0[48]|[2468][048]|[13579][26])"
_LEAP_YEAR = rf"(?:\d\d{_FOURTH}|{_FOURTH}00)"
_USUAL = rf"{_YEAR}-(?:0[13-9]-|1[0-2]-|02-(?:[01]|2[0-8]))"
#: The beginning of a date that exists.
_DATE = rf"^(?:{_USUAL}|{_LEAP_YEAR}-02-29)".replace(r"\d", "[0-9]")


def enforce_dates(schema: dict[str, Any]) -> None:
    """Add to a schema with the format of a date that the date exists."""
    if schema.get("format") not in ("date", "date-time"):
        return
    if "pattern" in schema:
        schema["allOf"] = [{"pattern": _DATE}]
    else:
        schema["pattern"] = _DATE
