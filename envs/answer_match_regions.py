"""Compare unions of intervals by their normal form: sorted, merged, single points taken out."""

from __future__ import annotations

from taskgym.envs.answer_equality import close, every, same
from taskgym.envs.answer_numbers import UndecidableError
from taskgym.envs.answer_shapes import Piece, Region, Shape
from taskgym.envs.answer_trees import Tree
from taskgym.envs.answer_values import value


def same_regions(gold: Shape, answer: Shape) -> bool | None:
    """Tell whether both are the same set of reals; None when an end cannot be told."""
    if not isinstance(gold, Region) or not isinstance(answer, Region):
        return False
    if gold.variable and answer.variable and gold.variable != answer.variable:
        return False
    try:
        a, b = _normal(gold), _normal(answer)
    except UndecidableError:
        return _symbolic(gold, answer)
    if len(a) != len(b) or not a:  # two pairs that fall, (5, 2) and (4, 1), are no empty intervals
        return False
    return every(_same_piece(x, y) for x, y in zip(a, b, strict=True))


def _symbolic(gold: Region, answer: Region) -> bool | None:
    if len(gold.pieces) != len(answer.pieces) or gold.without or answer.without:
        return None
    return every(_same_piece(x, y) for x, y in zip(gold.pieces, answer.pieces, strict=True))


def _same_piece(a: Piece, b: Piece) -> bool | None:
    if (a.low_closed, a.high_closed) != (b.low_closed, b.high_closed):
        return False
    return every((same(a.low, b.low), same(a.high, b.high)))


def _normal(region: Region) -> list[Piece]:
    """Sort the intervals, take single points out of them and merge those that touch."""
    pieces = sorted(region.pieces, key=lambda piece: (_real(piece.low), not piece.low_closed))
    for point in region.without:
        pieces = [part for piece in pieces for part in _without(piece, point)]
    merged: list[Piece] = []
    for piece in pieces:
        if merged and _touch(merged[-1], piece):
            merged[-1] = _merge(merged[-1], piece)
        elif _real(piece.low) <= _real(piece.high):
            merged.append(piece)
    return merged


def _without(piece: Piece, point: Tree) -> list[Piece]:
    low, high, at = _real(piece.low), _real(piece.high), _real(point)
    if not low <= at <= high:
        return [piece]
    left = Piece(piece.low, point, piece.low_closed, False)
    right = Piece(point, piece.high, False, piece.high_closed)
    return [part for part, empty in ((left, low == at), (right, at == high)) if not empty]


def _touch(a: Piece, b: Piece) -> bool:
    end, start = _real(a.high), _real(b.low)
    if close(value(a.high), value(b.low)) is True:
        return a.high_closed or b.low_closed
    return start < end


def _merge(a: Piece, b: Piece) -> Piece:
    if _real(a.high) > _real(b.high):
        return a
    closed = b.high_closed or (a.high_closed and _real(a.high) == _real(b.high))
    return Piece(a.low, b.high, a.low_closed, closed)


def _real(tree: Tree) -> float:
    number = value(tree)
    if isinstance(number, complex):
        raise UndecidableError("an end that is not real")
    try:
        return float(number)
    except OverflowError as error:
        raise UndecidableError("an end that is very large") from error
