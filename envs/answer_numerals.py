"""Exact values of numerals: decimals, repeating decimals, mixed numbers and other bases."""

from __future__ import annotations

from fractions import Fraction

from taskgym.envs.answer_trees import NotMathsError

_EXPONENT = 5000


def literal(token: str) -> Fraction:
    """Return the exact value of a decimal literal with at most a moderate exponent."""
    mantissa, _, exponent = token.lower().partition("e")
    if len(exponent) > 5 or abs(int(exponent or 0)) > _EXPONENT:
        raise NotMathsError(f"exponent of {token} is out of bounds")
    return Fraction(mantissa.rstrip(".") or "0") * Fraction(10) ** int(exponent or 0)


def repeating(head: str, block: str) -> Fraction:
    """Return 0.1666... from ``head`` "0.1" and the repeated ``block`` "6"."""
    if not block.isdigit() or "." not in head:
        raise NotMathsError(f"{head} repeating {block}")
    places = len(head.partition(".")[2])
    return literal(head) + Fraction(int(block), (10 ** len(block) - 1) * 10**places)


def proper(top: str, bottom: str) -> Fraction:
    """Return the fraction of a mixed number; ``2 5/3`` is no usual notation for anything."""
    if not (top.isdigit() and bottom.isdigit() and 0 < int(top) < int(bottom)):
        raise NotMathsError(f"{top}/{bottom} in a mixed number")
    return Fraction(int(top), int(bottom))


def in_base(digits: str, base: str) -> Fraction:
    """Return the value of ``digits`` written in ``base`` (2 to 36, in decimal)."""
    if not base.isdigit() or not 2 <= int(base) <= 36:
        raise NotMathsError(f"base {base}")
    try:
        return Fraction(int(digits, int(base)))
    except ValueError as error:
        raise NotMathsError(f"{digits} in base {base}") from error
