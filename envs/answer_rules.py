"""Read an answer into every shape it may have.

One text can have several readings: ``(1, 2)`` is a pair and an open interval, ``(B) 12`` a choice
and a value. `read` gives all of them; `taskgym.envs.answer_match` compares two lists of readings.
"""

from __future__ import annotations

import contextlib
import re
from functools import partial

from taskgym.envs import answer_calendar as calendar
from taskgym.envs import answer_read_regions as regions
from taskgym.envs.answer_numerals import literal
from taskgym.envs.answer_read_brackets import bracketed
from taskgym.envs.answer_read_equations import equated, member
from taskgym.envs.answer_read_lists import joined, listed, matrix
from taskgym.envs.answer_read_scalars import based, compound, mixed, numeral, scalar, worded
from taskgym.envs.answer_shapes import LINE, Choice, Inner, Scalar, Several, Shape, Words
from taskgym.envs.answer_trees import NotMathsError, number

LONGEST = 600  # characters of an answer worth reading; some patterns are quadratic

_CHOICE = re.compile(
    r"(?:(?:option|choice|answer)\s+)?(?:\(([A-Ja-j])\)|([A-J])(?=\s*[.):]|$)|([a-j])(?=\s*[.):]\s|$))"
    r"\s*[.):]*\s*(.*)",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"\\emptyset|\\\{\s*\\\}|\{\}|(?:the )?empty set|no (?:real )?solutions?", re.I
)
_QUOTES = re.compile(r"['\"]|^\((?=[^()]*\)$)|\)$")
_IDLE_BLANK = re.compile(r"(?<!\w) | (?!\w)")
_LETTERS = re.compile(r"\s*[^\W\d_]+(?:[\s,-]+[^\W\d_]+)*\s*")
_FIGURES = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_CAPITALS = re.compile(r"[A-Z]{2,3}")
_REFUSED = re.compile(r"(?:is|was)(?:n't| not| wrong| incorrect| false)\b", re.IGNORECASE)
_OTHER = re.compile(r"\([A-J]\)|^(?:or|and)\s+[A-J]\b")  # (A) or (B) chooses neither
_DEPTH = 6


def read(text: str) -> tuple[Shape, ...]:
    """Return every reading of a cleaned ``text``, the likeliest first; words are always one."""
    readings: list[Shape] = []
    if len(text) > LONGEST:
        long = [Scalar(number(literal(text)))] if _FIGURES.fullmatch(text) else []
        return (*long, Words(text))
    with contextlib.suppress(NotMathsError):  # most texts are none of the special shapes
        readings.extend(_special(text))
    if not _is_no_formula(text, readings):
        with contextlib.suppress(NotMathsError):  # then only its words can speak for it
            readings.extend(_mathematics(text))
    return (*readings, Words(_words(text)))


def _is_no_formula(text: str, readings: list[Shape]) -> bool:
    """A date is no difference, and HTH no product: in those the order counts."""
    dated = any(isinstance(shape, calendar.Date) for shape in readings)
    return dated or _CAPITALS.fullmatch(text) is not None


def _words(text: str) -> str:
    """Text compares up to case; letters of a formula do not, nor do brackets fall out of one."""
    plain = _QUOTES.sub("", text)
    if not _LETTERS.fullmatch(plain):
        return _IDLE_BLANK.sub("", text)
    words = plain.casefold().replace("-", " ").split()
    if words[0] in ("the", "a", "an") and len(words) > 1:
        words = words[1:]
    folded = " ".join(words)
    return folded if len(folded) > 2 or folded == "no" else plain.strip()


def _special(text: str) -> list[Shape]:
    """Readings of a whole text only: what it is cannot be part of anything else."""
    found = (
        calendar.date(text),
        calendar.time(text),
        calendar.ratio(text),
        based(text),
        *_choice(text),
        worded(text),
    )
    return [shape for shape in found if shape is not None]


def _choice(text: str) -> list[Shape]:
    """``B``, ``(B)``, ``B) 12``; what follows the letter counts as well."""
    found = _CHOICE.fullmatch(text)
    if found is None:
        return []
    letter, rest = found[1] or found[2] or found[3], found[4]
    if _REFUSED.match(rest) or _OTHER.search(rest):
        return []
    readings: list[Shape] = [Choice(letter.upper(), bool(found[1] or rest) or text != letter)]
    if len(rest) > 1:
        readings.append(Words(_words(rest)))
        with contextlib.suppress(NotMathsError):
            readings.extend(_mathematics(rest, depth=1))
    return readings


def _mathematics(text: str, depth: int = 0) -> list[Shape]:
    """Readings of mathematical text; the first rule that fits decides."""
    text = text.strip()
    if not text or depth > _DEPTH:
        raise NotMathsError(text[:20])
    if "\\approx" in text[1:]:
        text = text.partition("\\approx")[0].rstrip()  # what is exact counts, not its rounding
    inner = partial(_mathematics, depth=depth + 1)
    for rule in _RULES:
        if shapes := rule(text, inner):
            return shapes
    return [scalar(text)]


def _known_set(text: str, _: Inner) -> list[Shape]:
    if _NOTHING.fullmatch(text):
        return [Several("set", ())]
    if text == "\\reals" or text.lower() in ("all real numbers", "all reals"):
        return [LINE]
    return []


_RULES = (
    _known_set, numeral, compound, matrix, member, regions.united, bracketed, mixed,
    regions.bounded, joined, regions.related, equated, listed,
)  # fmt: skip
