"""The shapes an answer can have: number, list, region of the line, equation, matrix, words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from taskgym.envs import answer_calendar as calendar
from taskgym.envs.answer_trees import Tree, negative
from taskgym.envs.answer_units import Unit


@dataclass(frozen=True, slots=True)
class Scalar:
    """One expression; ``percent`` says that it stood before a percent sign."""

    tree: Tree
    unit: Unit | None = None
    percent: bool = False


@dataclass(frozen=True, slots=True)
class Several:
    """Items of a ``set``, ``tuple``, ``vector``, ``square`` pair or ``bare`` list.

    A square pair ``[1, 2]`` is rather an interval than the pair ``(1, 2)``; a ``vector`` is any
    ordered list, however it is written.
    """

    kind: str
    items: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """One interval with its ends and whether each belongs to it."""

    low: Tree
    high: Tree
    low_closed: bool
    high_closed: bool


@dataclass(frozen=True, slots=True)
class Region:
    """A union of intervals of the real line; ``without`` lists single points taken out."""

    pieces: tuple[Piece, ...]
    without: tuple[Tree, ...] = ()
    variable: str | None = None


@dataclass(frozen=True, slots=True)
class Equation:
    """``left = right`` between expressions."""

    left: Tree
    right: Tree


@dataclass(frozen=True, slots=True)
class Assigned:
    """``name = value`` for one letter or one ``f(x)``."""

    name: str
    value: Shape
    equation: Equation | None


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of a matrix; one column is also a vector."""

    rows: tuple[tuple[Shape, ...], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A lettered choice; ``named`` when the text shows that the letter is one: ``(B)``, ``B.``."""

    letter: str
    named: bool


@dataclass(frozen=True, slots=True)
class Words:
    """Text up to case, articles and punctuation."""

    text: str


Shape: TypeAlias = (
    Scalar | Several | Region | Equation | Assigned | Matrix | Choice | Words
    | calendar.Date | calendar.Time | calendar.Ratio
)  # fmt: skip
Inner: TypeAlias = Callable[[str], list[Shape]]  # how a rule reads a part of its text

INFINITY: Tree = ("k", "inf")
MINUS_INFINITY: Tree = negative(INFINITY)
LINE = Region((Piece(MINUS_INFINITY, INFINITY, False, False),))
