"""Arithmetic that is exact on rationals and of twelve digits on everything else."""

from __future__ import annotations

import cmath
import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

Number: TypeAlias = Fraction | complex

_BITS = 1 << 16  # the largest exact power worth computing: some 20,000 digits


class UndecidableError(ArithmeticError):
    """The value is undefined, too large, or too near to another one to be told apart."""


def inexact(number: Number) -> complex:
    """Return ``number`` as a float, or as the complex number it is."""
    return float(number) if isinstance(number, Fraction) else number


def real(number: complex) -> complex:
    """Drop an imaginary part of rounding size, so that real results compare as real."""
    if isinstance(number, complex) and abs(number.imag) <= 1e-15 * abs(number.real):
        return number.real
    return number


def _on_both(operation: Callable[[Any, Any], Any]) -> Callable[[Number, Number], Number]:
    """Return ``operation`` that is exact when both its operands are."""

    def apply(a: Number, b: Number) -> Number:
        exact = isinstance(a, Fraction) and isinstance(b, Fraction)
        result: Number = operation(a, b) if exact else operation(inexact(a), inexact(b))
        return result

    return apply


add = _on_both(operator.add)
multiply = _on_both(operator.mul)
divide = _on_both(operator.truediv)


def power(base: Number, exponent: Number) -> Number:
    """Return a power: exact with a whole exponent or an exact root, else the principal one."""
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        root = exponent.denominator
        if root == 1:
            return _whole_power(base, exponent.numerator)
        if base > 0 and root <= 64 and (exact := _exact_root(base, root)) is not None:
            return _whole_power(exact, exponent.numerator)
        if base < 0 and root % 2 and root <= 64:  # the real root, as in \sqrt[3]{-8}
            positive = power(-base, exponent)
            return -positive if exponent.numerator % 2 else positive
    if base == math.e:
        return real(cmath.exp(inexact(exponent)))
    return real(complex(inexact(base)) ** inexact(exponent))


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
