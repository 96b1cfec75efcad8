"""Read what stands in brackets: a set, a pair, a vector, an interval, or just one thing."""

from __future__ import annotations

import re

from taskgym.envs.answer_parts import BRACKET, closing, split
from taskgym.envs.answer_read_scalars import scalar
from taskgym.envs.answer_shapes import Inner, Piece, Region, Scalar, Several, Shape

_PAIRS = {"(": ")", "[": "]", "\\{": "\\}", "{": "}", "\\langle": "\\rangle"}
_CONDITION = re.compile(r"\s*([A-Za-z])\s*(?:\\in\s*\\reals\s*)?(?:\||:|\\mid|\\colon)\s*(.*)")


def bracketed(text: str, inner: Inner) -> list[Shape]:
    r"""``\{1, 2\}``, ``(1, 2]``, ``]1, 2]``, ``\langle 1, 2, 3\rangle``, ``(x + 1)``."""
    opened = BRACKET.match(text)
    right = (
        text[-7:] if text.endswith("\\rangle") else text[-2:] if text[-2:] == "\\}" else text[-1]
    )
    if opened is None or opened[0] not in _PAIRS or len(text) < 2:
        return _reversed(text)  # it opens with a closing bracket
    if closing(text) != len(text) - len(right):
        return _reversed(text)
    left, inside = opened[0], text[opened.end() : len(text) - len(right)]
    if left in ("\\{", "{"):
        return _braced(left, inside, inner)
    return _ordered(left, inside, right, inner)


def _braced(left: str, inside: str, inner: Inner) -> list[Shape]:
    if condition := _CONDITION.fullmatch(inside):  # {x : x > 0}
        return inner(condition[2])
    items = split(inside, ",;")
    if left == "{" and len(items) == 1:
        return inner(inside)
    return [Several("set", tuple(inner(item)[0] for item in items))]


def _ordered(left: str, inside: str, right: str, inner: Inner) -> list[Shape]:
    items = split(inside, ",;")
    if len(items) == 1:
        return inner(inside) if right == _PAIRS[left] else []
    shapes = tuple(inner(item)[0] for item in items)
    kind = "tuple" if left == "(" else "square" if left == "[" and len(items) == 2 else "vector"
    readings: list[Shape] = [Several(kind, shapes)] if right == _PAIRS[left] else []
    if len(shapes) == 2 and left in "([" and all(isinstance(s, Scalar) for s in shapes):
        low, high = (s.tree for s in shapes if isinstance(s, Scalar))
        readings.append(Region((Piece(low, high, left == "[", right == "]"),)))
    return readings


def _reversed(text: str) -> list[Shape]:
    """Intervals as the French write them: ]0, 1[ is open."""
    if len(text) < 5 or text[0] not in "][" or text[-1] not in "][" or "," not in text:
        return []
    items = split(text[1:-1], ",;")
    if len(items) != 2:
        return []
    low, high = (scalar(item).tree for item in items)
    return [Region((Piece(low, high, text[0] == "[", text[-1] == "]"),))]
