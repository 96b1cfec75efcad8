"""Read what is said of a name, and equations between expressions."""

from __future__ import annotations

import re

from taskgym.envs.answer_expressions import parse
from taskgym.envs.answer_parts import is_name, split
from taskgym.envs.answer_read_lists import bare
from taskgym.envs.answer_shapes import Assigned, Equation, Inner, Shape
from taskgym.envs.answer_trees import NotMathsError, names

_LABEL = re.compile(r"(?:the )?[A-Za-z][A-Za-z ]{2,40}|\|?[A-Z]{2}\|?")  # and a segment AB
_MEMBER = re.compile(r"([A-Za-z]|\\[A-Za-z]+)\s*\\in(?![a-z])\s*(.*)")


def member(text: str, inner: Inner) -> list[Shape]:
    r"""``x \in A`` is A."""
    found = _MEMBER.fullmatch(text)
    return inner(found[2]) if found else []


def equated(text: str, inner: Inner) -> list[Shape]:
    """``x = 5``, ``f(x) = x^2``, ``total cost = 5``, ``x + y = 1``; ``3 + 4 = 7`` states 7."""
    if "=" not in text:
        return []
    items = split(text, ",;")
    if len(items) > 1:
        return [bare(items, inner)]
    sides = [side.strip() for side in text.split("=")]
    if len(sides) == 2 and is_name(sides[1]) and not is_name(sides[0]):
        sides.reverse()
    if is_name(sides[0]) or (_LABEL.fullmatch(sides[0]) and len(sides) == 2):
        name = sides[0].replace(" ", "")
        return [Assigned(name, shape, _equation(sides)) for shape in inner(sides[-1])]
    equation = _equation(sides)
    return [equation] if equation and names(equation.left) else inner(sides[-1])


def _equation(sides: list[str]) -> Equation | None:
    try:
        return Equation(parse(sides[0]), parse(sides[1])) if len(sides) == 2 else None
    except NotMathsError:
        return None
