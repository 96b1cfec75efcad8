"""Bring a shape into the form in which it is compared: every ± written out, rows as a matrix."""

from __future__ import annotations

from taskgym.envs.answer_shapes import Matrix, Scalar, Several, Shape
from taskgym.envs.answer_trees import Tree, children, number


def written_out(shape: Shape) -> Shape:
    """Write every ± out, also within a list, and one row or column as a vector."""
    if isinstance(shape, Matrix) and 1 in (len(shape.rows), max(map(len, shape.rows))):
        return Several("vector", tuple(cell for row in shape.rows for cell in row))
    if isinstance(shape, Scalar) and has_sign(shape.tree):
        return Several("bare", _signed(shape))
    if isinstance(shape, Several):
        return Several(shape.kind, tuple(part for item in shape.items for part in _signed(item)))
    return shape


def tabled(shape: Shape) -> Shape:
    """A list of lists, as programs write a matrix, is one where a matrix is wanted."""
    if not isinstance(shape, Several) or shape.kind not in ("vector", "square"):
        return shape
    rows = [row.items for row in shape.items if isinstance(row, Several)]
    return Matrix(tuple(rows)) if len(rows) == len(shape.items) else shape


def _signed(item: Shape) -> tuple[Shape, ...]:
    """Return ``item`` with a plus and with a minus for its ±, or by itself if it has none."""
    if not isinstance(item, Scalar) or not has_sign(item.tree):
        return (item,)
    trees = (_resolve(item.tree, sign) for sign in (1, -1))
    return tuple(Scalar(tree, item.unit, item.percent) for tree in trees)


def has_sign(tree: Tree) -> bool:
    """Tell whether ``tree`` stands for two, by a ± in it."""
    return tree[0] == "pm" or any(map(has_sign, children(tree)))


def _resolve(tree: Tree, sign: int) -> Tree:
    if tree[0] == "pm":
        return ("*", (number(sign * tree[1]), _resolve(tree[2], sign)))
    if tree[0] in ("+", "*"):
        return (tree[0], tuple(_resolve(part, sign) for part in tree[1]))
    return tuple(_resolve(part, sign) if isinstance(part, tuple) else part for part in tree)
