"""Read regions of the real line: inequalities, unions, and the line without some points."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

from taskgym.envs import answer_parts as parts
from taskgym.envs.answer_read_scalars import scalar
from taskgym.envs.answer_shapes import (
    INFINITY,
    LINE,
    MINUS_INFINITY,
    Inner,
    Piece,
    Region,
    Scalar,
    Several,
    Shape,
)
from taskgym.envs.answer_trees import NotMathsError

_RELATION = re.compile(r"(<=|>=|!=|<|>)")
_UNION = re.compile(r"\\cup(?![a-z])|\s+U\s+|\s+\bunion\b\s+")
_WITHOUT = re.compile(r"\\setminus|\\backslash")


def united(text: str, inner: Inner) -> list[Shape]:
    r"""``(0, 1) \cup (2, 3)``, ``\reals \setminus \{0\}``."""
    if _WITHOUT.search(text):
        return [_without(text, inner)]
    members = _UNION.split(text)
    return [_union(members, inner)] if len(members) > 1 else []


def _without(text: str, inner: Inner) -> Region:
    whole, points = _WITHOUT.split(text, maxsplit=1)
    out = inner(points)[0]
    region = _region(inner(whole))
    if region is None or not isinstance(out, Several):
        raise NotMathsError(text)
    return Region(region.pieces, tuple(s.tree for s in out.items if isinstance(s, Scalar)))


def _region(shapes: Sequence[Shape]) -> Region | None:
    return next((shape for shape in shapes if isinstance(shape, Region)), None)


def _union(members: list[str], inner: Inner) -> Region | Several:
    readings = [inner(member) for member in members]
    points = [items for items in map(_points, readings) if items is not None]
    if len(points) == len(members):
        return Several("set", tuple(chain.from_iterable(points)))
    return Region(tuple(chain.from_iterable(map(_pieces, readings))))


def _points(shapes: Sequence[Shape]) -> tuple[Shape, ...] | None:
    first = shapes[0]
    return first.items if isinstance(first, Several) and first.kind == "set" else None


def _pieces(shapes: Sequence[Shape]) -> tuple[Piece, ...]:
    if (region := _region(shapes)) is not None:
        return region.pieces
    if (points := _points(shapes)) is not None:
        return tuple(map(_point, points))
    raise NotMathsError("a union of something else")


def _point(item: Shape) -> Piece:
    if not isinstance(item, Scalar):
        raise NotMathsError("a point that is no number")
    return Piece(item.tree, item.tree, True, True)


def bounded(text: str, inner: Inner) -> list[Shape]:
    """``x > 1 and x < 3``, ``x < 1 or x > 3``."""
    if not _RELATION.search(text) or "=" in re.sub("[<>!]=", "", text):
        return []
    members = parts.joined(text)
    if len(members) == 1:
        return []
    if " and " in text:
        return [_intersection([inner(member)[0] for member in members])]
    return [_union(members, inner)]


def _intersection(shapes: list[Shape]) -> Region:
    """Of rays only: x > 1 and x < 3."""
    low, high = MINUS_INFINITY, INFINITY
    low_closed = high_closed = False
    for shape in shapes:
        if not isinstance(shape, Region) or len(shape.pieces) != 1 or shape.without:
            raise NotMathsError("an intersection of something else")
        piece = shape.pieces[0]
        if piece.low != MINUS_INFINITY and low == MINUS_INFINITY:
            low, low_closed = piece.low, piece.low_closed
        elif piece.high != INFINITY and high == INFINITY:
            high, high_closed = piece.high, piece.high_closed
        else:
            raise NotMathsError("an intersection of something else")
    return Region((Piece(low, high, low_closed, high_closed),))


def related(text: str, _: Inner) -> list[Shape]:
    """``x > 1``, ``1 < x <= 3``, ``x != 0``."""
    terms = [term.strip() for term in _RELATION.split(text)]
    if len(terms) == 1:
        return []
    if len(terms) == 3:
        return [_ray(*terms)]
    if len(terms) == 5 and terms[1][0] == terms[3][0] and parts.is_name(terms[2]):
        return [_between(*terms)]
    raise NotMathsError(text)


def _between(left: str, after: str, name: str, before: str, right: str) -> Region:
    if after[0] == ">":
        left, after, before, right = right, before, after, left
    low, high = scalar(left).tree, scalar(right).tree
    return Region((Piece(low, high, after in ("<=", ">="), before in ("<=", ">=")),), (), name)


def _ray(left: str, relation: str, right: str) -> Region:
    if not parts.is_name(left):
        left, right = right, left
        relation = relation.translate(str.maketrans("<>", "><"))
    if not parts.is_name(left):
        raise NotMathsError("an inequality that is not solved")
    bound, closed = scalar(right).tree, relation.endswith("=")
    if relation == "!=":
        return Region(LINE.pieces, (bound,), left)
    if relation[0] == ">":
        return Region((Piece(bound, INFINITY, closed, False),), (), left)
    return Region((Piece(MINUS_INFINITY, bound, False, closed),), (), left)
