"""Units, currencies and number words: what may stand around a number without changing it."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """A unit as a dimension (``"length^2"``, or its own name when unknown) and a factor to it."""

    dimension: str
    factor: Fraction


_INCH = Fraction(254, 10000)
_POUND = Fraction(45359237, 100_000_000)
_TABLE: dict[str, tuple[str, Fraction | int]] = {
    "mm millimeter millimetre": ("length", Fraction(1, 1000)),
    "cm centimeter centimetre": ("length", Fraction(1, 100)),
    "m meter metre": ("length", 1),
    "km kilometer kilometre": ("length", 1000),
    "in inch inches": ("length", _INCH),
    "ft foot feet": ("length", 12 * _INCH),
    "yd yard": ("length", 36 * _INCH),
    "mi mile": ("length", 63360 * _INCH),
    "mg milligram": ("mass", Fraction(1, 1_000_000)),
    "g gram": ("mass", Fraction(1, 1000)),
    "kg kilogram": ("mass", 1),
    "lb lbs pound": ("mass", _POUND),
    "oz ounce": ("mass", _POUND / 16),
    "ton tonne": ("ton", 1),
    "ms millisecond": ("time", Fraction(1, 1000)),
    "s sec second": ("time", 1),
    "min minute": ("time", 60),
    "h hr hrs hour": ("time", 3600),
    "day": ("time", 86400),
    "week": ("time", 604_800),
    "month": ("month", 1),
    "yr year": ("month", 12),
    "ml milliliter millilitre": ("volume", Fraction(1, 1000)),
    "l liter litre": ("volume", 1),
    "cent ¢": ("dollar", Fraction(1, 100)),
    "¤ dollar usd buck": ("dollar", 1),
    "€ euro eur": ("euro", 1),
    "£ gbp": ("sterling", 1),
    "¥ yen jpy": ("yen", 1),
    "₹ rupee": ("rupee", 1),
    "deg degree": ("angle", 1),
    "rad radian": ("radian", 1),
    "mph": ("length/time", Fraction(63360, 3600) * _INCH),
    "kph kmh": ("length/time", Fraction(1000, 3600)),
    "n newton": ("force", 1),
    "j joule": ("energy", 1),
    "w watt": ("power", 1),
    "hz hertz": ("frequency", 1),
    "v volt": ("voltage", 1),
    "k kelvin": ("kelvin", 1),
    "c celsius": ("celsius", 1),
    "f fahrenheit": ("fahrenheit", 1),
    "unit": ("unit", 1),
}
_KNOWN = {
    name: Unit(dimension, Fraction(factor))
    for names, (dimension, factor) in _TABLE.items()
    for name in names.split()
}
# A unit may follow its number directly; these letters alone are rather variables: `5m`, `2c`.
_VARIABLES = {"m", "g", "s", "h", "l", "n", "j", "w", "v", "k", "c", "f"}
_POWER_WORDS = {"square": 2, "squared": 2, "sq": 2, "cubic": 3, "cubed": 3}
_NO_UNITS = (
    "or and not maybe perhaps possibly probably about approximately approx roughly around either "
    "nearly almost between least most over under to than plus minus times is are if unless only "
    "where when with for mod modulo but neither nor unknown any all no none sin cos tan cot sec "
    "csc percent per pct hundred thousand million billion trillion dozen half third quarter base "
    "ln log exp sqrt pi inf infty infinity oo theta alpha beta lambda sum difference factorial "
    "union root january february march april may june july august september october november "
    "december"
)
_HEDGES = frozenset(_NO_UNITS.split())

_TAIL = re.compile(
    r"(?<![A-Za-z\\^_{])(?P<gap> ?)(?P<unit>[A-Za-z¤¢€£¥₹][A-Za-z. -]*?)\s*"
    r"(?:\^\s*\{?\s*(?P<power>-?\d)\s*\}?)?"
    r"(?:\s*(?:/|\bper\b)\s*(?P<below>[A-Za-z]+)\s*(?:\^\s*\{?\s*(?P<below_power>\d)\s*\}?)?)?\s*$"
)
_LONGEST = 60  # characters of a unit; the pattern is quadratic in its words
_CURRENCY = re.compile(r"^(?P<sign>-?)\s*(?P<unit>[¤€£¥₹]|USD|EUR)\s*(?=[-\d.\\(])")


def split_unit(text: str) -> tuple[str, Unit | None]:
    """Return ``text`` without the unit or currency it carries, and that unit (None without one).

    Words that are no known unit count things (``3 apples``); words that hedge are left in place.
    """
    if money := _CURRENCY.match(text):
        return money["sign"] + text[money.end() :], _KNOWN[money["unit"].lower()]
    found = _TAIL.search(text, max(0, len(text) - _LONGEST))
    if found is None or not any(mark in text[: found.start()] for mark in _NUMERALS):
        return text, None
    if found["unit"].startswith("deg") and _TURNED.search(text[: found.start()]):
        return text, None  # the angle has the degrees, its sine has not
    unit = _read(found)
    if found["unit"].lower() in _VARIABLES and _LETTER.search(text[: found.start()]):
        return text, None  # \\pi r^2 h has no hours in it
    return (text, None) if unit is None else (text[: found.start()].rstrip(), unit)


_TURNED = re.compile(
    r"(?<![a-z])(?:sin|cos|tan|cot|sec|csc|cis)\s*(?:\^\s*\{?\s*\d\s*\}?)?\s*(?:\d|\\frac)[^()]*$"
)
_LETTER = re.compile(r"(?<![A-Za-z\\])[A-DF-Za-df-z]")
_NUMERALS = (*"0123456789", r"\pi", "pi", r"\sqrt")


def is_unit(name: str) -> bool:
    """Tell whether one word after a number is a unit, or counts things, for `split_unit`."""
    return _single(name, True, 1) is not None


def _read(found: re.Match[str]) -> Unit | None:
    top = _single(found["unit"], bool(found["gap"]), int(found["power"] or 1))
    if top is None or found["below"] is None:
        return top
    below = _single(found["below"], True, int(found["below_power"] or 1))
    if below is None:
        return None
    return Unit(f"{top.dimension}/{below.dimension}", top.factor / below.factor)


def _single(text: str, apart: bool, power: int) -> Unit | None:
    words = text.lower().replace(".", " ").replace("-", " ").split()
    for word in words:
        power *= _POWER_WORDS.get(word, 1)
    words = [word for word in words if word not in _POWER_WORDS]
    if words[:1] in (["deg"], ["degree"], ["degrees"]) and len(words) == 2:
        words, apart = words[1:], True  # of Celsius
    if not words:
        return None
    if "per" in words[1:-1]:
        return _rate(words, apart)
    name = words[0] if len(words) == 1 else " ".join(words)
    unit = _KNOWN.get(name) or _KNOWN.get(name.removesuffix("s"))
    if unit is not None:
        if name in _VARIABLES and not apart:
            return None
        dimension = unit.dimension if power == 1 else f"{unit.dimension}^{power}"
        return Unit(dimension, unit.factor**power)
    counts = len(words) <= 4 and min(map(len, words)) >= 3 and not _HEDGES.intersection(words)
    return Unit(name.removesuffix("s"), Fraction(1)) if counts else None


def _rate(words: list[str], apart: bool) -> Unit | None:
    at = words.index("per")
    top, below = (
        _single(" ".join(words[:at]), apart, 1),
        _single(" ".join(words[at + 1 :]), True, 1),
    )
    if top is None or below is None:
        return None
    return Unit(f"{top.dimension}/{below.dimension}", top.factor / below.factor)


_ONES_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_TENS_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_VALUES = {word: n for n, word in enumerate(_ONES_WORDS.split())}
_VALUES |= {word: 10 * n for n, word in enumerate(_TENS_WORDS.split(), start=2)}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_FIGURE = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6}
_PARTS |= {"seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10, "hundredth": 100, "twelfth": 12}


def number_words(text: str) -> Fraction | None:
    """Return the value of an English numeral such as ``minus twenty-one`` or ``two thirds``."""
    words = text.lower().replace("-", " ").replace(",", " ").split()
    if len(words) > 1 and words[1] in _SCALES and _FIGURE.fullmatch(words[0]):  # 2.5 million
        return Fraction(words[0]) * _SCALES[words[1]] if len(words) == 2 else None
    if all(map(_FIGURE.fullmatch, words)):
        return None
    if words[:1] in (["minus"], ["negative"]):
        value = _fraction(words[1:])
        return None if value is None else -value
    return _fraction(words)


def _fraction(words: list[str]) -> Fraction | None:
    if not words:
        return None
    part = _PARTS.get(words[-1].removesuffix("s"))
    if part is None:
        return _whole(words)
    if words[:-1] in ([], ["a"], ["one"]):
        return Fraction(1, part)
    if "and" in words[1:-2]:  # two and one half
        at = len(words) - 1 - words[::-1].index("and")
        whole, rest = _whole(words[:at]), _fraction(words[at + 1 :])
        return None if whole is None or rest is None else whole + rest
    count = _whole(words[:-1])
    return None if count is None else count / part


def _whole(words: list[str]) -> Fraction | None:
    total, group, read = 0, 0, False
    for word in words:
        if word in _VALUES:
            group += _VALUES[word]
        elif word.isdecimal() and not read:  # 3 and a half
            group = int(word)
        elif word == "hundred" and read:
            group *= 100
        elif word in _SCALES and read:
            total, group = total + group * _SCALES[word], 0
        elif not (word == "and" and read):
            return None
        read = True
    return Fraction(total + group) if read else None
