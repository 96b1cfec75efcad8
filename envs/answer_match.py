"""Compare two answers by the shapes they can be read as, without a computer algebra system."""

from __future__ import annotations

from functools import lru_cache

from taskgym.envs import answer_calendar as calendar
from taskgym.envs.answer_match_equations import same_equations
from taskgym.envs.answer_match_forms import tabled, written_out
from taskgym.envs.answer_match_lists import same_lists, same_matrices
from taskgym.envs.answer_match_regions import same_regions
from taskgym.envs.answer_match_scalars import same_scalars
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
from taskgym.envs.answer_trees import number

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
_DATED = (calendar.Time, calendar.Date)
_APART = (Words, Choice, *_DATED)  # kinds that compare with their own only


def match(gold: Shape, answer: Shape) -> bool | _NoPair | None:
    """Compare one reading of each side."""
    if not isinstance(gold, _APART) and not isinstance(answer, _APART):
        return _mathematics(gold, answer)
    if isinstance(gold, Words) and isinstance(answer, Words):
        return True if gold == answer and gold.text else _NO_PAIR
    if isinstance(gold, Choice) and isinstance(answer, Choice):
        return gold.letter == answer.letter
    if isinstance(gold, calendar.Time) and isinstance(answer, calendar.Time):
        return calendar.same_time(gold, answer)
    if isinstance(gold, calendar.Date) and isinstance(answer, calendar.Date):
        return calendar.same_date(gold, answer)
    pair = (gold, answer)
    # 12:03 is no number, which math-verify would not know: it divides
    dated = any(isinstance(shape, _DATED) for shape in pair)
    return False if dated and not any(isinstance(shape, Words) for shape in pair) else _NO_PAIR


def _equal(gold: Shape, answer: Shape) -> bool | None:
    """Compare two parts of an answer; parts that make no pair are different."""
    verdict = match(gold, answer)
    return False if isinstance(verdict, _NoPair) else verdict


def _mathematics(gold: Shape, answer: Shape) -> bool | None:
    if isinstance(gold, calendar.Ratio) or isinstance(answer, calendar.Ratio):
        return _ratios(gold, answer)
    if isinstance(gold, Assigned) or isinstance(answer, Assigned):
        return _assigned(gold, answer)
    if isinstance(gold, Equation) or isinstance(answer, Equation):
        return same_equations(gold, answer)
    if isinstance(gold, Region) or isinstance(answer, Region):
        return same_regions(gold, answer)
    return _collections(gold, answer)


def _collections(gold: Shape, answer: Shape) -> bool | None:
    if isinstance(gold, Matrix) != isinstance(answer, Matrix):
        gold, answer = tabled(gold), tabled(answer)
    if not (isinstance(gold, Matrix) and isinstance(answer, Matrix)):
        gold, answer = written_out(gold), written_out(answer)
    if isinstance(gold, Matrix) and isinstance(answer, Matrix):
        return same_matrices(gold, answer, _equal)
    if isinstance(gold, Scalar) and isinstance(answer, Scalar):
        return same_scalars(gold, answer)
    if isinstance(gold, Several) and isinstance(answer, Several):
        return same_lists(gold, answer, _equal)
    return _single(gold, answer)


def _ratios(gold: Shape, answer: Shape) -> bool | None:
    if isinstance(gold, calendar.Ratio) and isinstance(answer, calendar.Ratio):
        return gold == answer
    ratio, other = (gold, answer) if isinstance(gold, calendar.Ratio) else (answer, gold)
    if isinstance(ratio, calendar.Ratio) and isinstance(other, Scalar) and len(ratio.terms) == 1:
        return same_scalars(Scalar(number(ratio.terms[0])), other)
    return False


def _assigned(gold: Shape, answer: Shape) -> bool | None:
    if isinstance(gold, Assigned) and isinstance(answer, Assigned):
        return _both_assigned(gold, answer)
    assigned, other = (gold, answer) if isinstance(gold, Assigned) else (answer, gold)
    assert isinstance(assigned, Assigned)
    if isinstance(other, Equation):
        return same_equations(assigned.equation, other) if assigned.equation else False
    return _equal(assigned.value, other) if assigned is gold else _equal(other, assigned.value)


def _both_assigned(gold: Assigned, answer: Assigned) -> bool | None:
    if gold.name == answer.name or "(" in gold.name or "(" in answer.name:
        return _equal(gold.value, answer.value)
    if len(gold.name) > 3 or len(answer.name) > 3:  # "total = 5" only labels its value
        return _equal(gold.value, answer.value)
    if gold.equation is None or answer.equation is None:
        return False
    return same_equations(gold.equation, answer.equation)


def _single(gold: Shape, answer: Shape) -> bool | None:
    """A set or list of one item is that item."""
    for several, other in ((gold, answer), (answer, gold)):
        if (
            isinstance(several, Several)
            and several.kind in ("set", "bare")
            and len(several.items) == 1
        ):
            pair = (several.items[0], other) if several is gold else (other, several.items[0])
            return _equal(*pair)
    return False
