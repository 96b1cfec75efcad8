"""The exact value of a written arithmetic expression: a hand-made parser, nothing is executed."""

from __future__ import annotations

import re
from fractions import Fraction

LONGEST = 200  # characters
DEEPEST = 20  # nested parentheses
LARGEST = 10**6  # of a number

_TOKEN = re.compile(r"\s*([0-9]+|[-+*/()×÷−])")
_SAME = {"×": "*", "÷": "/", "−": "-"}


def evaluate(expression: str) -> Fraction | None:
    """The value of an expression of whole numbers, + - * / and parentheses; None if it has none.

    >>> evaluate("(8 - 2) / 4")
    Fraction(3, 2)
    >>> evaluate("2 ** 3") is None
    True
    """
    if len(expression) > LONGEST:
        return None
    tokens = _tokens(expression.rstrip())
    if not tokens:
        return None
    try:
        value = _sum(tokens, 0)
    except (ValueError, ZeroDivisionError, IndexError):
        return None
    return None if tokens else value


def _tokens(text: str) -> list[str]:
    """The tokens, last one first, so that the next one is popped; empty if one is unknown."""
    tokens, at = [], 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            return []
        tokens.append(_SAME.get(found[1], found[1]))
        at = found.end()
    return tokens[::-1]


def _sum(tokens: list[str], depth: int) -> Fraction:
    total = _product(tokens, depth)
    while tokens and tokens[-1] in "+-":
        sign = 1 if tokens.pop() == "+" else -1
        total += sign * _product(tokens, depth)
    return total


def _product(tokens: list[str], depth: int) -> Fraction:
    result = _atom(tokens, depth)
    while tokens and tokens[-1] in "*/":
        times = tokens.pop() == "*"
        factor = _atom(tokens, depth)
        result = result * factor if times else result / factor
    return result


def _atom(tokens: list[str], depth: int) -> Fraction:
    token = tokens.pop()
    if token == "-":
        return -_atom(tokens, depth + 1) if depth < DEEPEST else _refuse()
    if token == "(":
        inner = _sum(tokens, depth + 1) if depth < DEEPEST else _refuse()
        if tokens.pop() != ")":
            raise ValueError("a parenthesis is not closed")
        return inner
    if not token.isdecimal() or int(token) > LARGEST:
        raise ValueError(f"no number: {token}")
    return Fraction(int(token))


def _refuse() -> Fraction:
    raise ValueError(f"nested more than {DEEPEST} deep")
