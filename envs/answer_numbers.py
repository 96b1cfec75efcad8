"""Decide whether two expressions are equal: exactly on rationals, else by value at chosen points.

Rational functions are compared exactly (Schwartz-Zippel: two different ones of moderate degree do
not agree at several odd fractions); irrational constants and other functions to 12 digits. What
that cannot tell is left undecided, never guessed.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import TypeAlias

from taskgym.envs.answer_expressions import Tree

Number: TypeAlias = Fraction | complex
Point: TypeAlias = Mapping[str, Fraction]

_BITS = 1 << 16  # the largest exact power worth computing: some 20,000 digits
_FACTORIAL = 1500
_SAME, _APART = 1e-12, 1e-7  # relative; between the two a float cannot tell
_SMALL = 10**5  # a rational this simple does not come near an irrational by chance


class UndecidableError(ArithmeticError):
    """The value is undefined, too large, or too near to another one to be told apart."""


def value(tree: Tree, point: Point | None = None, sign: int = 1) -> Number:
    """Return the value of ``tree`` with variables from ``point`` and every ± taken as ``sign``.

    Raises:
        UndecidableError: there is none, or none of a reasonable size.
    """
    try:
        result = _value(tree, point or {}, sign)
    except (ArithmeticError, ValueError, RecursionError) as error:
        raise UndecidableError(str(error)) from error
    if not isinstance(result, Fraction) and cmath.isnan(result):
        raise UndecidableError("not a number")
    return result


def _value(tree: Tree, point: Point, sign: int) -> Number:
    head = tree[0]
    if head == "n":
        return tree[1]  # type: ignore[no-any-return]
    if head == "v":
        if tree[1] not in point:
            raise UndecidableError(f"no value for {tree[1]}")
        return point[tree[1]]
    if head == "k":
        return _CONSTANTS[tree[1]]
    if head == "+":
        return _sum(_value(term, point, sign) for term in tree[1])
    if head == "*":
        return _product(_value(factor, point, sign) for factor in tree[1])
    if head == "/":
        return _quotient(_value(tree[1], point, sign), _value(tree[2], point, sign))
    if head == "^":
        return _power(_value(tree[1], point, sign), _value(tree[2], point, sign))
    if head == "pm":
        return _product(iter((Fraction(sign * tree[1]), _value(tree[2], point, sign))))
    if tree[1] == "binom":
        return _binomial(_value(tree[2][1], point, sign), _value(tree[2][2], point, sign))
    return _FUNCTIONS[tree[1]](_value(tree[2], point, sign))


_CONSTANTS: dict[str, complex] = {"pi": math.pi, "e": math.e, "i": 1j, "inf": math.inf}


def _sum(terms: Iterator[Number]) -> Number:
    total = next(terms)
    for term in terms:
        if isinstance(total, Fraction) and isinstance(term, Fraction):
            total = total + term
        else:
            total = _float(total) + _float(term)
    return total


def _product(factors: Iterator[Number]) -> Number:
    total = next(factors)
    for factor in factors:
        if isinstance(total, Fraction) and isinstance(factor, Fraction):
            total = total * factor
        else:
            total = _float(total) * _float(factor)
    return total


def _quotient(a: Number, b: Number) -> Number:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a / b
    return _float(a) / _float(b)


def _float(number: Number) -> complex:
    return float(number) if isinstance(number, Fraction) else number


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        root = exponent.denominator
        if root == 1:
            return _whole_power(base, exponent.numerator)
        if base > 0 and root <= 64 and (exact := _exact_root(base, root)) is not None:
            return _whole_power(exact, exponent.numerator)
        if base < 0 and root % 2 and root <= 64:  # the real root, as in \sqrt[3]{-8}
            positive = _power(-base, exponent)
            return -positive if exponent.numerator % 2 else positive
    if base == math.e:
        return _real(cmath.exp(_float(exponent)))
    return _real(complex(_float(base)) ** _float(exponent))


def _whole_power(base: Fraction, exponent: int) -> Fraction:
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits * abs(exponent) > _BITS and abs(base) not in (0, 1):
        raise UndecidableError("the power is too large to write out")
    return base**exponent


def _exact_root(number: Fraction, degree: int) -> Fraction | None:
    top, bottom = _integer_root(number.numerator, degree), _integer_root(number.denominator, degree)
    return None if top is None or bottom is None else Fraction(top, bottom)


def _integer_root(n: int, degree: int) -> int | None:
    if degree == 2:
        root = math.isqrt(n)
    elif n.bit_length() > 900:
        raise UndecidableError("the root of a very large number")
    else:
        root = round(n ** (1 / degree))
    return next((r for r in (root, root - 1, root + 1) if r >= 0 and r**degree == n), None)


def _real(number: complex) -> complex:
    """Drop an imaginary part of rounding size, so that real results compare as real."""
    if isinstance(number, complex) and abs(number.imag) <= 1e-15 * abs(number.real):
        return number.real
    return number


def _sqrt(number: Number) -> Number:
    if isinstance(number, Fraction) and number >= 0:
        return _power(number, Fraction(1, 2))
    return _real(cmath.sqrt(_float(number)))


def _factorial(number: Number) -> Number:
    if not isinstance(number, Fraction) or number.denominator != 1 or number < 0:
        return math.gamma(_plain(number) + 1)
    if number > _FACTORIAL:
        raise UndecidableError("the factorial is too large to write out")
    return Fraction(math.factorial(number.numerator))


def _binomial(n: Number, k: Number) -> Number:
    if (
        not (isinstance(n, Fraction) and isinstance(k, Fraction))
        or n.denominator * k.denominator != 1
    ):
        raise UndecidableError("a binomial of fractions")
    if not 0 <= k <= n <= 5000:
        raise UndecidableError("a binomial out of bounds")
    return Fraction(math.comb(n.numerator, k.numerator))


def _plain(number: Number) -> float:
    number = _float(number)
    if isinstance(number, complex):
        raise UndecidableError("a real number is wanted")
    return number


def _absolute(number: Number) -> Number:
    if isinstance(number, Fraction):
        return abs(number)
    return abs(number)  # a float: the type of abs() differs, not its name


def _log(number: Number) -> Number:
    return Fraction(0) if number == 1 else _real(cmath.log(_float(number)))


def _lift(function: Callable[[complex], complex]) -> Callable[[Number], Number]:
    return lambda number: _real(function(_float(number)))


_FUNCTIONS: dict[str, Callable[[Number], Number]] = {
    "sin": _lift(cmath.sin),
    "cos": _lift(cmath.cos),
    "tan": _lift(cmath.tan),
    "cot": _lift(lambda x: cmath.cos(x) / cmath.sin(x)),
    "sec": _lift(lambda x: 1 / cmath.cos(x)),
    "csc": _lift(lambda x: 1 / cmath.sin(x)),
    "asin": _lift(cmath.asin),
    "acos": _lift(cmath.acos),
    "atan": _lift(cmath.atan),
    "sinh": _lift(cmath.sinh),
    "cosh": _lift(cmath.cosh),
    "tanh": _lift(cmath.tanh),
    "exp": _lift(cmath.exp),
    "log": _log,
    "lg": lambda x: _quotient(_log(x), math.log(10)),
    "sqrt": _sqrt,
    "cbrt": lambda x: _power(x, Fraction(1, 3)),
    "abs": _absolute,
    "factorial": _factorial,
    "lfloor": lambda x: Fraction(math.floor(_plain(x))),
    "lceil": lambda x: Fraction(math.ceil(_plain(x))),
}


def names(tree: Tree) -> frozenset[str]:
    """Return the variables in ``tree``."""
    if tree[0] == "v":
        return frozenset((tree[1],))
    found: frozenset[str] = frozenset()
    for part in tree[1:]:
        if isinstance(part, tuple):
            parts = (part,) if isinstance(part[0], str) else part
            found = found.union(*map(names, parts))
    return found


# Odd fractions, so that no rule of ours or of an author meets them; the second half has both signs.
_VALUES = [Fraction(n, 97) for n in (131, 59, 173, 83, 211, 37, 149, 71, 227, 113)]
_POSITIVE, _ALL = 4, 8


def _points(variables: frozenset[str]) -> Iterator[Point]:
    ordered = sorted(variables)
    for i in range(_ALL):
        signs = 1 if i < _POSITIVE else -1
        yield {
            name: _VALUES[(3 * i + 7 * k) % 10] * (signs if (i + k) % 2 else 1) + Fraction(i, 89)
            for k, name in enumerate(ordered)
        }


def same(a: Tree, b: Tree, sign: int = 1) -> bool | None:
    """Tell whether ``a`` and ``b`` are equal; None when these means cannot tell."""
    if a == b:
        return True
    variables = names(a) | names(b)
    try:
        if not variables:
            return _same_constant(value(a, {}, sign), value(b, {}, sign))
    except UndecidableError:
        return None
    return _same_function(lambda point: (value(a, point, sign), value(b, point, sign)), variables)


def _same_constant(a: Number, b: Number) -> bool | None:
    verdict = close(a, b)
    if verdict is False or isinstance(a, Fraction) == isinstance(b, Fraction):
        return verdict
    rational = a if isinstance(a, Fraction) else b
    assert isinstance(rational, Fraction)
    simple = rational.denominator < _SMALL and abs(rational.numerator) < _SMALL**2
    return verdict if simple else False  # a long decimal is a rounded one


def proportional(a: Tree, b: Tree) -> bool | None:
    """Tell whether ``a`` is a constant, not zero, times ``b``: whether a=0 and b=0 say the same."""
    variables = names(a) | names(b)
    if names(a) != names(b):
        return False
    first = next(_points(variables))
    try:
        top, bottom = value(a, first), value(b, first)
    except UndecidableError:
        return None
    if not top or not bottom:
        return None

    def cross(point: Point) -> tuple[Number, Number]:
        left = _product(iter((value(a, point), bottom)))
        return left, _product(iter((value(b, point), top)))

    return _same_function(cross, variables)


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


def close(a: Number, b: Number) -> bool | None:
    """Tell whether two values are equal; None when they are too near to tell."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    try:
        x, y = _float(a), _float(b)
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
