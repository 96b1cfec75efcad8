"""Compare equations: two say the same when they are multiples of each other."""

from __future__ import annotations

from taskgym.envs.answer_equality import proportional
from taskgym.envs.answer_match_forms import has_sign
from taskgym.envs.answer_shapes import Equation, Several, Shape
from taskgym.envs.answer_trees import Tree, names, negative


def same_equations(gold: Shape, answer: Shape) -> bool | None:
    """Tell whether two shapes, at least one an equation, are one; None when it takes solving."""
    if isinstance(gold, Equation) and isinstance(answer, Equation):
        left, right = _difference(gold), _difference(answer)
        # a tree's value takes every ± as a plus, but x = ±4 says less than 2x = 8
        return _multiples(left, right) if has_sign(left) == has_sign(right) else None
    equation, other = (gold, answer) if isinstance(gold, Equation) else (answer, gold)
    if isinstance(equation, Equation) and isinstance(other, Several):
        return _unsolved(_difference(equation))
    return False  # 2x = 8 states neither 4 yet nor 8, which math-verify would take


def _multiples(gold: Tree, answer: Tree) -> bool | None:
    verdict = proportional(gold, answer)
    if verdict is not False or names(gold) != names(answer):
        return verdict
    return _unsolved(gold)  # x^2 = 4 and |x| = 2


def _unsolved(difference: Tree) -> bool | None:
    """One unknown may have equal roots after all, which these rules do not look for."""
    return None if len(names(difference)) == 1 else False


def _difference(equation: Equation) -> Tree:
    return ("+", (equation.left, negative(equation.right)))
