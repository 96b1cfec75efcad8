"""The short way for plain numbers: one pattern reads a literal, integers compare it exactly.

Whatever the pattern does not cover, or covers ambiguously, is left to the full reading, which
gives the same verdicts; a test holds the two together.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LONGEST = 60  # characters of a number worth trying

_NUMBER = re.compile(
    r"\s*(?P<sign>[-+−]?)\s*(?P<money>\\?\$|£|€)?\s*"
    r"(?:"
    r"\\[dtc]?frac\{\s*(?P<top>-?\d+)\s*\}\{\s*(?P<bottom>\d+)\s*\}"
    r"|(?P<whole>\d{1,3}(?:(?P<comma>,|\{,\}|,\\!\s*| |\\,)\d{3}(?:(?P=comma)\d{3})*)(?!\d)|\d+)?"
    r"(?:\.(?P<decimals>\d+)"
    r"|(?:\s*/\s*(?P<under>\d+))"
    r"|(?:\s+(?P<over>\d+)\s*/\s*(?P<parts>\d+)))?"
    r"(?:[eE](?P<e>[-+]?\d{1,3})"
    r"|\s*(?:\\times|\\cdot|\*|x|×)\s*10\s*(?:\^|\*\*)\s*(?:\{\s*(?P<power>-?\d{1,3})\s*\}|(?P<digit>-?\d{1,3})))?"
    r")"
    r"(?P<percent>\s*\\?%)?"
    r"(?:(?:\s*\\(?:text|mathrm)\s*\{\s*(?P<face>[A-Za-z]+)\s*\}| (?P<unit>[A-Za-z]{2,})))?\.?\s*",
    re.ASCII,
)


class Plain(NamedTuple):
    """A rational number as written; ``marked`` when it carries a unit or a currency."""

    top: int
    bottom: int
    percent: bool
    marked: bool
    grouped: bool


def plain(text: str) -> Plain | None:
    """Read ``text`` if it is one plain number, at most with a unit, currency or percent sign."""
    if len(text) > _LONGEST:
        return None
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    (sign, money, over_brace, under_brace, whole, comma, decimals, under, over, parts,
     e, power, digit, percent, face, unit) = found.groups()  # fmt: skip
    if over_brace is not None:
        top, bottom = int(over_brace), int(under_brace)
    else:
        if whole is None and (decimals is None or under or over):
            return None
        top, bottom = int(_NON_DIGITS.sub("", whole) if comma else whole or "0"), 1
        if decimals:
            bottom = 10 ** len(decimals)
            top = top * bottom + int(decimals)
        elif under:
            bottom = int(under)
        elif over:
            if comma or not 0 < int(over) < int(parts):
                return None
            top, bottom = top * int(parts) + int(over), int(parts)
    exponent = int(e or power or digit or 0)
    if exponent and (under or over):
        return None
    top, bottom = (top * 10**exponent, bottom) if exponent >= 0 else (top, bottom * 10**-exponent)
    name = face or unit
    if not bottom or (name and not _is_unit(name)) or (percent and (name or money)):
        return None
    signed = -top if sign in ("-", "−") else top
    return Plain(signed, bottom, percent is not None, bool(name or money), comma is not None)


_NON_DIGITS = re.compile(r"\D+")


def _is_unit(name: str) -> bool:
    from taskgym.envs.answer_units import is_unit

    return is_unit(name)


def same_plain(gold: Plain, answer: Plain) -> bool | None:
    """Compare two plain numbers; None where more than their values has to be looked at."""
    if gold.marked and answer.marked:
        return None
    equal = gold.top * answer.bottom * (100 if answer.percent and not gold.percent else 1) == (
        answer.top * gold.bottom * (100 if gold.percent and not answer.percent else 1)
    )
    if answer.percent and not gold.percent and not equal and not gold.marked:
        equal = gold.top * answer.bottom == answer.top * gold.bottom
    # 100,200 and 200,100 may be lists
    return None if not equal and gold.grouped and answer.grouped else equal
