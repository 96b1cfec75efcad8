"""The functions an expression may name, by the head that its tree gives them."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from fractions import Fraction

from taskgym.envs.answer_numbers import Number, UndecidableError, divide, inexact, power, real

_FACTORIAL = 1500
_BINOMIAL = 5000


def _lift(function: Callable[[complex], complex]) -> Callable[[Number], Number]:
    return lambda number: real(function(inexact(number)))


def _plain(number: Number) -> float:
    number = inexact(number)
    if isinstance(number, complex):
        raise UndecidableError("a real number is wanted")
    return number


def _absolute(number: Number) -> Number:
    if isinstance(number, Fraction):
        return abs(number)
    return abs(number)  # a float: the type of abs() differs, not its name


def _sqrt(number: Number) -> Number:
    if isinstance(number, Fraction) and number >= 0:
        return power(number, Fraction(1, 2))
    return real(cmath.sqrt(inexact(number)))


def _log(number: Number) -> Number:
    return Fraction(0) if number == 1 else real(cmath.log(inexact(number)))


def _factorial(number: Number) -> Number:
    if not isinstance(number, Fraction) or number.denominator != 1 or number < 0:
        return math.gamma(_plain(number) + 1)
    if number > _FACTORIAL:
        raise UndecidableError("the factorial is too large to write out")
    return Fraction(math.factorial(number.numerator))


def binomial(n: Number, k: Number) -> Number:
    """Return ``n`` over ``k``, the one function of two numbers."""
    if (
        not (isinstance(n, Fraction) and isinstance(k, Fraction))
        or n.denominator * k.denominator != 1
    ):
        raise UndecidableError("a binomial of fractions")
    if not 0 <= k <= n <= _BINOMIAL:
        raise UndecidableError("a binomial out of bounds")
    return Fraction(math.comb(n.numerator, k.numerator))


FUNCTIONS: dict[str, Callable[[Number], Number]] = {
    "sin": _lift(cmath.sin),
    "cos": _lift(cmath.cos),
    "tan": _lift(cmath.tan),
    "cot": _lift(lambda x: cmath.cos(x) / cmath.sin(x)),
    "sec": _lift(lambda x: 1 / cmath.cos(x)),
    "csc": _lift(lambda x: 1 / cmath.sin(x)),
    "cis": _lift(lambda x: cmath.exp(1j * x)),
    "asin": _lift(cmath.asin),
    "acos": _lift(cmath.acos),
    "atan": _lift(cmath.atan),
    "sinh": _lift(cmath.sinh),
    "cosh": _lift(cmath.cosh),
    "tanh": _lift(cmath.tanh),
    "exp": _lift(cmath.exp),
    "log": _log,
    "lg": lambda x: divide(_log(x), math.log(10)),
    "sqrt": _sqrt,
    "cbrt": lambda x: power(x, Fraction(1, 3)),
    "abs": _absolute,
    "factorial": _factorial,
    "lfloor": lambda x: Fraction(math.floor(_plain(x))),
    "lceil": lambda x: Fraction(math.ceil(_plain(x))),
}
