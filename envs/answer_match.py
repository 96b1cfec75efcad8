"""Compare two answers by the shapes they can be read as, without a computer algebra system."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache

from taskgym.envs import answer_calendar as calendar
from taskgym.envs.answer_expressions import Tree
from taskgym.envs.answer_numbers import (
    names,
    proportional,
    same,
)
from taskgym.envs.answer_regions import every, same_regions
from taskgym.envs.answer_rules import read
from taskgym.envs.answer_shapes import (
    Assigned,
    Choice,
    Equation,
    Matrix,
    Region,
    Scalar,
    Several,
    Shape,
    Words,
)
from taskgym.envs.answer_units import Unit

_ITEMS = 40  # sets are matched item by item, so their size is bounded

readings = lru_cache(maxsize=2048)(read)


def decide(gold: str, answer: str) -> bool | None:
    """Tell whether two cleaned texts are equal answers; None when these rules cannot tell."""
    verdicts = [match(wanted, given) for wanted in readings(gold) for given in readings(answer)]
    known = [verdict for verdict in verdicts if verdict is not _NO_PAIR]
    if True in known:
        return True
    if known and None not in known:
        return False
    return None


def is_words(text: str) -> bool:
    """Tell whether ``text`` has no other reading than its words."""
    return len(readings(text)) == 1


class _NoPair:
    """Two readings of kinds that do not speak about the same thing."""


_NO_PAIR = _NoPair()


def match(gold: Shape, answer: Shape) -> bool | _NoPair | None:
    """Compare one reading of each side."""
    if isinstance(gold, Words) or isinstance(answer, Words):
        return True if gold == answer and isinstance(gold, Words) and gold.text else _NO_PAIR
    if isinstance(gold, Choice) or isinstance(answer, Choice):
        return _choices(gold, answer)
    if isinstance(gold, calendar.Time) and isinstance(answer, calendar.Time):
        return calendar.same_time(gold, answer)
    if isinstance(gold, calendar.Date) and isinstance(answer, calendar.Date):
        return gold[1:] == answer[1:] and (
            gold.year == answer.year or 0 in (gold.year, answer.year)
        )
    if isinstance(gold, (calendar.Date, calendar.Time)) or isinstance(
        answer, (calendar.Date, calendar.Time)
    ):
        return _NO_PAIR
    return _mathematics(gold, answer)


def _choices(gold: Shape, answer: Shape) -> bool | _NoPair:
    if isinstance(gold, Choice) and isinstance(answer, Choice):
        return gold.letter == answer.letter
    return _NO_PAIR


def _mathematics(gold: Shape, answer: Shape) -> bool | None:
    if isinstance(gold, calendar.Ratio) or isinstance(answer, calendar.Ratio):
        return _ratios(gold, answer)
    if isinstance(gold, Assigned) or isinstance(answer, Assigned):
        return _assigned(gold, answer)
    if isinstance(gold, Equation) or isinstance(answer, Equation):
        return _equations(gold, answer)
    if isinstance(gold, Region) or isinstance(answer, Region):
        return same_regions(gold, answer)
    if isinstance(gold, Matrix) != isinstance(answer, Matrix):
        gold, answer = _tabled(gold), _tabled(answer)
    if not (isinstance(gold, Matrix) and isinstance(answer, Matrix)):
        gold, answer = _listed(gold), _listed(answer)
    if isinstance(gold, Matrix) and isinstance(answer, Matrix):
        return _matrices(gold, answer)
    if isinstance(gold, Scalar) and isinstance(answer, Scalar):
        return scalars(gold, answer)
    if isinstance(gold, Several) and isinstance(answer, Several):
        return _lists(gold, answer)
    return _single(gold, answer)


def _ratios(gold: Shape, answer: Shape) -> bool | None:
    if isinstance(gold, calendar.Ratio) and isinstance(answer, calendar.Ratio):
        return gold == answer
    ratio, other = (gold, answer) if isinstance(gold, calendar.Ratio) else (answer, gold)
    if isinstance(ratio, calendar.Ratio) and isinstance(other, Scalar) and len(ratio.terms) == 1:
        return scalars(Scalar(("n", ratio.terms[0])), other)
    return False


def _assigned(gold: Shape, answer: Shape) -> bool | None:
    if isinstance(gold, Assigned) and isinstance(answer, Assigned):
        if gold.name == answer.name or "(" in gold.name or "(" in answer.name:
            return _plain(match(gold.value, answer.value))
        if len(gold.name) > 3 or len(answer.name) > 3:  # "total = 5" only labels its value
            return _plain(match(gold.value, answer.value))
        if gold.equation is None or answer.equation is None:
            return False
        return _equations(gold.equation, answer.equation)
    assigned, other = (gold, answer) if isinstance(gold, Assigned) else (answer, gold)
    assert isinstance(assigned, Assigned)
    if isinstance(other, Equation):
        return _equations(assigned.equation, other) if assigned.equation else False
    pair = (assigned.value, other) if isinstance(gold, Assigned) else (other, assigned.value)
    return _plain(match(*pair))


def _plain(verdict: bool | _NoPair | None) -> bool | None:
    return False if isinstance(verdict, _NoPair) else verdict


def _equations(gold: Shape, answer: Shape) -> bool | None:
    if isinstance(gold, Equation) and isinstance(answer, Equation):
        verdict = proportional(_difference(gold), _difference(answer))
        if verdict is not False or names(_difference(gold)) != names(_difference(answer)):
            return verdict
        # x^2 = 4 and |x| = 2: one unknown may have equal roots after all
        return None if len(names(_difference(gold))) == 1 else False
    equation, other = (gold, answer) if isinstance(gold, Equation) else (answer, gold)
    if isinstance(equation, Equation) and isinstance(other, (Several, Scalar)):
        return None if len(names(_difference(equation))) == 1 else False
    return False


def _difference(equation: Equation) -> Tree:
    return ("+", (equation.left, ("*", (("n", Fraction(-1)), equation.right))))


def _listed(shape: Shape) -> Shape:
    """Write every ± out, also within a list, and one row or column as a vector."""
    if isinstance(shape, Matrix) and 1 in (len(shape.rows), max(map(len, shape.rows))):
        return Several("vector", tuple(cell for row in shape.rows for cell in row))
    if isinstance(shape, Scalar) and _has_sign(shape.tree):
        return Several("bare", tuple(_signed(shape)))
    if isinstance(shape, Several) and any(
        isinstance(item, Scalar) and _has_sign(item.tree) for item in shape.items
    ):
        items: list[Shape] = []
        for item in shape.items:
            signed = isinstance(item, Scalar) and _has_sign(item.tree)
            items += _signed(item) if signed and isinstance(item, Scalar) else [item]
        return Several(shape.kind, tuple(items))
    return shape


def _tabled(shape: Shape) -> Shape:
    """A list of lists, as programs write a matrix, is one where a matrix is wanted."""
    if not isinstance(shape, Several) or shape.kind not in ("vector", "square"):
        return shape
    rows = [row.items for row in shape.items if isinstance(row, Several)]
    return Matrix(tuple(rows)) if len(rows) == len(shape.items) else shape


def _has_sign(tree: Tree) -> bool:
    if tree[0] == "pm":
        return True
    return any(
        _has_sign(part) if isinstance(part[0], str) else any(map(_has_sign, part))
        for part in tree[1:]
        if isinstance(part, tuple)
    )


def _signed(scalar: Scalar) -> Iterable[Scalar]:
    for sign in (1, -1):
        yield Scalar(_resolve(scalar.tree, sign), scalar.unit, scalar.percent)


def _resolve(tree: Tree, sign: int) -> Tree:
    if tree[0] == "pm":
        return ("*", (("n", Fraction(sign * tree[1])), _resolve(tree[2], sign)))
    if tree[0] in ("+", "*"):
        return (tree[0], tuple(_resolve(part, sign) for part in tree[1]))
    return tuple(_resolve(part, sign) if isinstance(part, tuple) else part for part in tree)


def _matrices(gold: Matrix, answer: Matrix) -> bool | None:
    if [len(row) for row in gold.rows] != [len(row) for row in answer.rows]:
        return False
    pairs = (
        _plain(match(a, b))
        for left, right in zip(gold.rows, answer.rows, strict=True)
        for a, b in zip(left, right, strict=True)
    )
    return every(pairs)


def _lists(gold: Several, answer: Several) -> bool | None:
    a, b = gold.items, answer.items
    kinds = {gold.kind, answer.kind}
    if "set" in kinds:
        if not kinds <= {"set", "bare"}:
            return False
        return _sets(_distinct(a), _distinct(b))
    if len(a) != len(b) or kinds == {"tuple", "square"}:
        return False
    named = [item for item in (*a, *b) if isinstance(item, Assigned)]
    if len(named) == len(a) + len(b) and len({item.name for item in named}) == len(a):
        return every(_plain(match(x, y)) for x, y in zip(_by_name(a), _by_name(b), strict=True))
    if len(named) == len(a):
        a, b = (_by_name(a), b) if isinstance(a[0], Assigned) else (a, _by_name(b))
    if gold.kind == answer.kind == "bare" and len(named) != len(a):
        return _sets(a, b)
    return every(_plain(match(x, y)) for x, y in zip(a, b, strict=True))


def _by_name(items: Sequence[Shape]) -> tuple[Shape, ...]:
    return tuple(sorted(items, key=lambda item: item.name if isinstance(item, Assigned) else ""))


def _distinct(items: Sequence[Shape]) -> tuple[Shape, ...]:
    kept: list[Shape] = []
    for item in items[: _ITEMS + 1]:
        if not any(_plain(match(item, other)) is True for other in kept):
            kept.append(item)
    return tuple(kept)


def _sets(a: Sequence[Shape], b: Sequence[Shape]) -> bool | None:
    """Pair every item with an equal one, in any order."""
    if max(len(a), len(b)) > _ITEMS:
        return None
    if len(a) != len(b):
        return False
    left, unsure = list(b), False
    for item in a:
        verdicts = [_plain(match(item, other)) for other in left]
        if True in verdicts:
            left.pop(verdicts.index(True))
        elif None in verdicts:
            unsure = True
        else:
            return False
    return None if unsure else True


def _single(gold: Shape, answer: Shape) -> bool | None:
    """A set or list of one item is that item."""
    for several, other in ((gold, answer), (answer, gold)):
        if (
            isinstance(several, Several)
            and several.kind in ("set", "bare")
            and len(several.items) == 1
        ):
            pair = (several.items[0], other) if several is gold else (other, several.items[0])
            return _plain(match(*pair))
    return False


def scalars(gold: Scalar, answer: Scalar) -> bool | None:
    """Compare two expressions with their units; p% is p/100, and p where gold is a bare number."""
    a, b = gold.tree, answer.tree
    if gold.percent != answer.percent:
        if gold.percent:
            return same(_per_cent(a), b)
        verdict = same(a, _per_cent(b))
        return verdict if verdict is True or gold.unit else same(a, b)
    if gold.unit is None or answer.unit is None or gold.unit == answer.unit:
        return _bare_units(gold, answer)
    if {gold.unit.dimension, answer.unit.dimension} == {"angle", "radian"}:
        return same(_radians(gold), _radians(answer))
    if gold.unit.dimension != answer.unit.dimension:
        return False
    return same(_scaled(a, gold.unit), _scaled(b, answer.unit))


def _bare_units(gold: Scalar, answer: Scalar) -> bool | None:
    verdict = same(gold.tree, answer.tree)
    angles = [s for s in (gold, answer) if s.unit is not None and s.unit.dimension == "angle"]
    if verdict is False and len(angles) == 1 and gold.unit is not answer.unit:
        return same(_radians(gold), _radians(answer))  # 30 degrees and pi/6
    return verdict


def _radians(scalar: Scalar) -> Tree:
    if scalar.unit is None or scalar.unit.dimension != "angle":
        return scalar.tree
    return ("*", (scalar.tree, ("k", "pi"), ("n", Fraction(1, 180))))


def _per_cent(tree: Tree) -> Tree:
    return ("/", tree, ("n", Fraction(100)))


def _scaled(tree: Tree, unit: Unit) -> Tree:
    return ("*", (tree, ("n", unit.factor)))
