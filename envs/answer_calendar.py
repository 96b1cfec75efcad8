"""Dates, times of day and ratios: what is written with ``-``, ``/`` or ``:`` between numbers."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple


class Date(NamedTuple):
    """A day of the calendar; ``year`` is 0 when the text names none."""

    year: int
    month: int
    day: int


class Time(NamedTuple):
    """A time of day in seconds since midnight; ``named`` when a.m. or p.m. is."""

    seconds: int
    named: bool


class Ratio(NamedTuple):
    """Terms of a ratio over their last one: 4:2 is ``(2, 1)``."""

    terms: tuple[Fraction, ...]


_MONTHS = "january february march april may june july august september october november december"
_MONTH = {
    name[:length]: i for i, name in enumerate(_MONTHS.split(), 1) for length in (3, 4, len(name))
}
_NAME = r"([A-Za-z]{3,9})\.?"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_WEEKDAY = re.compile(r"^(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+", re.IGNORECASE)
_ISO = re.compile(r"(\d{4})[-/.](\d{2})[-/.](\d{2})")
_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
_MONTH_FIRST = re.compile(rf"{_NAME}\s+(?:the\s+)?{_DAY}(?:\s*,?\s*(\d{{4}}))?", re.IGNORECASE)
_DAY_FIRST = re.compile(
    rf"(?:the\s+)?{_DAY}\s+(?:of\s+)?{_NAME}(?:\s*,?\s*(\d{{4}}))?", re.IGNORECASE
)
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?(?::(\d{2}))?\s*([ap])\.?\s?m\b\.?", re.IGNORECASE)
_DIGITAL = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\s*(?:h|hrs|hours|o'clock))?")
_NUMBER = r"(?:0|[1-9]\d*)(?:\.\d+)?"  # 2:05 is a time only
_RATIO = re.compile(rf"({_NUMBER}(?:\s*:\s*{_NUMBER})+)|({_NUMBER}) to ({_NUMBER})")


def date(text: str) -> Date | None:
    """Read a date; slashes are read the American way, month first, unless that is impossible."""
    text = _WEEKDAY.sub("", text)
    if found := _ISO.fullmatch(text):
        return _checked(int(found[1]), int(found[2]), int(found[3]))
    if found := _SLASHED.fullmatch(text):
        first, second, year = int(found[1]), int(found[2]), int(found[3])
        return _checked(year, first, second) or _checked(year, second, first)
    if found := _MONTH_FIRST.fullmatch(text):
        return _checked(int(found[3] or 0), _MONTH.get(found[1].lower(), 0), int(found[2]))
    if found := _DAY_FIRST.fullmatch(text):
        return _checked(int(found[3] or 0), _MONTH.get(found[2].lower(), 0), int(found[1]))
    return None


def _checked(year: int, month: int, day: int) -> Date | None:
    return Date(year, month, day) if 1 <= month <= 12 and 1 <= day <= 31 else None


def same_date(a: Date, b: Date) -> bool:
    """Tell whether two dates agree; a year that only one of both names does not matter."""
    return a[1:] == b[1:] and (a.year == b.year or 0 in (a.year, b.year))


def time(text: str) -> Time | None:
    """Read a time of day on a 12- or 24-hour clock; ``noon`` and ``midnight`` are times."""
    word = text.lower().removeprefix("12:00 ").removeprefix("12 ")
    if word in ("noon", "midnight"):
        return Time(43200 if word == "noon" else 0, True)
    found = _CLOCK.fullmatch(text) or _DIGITAL.fullmatch(text)
    if found is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups()[:3])
    half = found[4] if found.re is _CLOCK else None
    if hours > (12 if half else 24) or minutes > 59 or seconds > 59:
        return None
    if half:
        hours = hours % 12 + (12 if half in "pP" else 0)
    return Time(hours * 3600 + minutes * 60 + seconds, half is not None)


def same_time(a: Time, b: Time) -> bool:
    """Tell whether two times agree; a.m. or p.m. does not matter where the other one is open."""
    if a.named == b.named:
        return a.seconds == b.seconds
    bare = b if a.named else a
    hours = 43200 if bare.seconds < 13 * 3600 else 86400  # past 12:59 there is nothing open
    return a.seconds % hours == b.seconds % hours


def ratio(text: str) -> Ratio | None:
    """Read ``2:1``, ``2 : 3 : 4`` or ``2 to 1``."""
    found = _RATIO.fullmatch(text)
    if found is None:
        return None
    terms = [Fraction(t) for t in (found[1].split(":") if found[1] else found.group(2, 3))]
    return Ratio(tuple(t / terms[-1] for t in terms[:-1])) if terms[-1] else None
