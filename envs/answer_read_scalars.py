"""Read one number or expression, with its unit or percent sign."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from taskgym.envs.answer_expressions import parse
from taskgym.envs.answer_numerals import in_base, repeating
from taskgym.envs.answer_shapes import Inner, Scalar, Several, Shape
from taskgym.envs.answer_trees import NotMathsError, number
from taskgym.envs.answer_units import Unit, number_words, split_unit

_GROUPED = re.compile(r"([+-]?)(\d{1,3}(?:([, '_])\d{3})(?:\3\d{3})*)(\.\d+)?")
_REPEATING = re.compile(
    r"([+-]?)(\d*\.\d*?)(?:\((\d+)\)|(\d)\4+\s*\.\.\.|(\d{2,}?)\5+\d{0,2}\s*\.\.\.)"
)
_MIXED = re.compile(r"(-?)(\d+) and (\d+/\d+)")
_MEASURE = re.compile(r"\d+(?:\.\d+)? ?[A-Za-z]+")
_COMPOUND = re.compile(rf"{_MEASURE.pattern}(?:(?:,? and |,? ){_MEASURE.pattern}){{1,3}}")
_BASED = re.compile(
    r"\(?([0-9A-Za-z]+)\)?\s*(?:_\s*\{?\s*(\w+)\s*\}?|\(?\s*(?:in )?base[ -](\w+)\s*\)?)"
)
_BASES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7"}
_BASES |= {"eight": "8", "nine": "9", "ten": "10", "twelve": "12", "sixteen": "16"}
_PREFIXED = re.compile(r"0[xX][0-9A-Fa-f]+$|0[bB][01]+$")
_PERCENT = re.compile(r"\s*(?:%|per ?cent|pct)\.?$", re.IGNORECASE)


def scalar(text: str) -> Scalar:
    """Read what has to be one expression."""
    body, unit, percent = _measured(text)
    try:
        return Scalar(parse(body), unit, percent)
    except NotMathsError:
        if unit is None:
            raise
    return Scalar(parse(text))  # what looked like a unit was a product of letters


def _measured(text: str) -> tuple[str, Unit | None, bool]:
    percent = _PERCENT.search(text)
    if percent:
        return text[: percent.start()], None, True
    return (*split_unit(text), False)


def numeral(text: str, inner: Inner) -> list[Shape]:
    """``0.1(6)``, ``1,234 m``: digits that no expression has."""
    # the pattern is cubic in the digits, so it sees short text only
    repeated = _REPEATING.fullmatch(text) if len(text) < 80 and text[-1] in ".)" else None
    if repeated is not None:
        block = repeated[3] or repeated[4] or repeated[5]
        return [Scalar(number(_signed(repeated[1], repeating(repeated[2], block))))]
    return _grouped(text, inner)


def _grouped(text: str, inner: Inner) -> list[Shape]:
    body, unit, percent = _measured(text)
    found = _GROUPED.fullmatch(body)
    if found is None:
        return []
    value = Fraction(re.sub("[, '_]", "", found[2]) + (found[4] or ""))
    whole = Scalar(number(_signed(found[1], value)), unit, percent)
    listed = found[3] == "," and body == text and not found[4] and ",0" not in body
    if listed:  # 1,234 may be a list of two, which nobody writes 1,034
        return [whole, Several("bare", tuple(inner(item)[0] for item in body.split(",")))]
    return [whole]


def _signed(sign: str, value: Fraction) -> Fraction:
    return -value if sign == "-" else value


def compound(text: str, _: Inner) -> list[Shape]:
    """``2 hours 30 minutes``, ``5 feet 3 inches``: one quantity, counted in its last unit."""
    if len(text) > 60 or not _COMPOUND.fullmatch(text):
        return []
    parts = [scalar(part) for part in _MEASURE.findall(text)]
    units = [part.unit for part in parts if part.unit is not None]
    factors = [unit.factor for unit in units]
    falling = all(a > b for a, b in pairwise(factors))
    if len(units) < len(parts) or len({unit.dimension for unit in units}) > 1 or not falling:
        return []
    total = sum(part.tree[1] * factor for part, factor in zip(parts, factors, strict=True))
    return [Scalar(number(total / factors[-1]), units[-1])]


def mixed(text: str, _: Inner) -> list[Shape]:
    """``3 and 1/2``."""
    found = _MIXED.fullmatch(text)
    return [scalar(f"{found[1]}{found[2]} {found[3]}")] if found else []


def based(text: str) -> Scalar | None:
    """``1010_2``, ``12 in base five``, ``0x1F``."""
    if found := _BASED.fullmatch(text):
        base = found[2] or found[3]
        return Scalar(number(in_base(found[1], _BASES.get(base.lower(), base))))
    if _PREFIXED.match(text):
        return Scalar(number(in_base(text[2:].lower(), "16" if text[1] in "xX" else "2")))
    return None


def worded(text: str) -> Scalar | None:
    """``seven``, ``two thirds``, ``three apples``."""
    if (value := number_words(text)) is not None:
        return Scalar(number(value))
    count, _, thing = text.rpartition(" ")
    if text.replace(" ", "").isalpha() and (counted := number_words(count)):
        return Scalar(number(counted), split_unit("1 " + thing)[1])
    return None
