"""Arithmetic-v0: one operation on two whole numbers; small enough to learn on a CPU."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import isqrt
from typing import Any

from taskgym.envs.core import SingleTurnEnv
from taskgym.envs.rows import Row
from taskgym.envs.rubric import Rubric, Task

MOST_ROWS = 20_000

_LAST = 200  # characters: the last number of a reply is looked for near its end
_WHOLE = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"(?<![0-9.,])-?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?")


def correct(completion: str, task: Task) -> float:
    """1 if the reply is the number and nothing else, not even a blank.

    A reply that pads the number with blanks until it is cut off would else be paid without ending.
    """
    return float(completion == task.answer)


def value(completion: str, task: Task) -> float:
    """1 if the last number of the reply is right, whatever else it says."""
    numbers = _NUMBER.findall(completion.rstrip()[-_LAST:])
    return float(bool(numbers) and Fraction(numbers[-1].replace(",", "")) == int(task.answer))


def number_only(completion: str, task: Task) -> float:
    """1 if the reply is one whole number and nothing else, right or wrong."""
    return float(len(completion) <= _LAST and bool(_WHOLE.fullmatch(completion)))


def digits(completion: str, task: Task) -> float:
    """The share of right digits of a reply that is one number of the right length, else 0."""
    if len(completion) != len(task.answer) or not _WHOLE.fullmatch(completion):
        return 0.0
    return sum(map(str.__eq__, completion, task.answer)) / len(completion)


class Arithmetic(SingleTurnEnv):
    """One operation on two whole numbers, made from its kwargs.

    Every unordered pair of operands is one row, so no split by rows can hold `3 + 5` here and
    `5 + 3` there. Differences are never negative and quotients always whole.

    Args:
        operations: Any of `+`, `-`, `*`, `/`.
        low: The smallest operand (of a quotient: the smallest divisor and result).
        high: The largest.
        template: The question, with `{a}`, `{operation}` and `{b}`.
        size: The most rows; a larger table is sampled, always the same way.
        system_prompt: Empty by default, so that chat templates do not write one of their own.
        weights: Component -> weight, for those that shall differ from the rubric's.
    """

    source = "made from its kwargs"
    rubric = Rubric(
        {
            "correct": (correct, 1.0),
            "digits": (digits, 0.5),
            "value": (value, 0.0),
            "number_only": (number_only, 0.0),
        }
    )

    def __init__(
        self,
        *,
        operations: str = "+",
        low: int = 0,
        high: int = 30,
        template: str = "{a} {operation} {b}",
        size: int = MOST_ROWS,
        system_prompt: str = "",
        weights: Mapping[str, float] | None = None,
    ):
        super().__init__(weights=weights)
        unknown = set(operations) - set("+-*/")
        if not operations or unknown or len(set(operations)) < len(operations):
            raise ValueError(f"operations are some of '+-*/', each once, got {operations!r}")
        if not 0 <= low < high:
            raise ValueError(f"operands need 0 <= low < high, got low={low}, high={high}")
        if size < 1:
            raise ValueError(f"size is at least 1 row, got {size}")
        self.operations, self.low, self.high = operations, low, high
        self.template, self.size, self.system_prompt = template, size, system_prompt

    def solved(self, completion: str, task: Task, rewards: Mapping[str, float]) -> bool:
        """Whether the answer is right, whatever the weights."""
        return rewards["correct"] == 1.0

    def load(self) -> Sequence[Row]:
        """All pairs in an order that depends on the kwargs alone, or a sample of them."""
        rng = random.Random(f"{self.operations} {self.low} {self.high}")
        span = self.high - self.low + 1
        pairs = span * (span + 1) // 2
        total = pairs * len(self.operations)
        chosen = rng.sample(range(total), min(total, self.size))
        return [self._row(*divmod(number, pairs), swap=rng.random() < 0.5) for number in chosen]

    def _row(self, operation: int, pair: int, swap: bool) -> Row:
        larger, smaller = unpair(pair)
        a, b = larger + self.low, smaller + self.low
        sign = self.operations[operation]
        if swap and sign in "+*/":
            a, b = b, a
        a, b, result = _apply(sign, a, b)
        question = self.template.format(a=a, operation=sign, b=b)
        return {"question": question, "answer": str(result), "a": a, "b": b, "operation": sign}


def unpair(number: int) -> tuple[int, int]:
    """The pair of that number: 0 is (0, 0), 1 is (1, 0), 2 is (1, 1), 3 is (2, 0), ..."""
    larger = (isqrt(8 * number + 1) - 1) // 2
    return larger, number - larger * (larger + 1) // 2


def _apply(sign: str, a: int, b: int) -> tuple[int, int, int]:
    """The operands as presented, and the result."""
    if sign == "/":
        a, b = (a, b) if b else (b, a or 1)  # never by zero
        return a * b, b, a
    results: dict[str, Any] = {"+": a + b, "-": a - b, "*": a * b}
    return a, b, results[sign]
