"""The value of an expression at a point: exact where every step of it is rational."""

from __future__ import annotations

import cmath
import math
from collections.abc import Mapping
from fractions import Fraction
from functools import reduce
from typing import TypeAlias

from taskgym.envs.answer_functions import FUNCTIONS, binomial
from taskgym.envs.answer_numbers import Number, UndecidableError, add, divide, multiply, power
from taskgym.envs.answer_trees import Tree

Point: TypeAlias = Mapping[str, Fraction]

_CONSTANTS: dict[str, complex] = {"pi": math.pi, "e": math.e, "i": 1j, "inf": math.inf}


def value(tree: Tree, point: Point | None = None) -> Number:
    """Return the value of ``tree`` with variables from ``point`` and every ± taken as a plus.

    Raises:
        UndecidableError: there is none, or none of a reasonable size.
    """
    try:
        result = _value(tree, point or {})
    except (ArithmeticError, ValueError, RecursionError) as error:
        raise UndecidableError(str(error)) from error
    if not isinstance(result, Fraction) and cmath.isnan(result):
        raise UndecidableError("not a number")
    return result


def _value(tree: Tree, point: Point) -> Number:
    head = tree[0]
    if head == "n":
        return tree[1]  # type: ignore[no-any-return]
    if head == "v":
        return _variable(tree[1], point)
    if head == "k":
        return _CONSTANTS[tree[1]]
    if head == "+":
        return reduce(add, (_value(term, point) for term in tree[1]))
    if head == "*":
        return reduce(multiply, (_value(factor, point) for factor in tree[1]))
    if head == "/":
        return divide(_value(tree[1], point), _value(tree[2], point))
    if head == "^":
        return power(_value(tree[1], point), _value(tree[2], point))
    if head == "pm":
        return multiply(Fraction(tree[1]), _value(tree[2], point))
    if tree[1] == "binom":
        return binomial(_value(tree[2][1], point), _value(tree[2][2], point))
    return FUNCTIONS[tree[1]](_value(tree[2], point))


def _variable(name: str, point: Point) -> Fraction:
    if name not in point:
        raise UndecidableError(f"no value for {name}")
    return point[name]
