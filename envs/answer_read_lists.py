"""Read several answers that stand side by side: a bare list, or the cells of a matrix."""

from __future__ import annotations

import re

from taskgym.envs import answer_parts as parts
from taskgym.envs.answer_shapes import Assigned, Inner, Matrix, Scalar, Several, Shape
from taskgym.envs.answer_units import number_words

_MATRIX = re.compile(r"\\begin\{([bpvBV]?matrix|array)\}(?:\{[clr|]*\})?(.*)\\end\{\1\}", re.DOTALL)


def matrix(text: str, inner: Inner) -> list[Shape]:
    r"""``\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}``; a determinant is none."""
    found = _MATRIX.fullmatch(text)
    if found is None or found[1] in ("vmatrix", "Vmatrix"):
        return []
    rows = [row for row in re.split(r"\\\\", found[2]) if row.strip()]
    cells = tuple(tuple(inner(cell)[0] for cell in row.split("&")) for row in rows)
    return [Matrix(cells)] if cells else []


def joined(text: str, inner: Inner) -> list[Shape]:
    """``1, 2 and 3``."""
    members = parts.joined(text)
    if len(members) == 1 or (number_words(text) is not None):
        return []
    items = [item for member in members for item in parts.split(member, ",") if item.strip()]
    if not items:
        return []
    listed = bare(items, inner)
    # 3 or 4 are values of one unknown, never the pair (3, 4)
    return [Several("set", listed.items) if " or " in text else listed]


def listed(text: str, inner: Inner) -> list[Shape]:
    """``1, 2, 3``."""
    items = parts.split(text, ",;")
    return [bare(items, inner)] if len(items) > 1 else []


def bare(items: list[str], inner: Inner) -> Several:
    """Return the list of ``items``; one unknown with several values is the set of its values."""
    shapes = [inner(item)[0] for item in items]
    first = shapes[0]
    if isinstance(first, Assigned):
        others = [s for s in shapes if not (isinstance(s, Assigned) and s.name == first.name)]
        if all(isinstance(s, Scalar) for s in others):  # x = 1 or x = 2, and x = 1, 2
            return Several("set", tuple(s.value if isinstance(s, Assigned) else s for s in shapes))
    return Several("bare", tuple(shapes))
