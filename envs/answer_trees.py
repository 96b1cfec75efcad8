"""The tree of an expression: what it looks like, how to build one and what it holds.

A tree is a tuple whose head names it::

    ("n", Fraction)   ("v", name)   ("k", "pi" | "e" | "i" | "inf")
    ("+", terms)   ("*", factors)   ("/", a, b)   ("^", a, b)   ("f", name, a)   ("pm", sign, a)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

Tree: TypeAlias = tuple[Any, ...]


class NotMathsError(ValueError):
    """The text is not an expression that this grammar knows."""


def number(value: Fraction | int) -> Tree:
    """Return the tree of an exact value."""
    return ("n", Fraction(value))


MINUS_ONE = number(-1)


def negative(tree: Tree) -> Tree:
    """Return the tree of -``tree``."""
    return ("*", (MINUS_ONE, tree))


def product(factors: Sequence[Tree]) -> Tree:
    """Return the tree of a product, which is its factor where there is one only."""
    return factors[0] if len(factors) == 1 else ("*", tuple(factors))


def children(tree: Tree) -> Iterator[Tree]:
    """Yield the trees directly below ``tree``."""
    for part in tree[1:]:
        if isinstance(part, tuple):
            yield from (part,) if isinstance(part[0], str) else part


def names(tree: Tree) -> frozenset[str]:
    """Return the variables in ``tree``."""
    if tree[0] == "v":
        return frozenset((tree[1],))
    return frozenset[str]().union(*map(names, children(tree)))
