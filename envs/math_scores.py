"""The ladders that the two solution-tag envs score an answer on, each with its own numbers."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from taskgym.envs.answers import Verdict, compare
from taskgym.envs.errors import MachineryError

LONGEST = 1000  # characters; a longer "answer" is an essay and is not read

_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_CURRENCY = r"\\?[$€£¥]"
_FIRST = re.compile(rf"(?:[-−]\s?)?(?:{_CURRENCY}\s?)?(?:{_NUMBER})(?:\s?/\s?[0-9]+)?")
_WORD = re.compile(r"(?:^|\s)[A-Za-z]{2,}[,.:]?(?:\s|$)")
_PLAIN = re.compile(
    rf"(?P<sign>[-−+]?)\s*(?:{_CURRENCY})?\s*(?P<digits>{_NUMBER})(?P<power>[eE][-+]?[0-9]{{1,2}})?"
    r"\s*(?:\\?%)?[A-Za-z. ]*"
)


class AnswerScores(NamedTuple):
    """What `check_answer` pays, in the order of its branches."""

    missing: float  # the format is not there
    exact: float  # identical text
    value: float  # equal in value, or but for surrounding blanks
    near: float  # answer / gold in [0.9, 1.1]
    far: float  # answer / gold in [0.8, 1.2]
    wrong: float  # another value, or no verdict in time
    unreadable: float  # no mathematics in it


class NumberScores(NamedTuple):
    """What `check_numbers` pays, in the order of its branches."""

    missing: float  # no number in an answer block
    equal: float
    different: float


def judge(answer: str, gold: str) -> Verdict:
    """Whether an answer equals the gold one.

    Raises:
        MachineryError: The verifier failed twice: the answer could not be judged.
    """
    if answer == gold:
        return Verdict.EQUAL
    if len(answer) > LONGEST:
        return Verdict.UNPARSED
    verdict = compare(gold, answer)
    if verdict is Verdict.ERROR:
        raise MachineryError(f"the verifier failed on answer {answer[:80]!r} for {gold[:80]!r}")
    return verdict


def answer_score(scores: AnswerScores, answer: str, gold: str, near_miss: bool) -> float:
    """The ladder: identical, equal, near, further off, wrong, unreadable."""
    if answer == gold:
        return scores.exact
    if answer.strip() == gold:  # a gold answer has no surrounding blanks
        return scores.value
    verdict = judge(answer, gold)
    if verdict is Verdict.EQUAL:
        return scores.value
    if verdict is Verdict.UNPARSED:
        return scores.unreadable
    near_miss = near_miss and verdict is Verdict.DIFFERENT
    ratio = _ratio(answer, gold) if near_miss else None
    if ratio is None:
        return scores.wrong
    if Fraction(9, 10) <= ratio <= Fraction(11, 10):
        return scores.near
    return scores.far if Fraction(8, 10) <= ratio <= Fraction(12, 10) else scores.wrong


def number_score(scores: NumberScores, answer: str | None, gold: str) -> float:
    """Pays for equal value; of a block in prose, the first number counts."""
    if answer is None:
        return scores.missing
    verdict = judge(answer, gold)
    if verdict is Verdict.UNPARSED or (verdict is Verdict.DIFFERENT and _is_prose(answer)):
        number = first_number(answer)
        if number is None:
            return scores.missing
        verdict = judge(number, gold)
    return scores.equal if verdict is Verdict.EQUAL else scores.different


def first_number(text: str) -> str | None:
    """The first number in a text with its sign, or None.

    >>> first_number("First, it is -$1,250.50 in all")
    '-$1,250.50'
    """
    found = _FIRST.search(text, 0, LONGEST)
    return found[0] if found else None


def plain_number(text: str) -> Fraction | None:
    """The exact value of a text that is one number, perhaps with a currency, percent or unit."""
    text = text.strip()
    found = _PLAIN.fullmatch(text) if len(text) <= 64 else None
    if not found:
        return None
    value = Fraction(found["digits"].replace(",", "") + (found["power"] or ""))
    return -value if found["sign"] in ("-", "−") and value else value


def _is_prose(text: str) -> bool:
    """Whether there are words in it; in mathematics the first number may be a part of the value."""
    return "\\" not in text and _WORD.search(text, 0, LONGEST) is not None


def _ratio(answer: str, gold: str) -> Fraction | None:
    value, wanted = plain_number(answer), plain_number(gold)
    return value / wanted if value is not None and wanted else None
