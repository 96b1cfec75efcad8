"""Decide whether two expressions are equal: exactly on rationals, else by value at chosen points.

Rational functions are compared exactly (Schwartz-Zippel: two different ones of moderate degree do
not agree at several odd fractions); irrational constants and other functions to 12 digits. What
that cannot tell is left undecided, never guessed.
"""

from __future__ import annotations

import cmath
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

from taskgym.envs.answer_numbers import Number, UndecidableError, inexact, multiply
from taskgym.envs.answer_trees import Tree, names
from taskgym.envs.answer_values import Point, value

_SAME, _APART = 1e-12, 1e-7  # relative; between the two a float cannot tell
_SMALL = 10**5  # a rational this simple does not come near an irrational by chance

# Odd fractions, so that no rule of ours or of an author meets them; the second half has both signs.
_VALUES = [Fraction(n, 97) for n in (131, 59, 173, 83, 211, 37, 149, 71, 227, 113)]
_POSITIVE, _ALL = 4, 8


def every(verdicts: Iterable[bool | None]) -> bool | None:
    """Combine verdicts: False if any is, else None if any is."""
    found = list(verdicts)
    if False in found:
        return False
    return None if None in found else True


def same(a: Tree, b: Tree) -> bool | None:
    """Tell whether ``a`` and ``b`` are equal; None when these means cannot tell."""
    if a == b:
        return True
    variables = names(a) | names(b)
    try:
        if not variables:
            return _same_constant(value(a), value(b))
    except UndecidableError:
        return None
    return _same_function(lambda point: (value(a, point), value(b, point)), variables)


def proportional(a: Tree, b: Tree) -> bool | None:
    """Tell whether ``a`` is a constant, not zero, times ``b``: whether a=0 and b=0 say the same."""
    variables = names(a)
    if variables != names(b):
        return False
    first = next(_points(variables))
    try:
        top, bottom = value(a, first), value(b, first)
    except UndecidableError:
        return None
    if not top or not bottom:
        return None

    def cross(point: Point) -> tuple[Number, Number]:
        return multiply(value(a, point), bottom), multiply(value(b, point), top)

    return _same_function(cross, variables)


def close(a: Number, b: Number) -> bool | None:
    """Tell whether two values are equal; None when they are too near to tell."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    try:
        x, y = inexact(a), inexact(b)
    except OverflowError:
        return None
    if x == y and cmath.isinf(x):
        return True
    if cmath.isinf(x) or cmath.isinf(y):
        return False
    distance = abs(x - y) / max(abs(x), abs(y), 1e-3)
    if distance > _APART:
        return False
    return True if distance < _SAME else None


def _same_constant(a: Number, b: Number) -> bool | None:
    verdict = close(a, b)
    if verdict is False or isinstance(a, Fraction) == isinstance(b, Fraction):
        return verdict
    rational = a if isinstance(a, Fraction) else b
    assert isinstance(rational, Fraction)
    simple = rational.denominator < _SMALL and abs(rational.numerator) < _SMALL**2
    return verdict if simple else False  # a long decimal is a rounded one


def _same_function(
    pair: Callable[[Point], tuple[Number, Number]], variables: frozenset[str]
) -> bool | None:
    seen = 0
    for i, point in enumerate(_points(variables)):
        try:
            verdict = close(*pair(point))
        except UndecidableError:
            continue  # a pole, or outside a function's domain
        if verdict is None:
            return None
        if not verdict:
            # a difference on negative numbers only may be a branch: \ln x^2 and 2\ln x
            return False if i < _POSITIVE else None
        seen += 1
    return True if seen >= 3 else None


def _points(variables: frozenset[str]) -> Iterator[Point]:
    ordered = sorted(variables)
    for i in range(_ALL):
        signs = 1 if i < _POSITIVE else -1
        yield {
            name: _VALUES[(3 * i + 7 * k) % 10] * (signs if (i + k) % 2 else 1) + Fraction(i, 89)
            for k, name in enumerate(ordered)
        }
