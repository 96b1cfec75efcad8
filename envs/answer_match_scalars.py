"""Compare two expressions with their units and percent signs."""

from __future__ import annotations

from fractions import Fraction

from taskgym.envs.answer_equality import same
from taskgym.envs.answer_shapes import Scalar
from taskgym.envs.answer_trees import Tree, number
from taskgym.envs.answer_units import Unit


def same_scalars(gold: Scalar, answer: Scalar) -> bool | None:
    """Tell whether both are equal; p% is p/100, and p where gold is a bare number."""
    if gold.percent != answer.percent:
        return _percentages(gold, answer)
    if gold.unit is None or answer.unit is None or gold.unit == answer.unit:
        return _one_unit(gold, answer)
    if {gold.unit.dimension, answer.unit.dimension} == {"angle", "radian"}:
        return same(_radians(gold), _radians(answer))
    if gold.unit.dimension != answer.unit.dimension:
        return False
    return same(_scaled(gold.tree, gold.unit), _scaled(answer.tree, answer.unit))


def _percentages(gold: Scalar, answer: Scalar) -> bool | None:
    """Compare two of which one stands before a percent sign."""
    a, b = gold.tree, answer.tree
    if gold.percent:
        return same(_per_cent(a), b)
    verdict = same(a, _per_cent(b))
    return verdict if verdict is True or gold.unit else same(a, b)


def _one_unit(gold: Scalar, answer: Scalar) -> bool | None:
    verdict = same(gold.tree, answer.tree)
    angles = [s for s in (gold, answer) if s.unit is not None and s.unit.dimension == "angle"]
    if verdict is False and len(angles) == 1 and gold.unit is not answer.unit:
        return same(_radians(gold), _radians(answer))  # 30 degrees and pi/6
    return verdict


def _radians(scalar: Scalar) -> Tree:
    if scalar.unit is None or scalar.unit.dimension != "angle":
        return scalar.tree
    return ("*", (scalar.tree, ("k", "pi"), number(Fraction(1, 180))))


def _per_cent(tree: Tree) -> Tree:
    return ("/", tree, number(100))


def _scaled(tree: Tree, unit: Unit) -> Tree:
    return ("*", (tree, number(unit.factor)))
