"""Countdown-v0: reach a target with given numbers, each used exactly once."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction

from taskgym.envs.core import SingleTurnEnv
from taskgym.envs.expressions import evaluate
from taskgym.envs.rows import Row
from taskgym.envs.rubric import Rubric, Task
from taskgym.envs.tags import Tags, read

TAGS = Tags("<think>", "</think>", "<answer>", "</answer>")
LARGEST = 1000  # of an intermediate result, while a puzzle is made
TRIES = 200  # draws per row before a range is given up

_DIGITS = re.compile(r"[0-9]+")


def correct(completion: str, task: Task) -> float:
    """1 if the expression uses the given numbers, each once, and reaches the target."""
    expression = read(completion, TAGS).answer
    result = None if expression is None else evaluate(expression.strip())
    if expression is None or result != Fraction(task.row["target"]):
        return 0.0
    used = Counter(int(number) for number in _DIGITS.findall(expression))
    return float(used == Counter(task.row["numbers"]))


def formatted(completion: str, task: Task) -> float:
    """1 for one answer block that holds an arithmetic expression, with nothing after it."""
    reading = read(completion, TAGS)
    if reading.answer is None or not reading.ends:
        return 0.0
    return float(evaluate(reading.answer.strip()) is not None)


class Countdown(SingleTurnEnv):
    """Reach a target with +, -, *, / and given numbers, each used exactly once.

    Puzzles are made from the kwargs by combining the numbers, so every one has a solution.

    Args:
        numbers: How many numbers are given.
        low: The smallest number given.
        high: The largest number given, and the largest target.
        size: How many puzzles.
        weights: Component -> weight, for those that shall differ from the rubric's.
    """

    source = "made from its kwargs"
    rubric = Rubric({"correct": (correct, 1.0), "format": (formatted, 0.1)})

    def __init__(
        self,
        *,
        numbers: int = 3,
        low: int = 1,
        high: int = 99,
        size: int = 2000,
        weights: Mapping[str, float] | None = None,
    ):
        super().__init__(weights=weights)
        if not 2 <= numbers <= 8:
            raise ValueError(f"a puzzle has 2 to 8 numbers, got numbers={numbers}")
        if not 1 <= low < high:
            raise ValueError(f"the numbers need 1 <= low < high, got low={low}, high={high}")
        if size < 1:
            raise ValueError(f"size is at least 1 puzzle, got {size}")
        self.numbers, self.low, self.high, self.size = numbers, low, high, size

    def solved(self, completion: str, task: Task, rewards: Mapping[str, float]) -> bool:
        """Whether the answer is right, whatever the weights."""
        return rewards["correct"] == 1.0

    def load(self) -> Sequence[Row]:
        """Puzzles that depend on the kwargs alone; fewer than `size` where a range has no more."""
        rng = random.Random(f"{self.numbers} {self.low} {self.high}")
        rows: dict[tuple[int, ...], Row] = {}
        for _ in range(self.size * TRIES):
            numbers = sorted(rng.randint(self.low, self.high) for _ in range(self.numbers))
            target, expression = _combine(rng, numbers)
            if self.low <= target <= self.high:
                rows.setdefault((*numbers, target), _row(numbers, target, expression))
            if len(rows) == self.size:
                break
        return list(rows.values())

    def gold(self, task: Task) -> str:
        """The expression the puzzle was made from, between its tags."""
        return f"<answer>{task.answer}</answer>"


def _row(numbers: list[int], target: int, expression: str) -> Row:
    question = (
        f"Use the numbers {', '.join(map(str, numbers))} to make {target}. Use each number exactly "
        "once, with +, -, *, / and parentheses. Write only the expression between <answer> and "
        "</answer>, for example <answer>(1 + 2) * 3</answer>."
    )
    return {"question": question, "answer": expression, "numbers": numbers, "target": target}


def _combine(rng: random.Random, numbers: Sequence[int]) -> tuple[int, str]:
    """Joins two parts at random until one is left; every result is a positive whole number."""
    parts = [(number, str(number)) for number in numbers]
    while len(parts) > 1:
        rng.shuffle(parts)
        (a, left), (b, right) = parts.pop(), parts.pop()
        if a < b:
            a, left, b, right = b, right, a, left
        sign, result = rng.choice(_results(a, b))
        parts.append((result, f"({left} {sign} {right})"))
    value, expression = parts[0]
    return value, expression.removeprefix("(").removesuffix(")")


def _results(a: int, b: int) -> list[tuple[str, int]]:
    results = [("+", a + b)]
    if a > b:
        results.append(("-", a - b))
    if a * b <= LARGEST:
        results.append(("*", a * b))
    if a % b == 0:
        results.append(("/", a // b))
    return results
