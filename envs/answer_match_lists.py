"""Compare lists, sets and matrices item by item.

Items are answers of their own, so each function is given ``equal``, which compares two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from taskgym.envs.answer_equality import every
from taskgym.envs.answer_shapes import Assigned, Matrix, Several, Shape

Equal: TypeAlias = Callable[[Shape, Shape], bool | None]

_ITEMS = 40  # sets are matched item by item, so their size is bounded


def same_matrices(gold: Matrix, answer: Matrix, equal: Equal) -> bool | None:
    """Compare cell by cell."""
    if [len(row) for row in gold.rows] != [len(row) for row in answer.rows]:
        return False
    rows = zip(gold.rows, answer.rows, strict=True)
    return every(equal(a, b) for left, right in rows for a, b in zip(left, right, strict=True))


def same_lists(gold: Several, answer: Several, equal: Equal) -> bool | None:
    """Compare in any order what has none: sets, and bare lists whose items are not named."""
    a, b = gold.items, answer.items
    kinds = {gold.kind, answer.kind}
    if "set" in kinds:
        if not kinds <= {"set", "bare"} or len(_unknowns((*a, *b))) > 1:
            return False
        return _same_sets(_distinct(a, equal), _distinct(b, equal), equal)
    if len(a) != len(b) or kinds in ({"tuple", "square"}, {"bare", "square"}):
        return False
    named = [item for item in (*a, *b) if isinstance(item, Assigned)]
    if len(named) == len(a) + len(b) and len({item.name for item in named}) == len(a):
        return _in_order(_by_name(a), _by_name(b), equal)
    if len(named) == len(a):
        a, b = (_by_name(a), b) if isinstance(a[0], Assigned) else (a, _by_name(b))
    elif kinds == {"bare"}:
        return _same_sets(a, b, equal)
    return _in_order(a, b, equal)


def _unknowns(items: Sequence[Shape]) -> set[str]:
    """The letters that ``items`` give values to: one for x_1 and x_2, two for x and y."""
    names = {item.name.partition("_")[0] for item in items if isinstance(item, Assigned)}
    return {name for name in names if len(name) == 1 or name[0] == "\\"}  # longer ones are labels


def _in_order(a: Sequence[Shape], b: Sequence[Shape], equal: Equal) -> bool | None:
    return every(equal(x, y) for x, y in zip(a, b, strict=True))


def _by_name(items: Sequence[Shape]) -> tuple[Shape, ...]:
    return tuple(sorted(items, key=lambda item: item.name if isinstance(item, Assigned) else ""))


def _distinct(items: Sequence[Shape], equal: Equal) -> tuple[Shape, ...]:
    kept: list[Shape] = []
    for item in items[: _ITEMS + 1]:
        if not any(equal(item, other) is True for other in kept):
            kept.append(item)
    return tuple(kept)


def _same_sets(a: Sequence[Shape], b: Sequence[Shape], equal: Equal) -> bool | None:
    """Pair every item with an equal one, in any order."""
    if max(len(a), len(b)) > _ITEMS:
        return None
    if len(a) != len(b):
        return False
    left, unsure = list(b), False
    for item in a:
        verdicts = [equal(item, other) for other in left]
        if True in verdicts:
            left.pop(verdicts.index(True))
        elif None in verdicts:
            unsure = True
        else:
            return False
    return None if unsure else True
