"""From rows of a code data set to tasks: which column holds what, and the driver's view of it."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from taskgym.envs.errors import DataError
from taskgym.envs.rows import Row, Tasks, find_column, task_id
from taskgym.envs.rubric import Task

logger = logging.getLogger(__name__)


class Problem(NamedTuple):
    """What a row asks for and how an answer is tested.

    Attributes:
        entry: The function to write.
        reference: Source of a solution that passes, with the helpers that the tests call.
        setup: Source that the tests need run first.
        tests: Sources, each one test; empty where `check` has them.
        check: Source that defines `check(candidate)`; empty where `tests` has them.
        preamble: Source given to the model that its program may rely on.
    """

    entry: str
    reference: str
    setup: str
    tests: tuple[str, ...]
    check: str
    preamble: str

    def suite(self) -> dict[str, Any]:
        """What the driver takes, as plain data."""
        plain = {**self._asdict(), "tests": list(self.tests)}
        del plain["preamble"]
        return plain


class Columns:
    """One row's canonical values, by the first of the known columns that it has.

    Args:
        row: The row.
        known: Canonical key -> the columns that may carry it.
        named: Canonical key -> the column that the user named.
    """

    def __init__(self, row: Row, known: Mapping[str, tuple[str, ...]], named: Mapping[str, str]):
        self._row, self._known, self._named = row, known, named

    def text(self, key: str) -> str:
        """A column of text; None is an empty text."""
        value = find_column(self._row, key, self._named, self._known)
        if not isinstance(value, str | None):
            raise DataError(f"a row's {key} is text, got {str(value)[:80]!r}")
        return value or ""

    def texts(self, key: str) -> tuple[str, ...]:
        """A column of texts, or of one; blank ones are left out."""
        value = find_column(self._row, key, self._named, self._known)
        texts = [value] if isinstance(value, str) else value or []
        if not isinstance(texts, list | tuple) or not all(isinstance(t, str) for t in texts):
            raise DataError(f"a row's {key} are texts, got {str(value)[:80]!r}")
        return tuple(text for text in texts if text.strip())

    def has(self, key: str) -> bool:
        """Whether the row has such a column."""
        return key in self._named or any(name in self._row for name in self._known[key])


Read = Callable[[Columns], tuple[str, Problem] | str]


def to_code_tasks(
    rows: Iterable[Row],
    name: str,
    read: Read,
    known: Mapping[str, tuple[str, ...]],
    named: Mapping[str, str],
) -> Tasks:
    """Turns rows into tasks whose `row["problem"]` is a `Problem`.

    Rows that cannot be used are dropped, exact duplicates kept once; each kind is counted and
    logged.

    Args:
        rows: Mappings with the columns of the data set.
        name: Who asks, for the log and the errors.
        read: Makes the question and the problem of a row, or says why the row is of no use.
        known: Canonical key -> the columns that may carry it, first match wins.
        named: Canonical key -> column, where they are called otherwise.

    Raises:
        DataError: A row lacks a column, or no row is left.
    """
    dropped: Counter[str] = Counter()
    tasks: dict[str, Task] = {}
    for row in rows:
        found = read(Columns(row, known, named))
        if isinstance(found, str):
            dropped[found] += 1
            continue
        task = _task(row, *found)
        dropped["duplicate"] += task.task_id in tasks
        tasks.setdefault(task.task_id, task)
    dropped = +dropped
    if dropped:
        logger.info("%s: kept %d tasks, dropped %s", name, len(tasks), dict(dropped))
    if not tasks:
        raise DataError(f"{name} has no tasks left; rows dropped: {dict(dropped) or 'none given'}")
    return Tasks(list(tasks.values()), dropped)


def _task(row: Row, question: str, problem: Problem) -> Task:
    name = task_id(question, json.dumps(problem))
    return Task(question, problem.reference, name, MappingProxyType({**row, "problem": problem}))


def problem_of(task: Task) -> Problem:
    """The problem behind a task."""
    problem: Problem = task.row["problem"]
    return problem


def blocks(*parts: Sequence[str] | str) -> str:
    """Paragraphs of a question: texts as they are, sequences of lines as fenced code."""
    return "\n\n".join(
        part if isinstance(part, str) else "```python\n" + "\n".join(part) + "\n```"
        for part in parts
    )
