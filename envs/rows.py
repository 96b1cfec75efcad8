"""From rows to tasks: canonical columns, content hashes, duplicates and contradictions dropped."""

from __future__ import annotations

import difflib
import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, overload

from taskgym.envs.errors import DataError
from taskgym.envs.rubric import Task

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]

# Canonical key -> the columns that may carry it, first match wins.
COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"question": ("question", "prompt", "problem"), "answer": ("answer", "solution")}
)


class Tasks(Sequence[Task]):
    """The tasks of an env, in the order of their rows, and how many rows were dropped and why."""

    def __init__(self, tasks: Sequence[Task], dropped: Mapping[str, int]):
        self._tasks = tuple(tasks)
        self.dropped = dict(dropped)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | Sequence[Task]:
        return self._tasks[index]

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)


def to_tasks(
    rows: Iterable[Row],
    name: str,
    *,
    columns: Mapping[str, str] | None = None,
    numeric: bool = False,
    beside: str | None = None,
) -> Tasks:
    """Turns rows into tasks.

    Rows without a question or answer are dropped, exact duplicates kept once, a question that
    stands with two different answers dropped whole; each kind is counted and logged.

    Args:
        rows: Mappings with at least a question and an answer column.
        name: Who asks, for the log and the errors.
        columns: Canonical key -> column, where they are not called `question`, `prompt` or
            `problem`, and `answer` or `solution`. Dots reach into nested mappings.
        numeric: Keep only rows whose answer is a plain number.
        beside: A column that is asked about as well, such as the hash of an image: rows that
            differ in it are different tasks.

    Raises:
        DataError: A row lacks a column, or no row is left.
    """
    dropped: Counter[str] = Counter()
    tasks = [task for row in rows if (task := _task(row, columns or {}, numeric, beside, dropped))]
    tasks = _consistent(tasks, beside, dropped)
    if dropped:
        logger.info("%s: kept %d tasks, dropped %s", name, len(tasks), dict(dropped))
    if not tasks:
        raise DataError(f"{name} has no tasks left; rows dropped: {dict(dropped) or 'none given'}")
    return Tasks(tasks, dropped)


def task_id(question: str, answer: str) -> str:
    """A content hash of 16 hex digits: the same row has the same id on every machine."""
    text = f"{question}\0{answer}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:16]


def is_number(text: str) -> bool:
    """Whether pandas' `to_numeric` would take it (the notebooks' filter): no `1,000`, no `1/2`."""
    plain = text.strip()
    if not plain.isascii() or "_" in plain:
        return False
    try:
        return float(plain) == float(plain)
    except ValueError:
        return False


def _task(
    row: Row,
    columns: Mapping[str, str],
    numeric: bool,
    beside: str | None,
    dropped: Counter[str],
) -> Task | None:
    question, answer = (find_column(row, key, columns) for key in ("question", "answer"))
    if question is None or not _content(question).strip():
        dropped["no question"] += 1
        return None
    text = None if answer is None else cut_answer(str(answer))
    if not text:
        dropped["no answer"] += 1
        return None
    if numeric and not is_number(text):
        dropped["answer is no number"] += 1
        return None
    asked = _content(question)
    whole = asked if beside is None else f"{asked}\0{row[beside]}"
    return Task(asked, text, task_id(whole, text), MappingProxyType(dict(row)))


def cut_answer(answer: str) -> str:
    """The text between the first `####` and the next, as GSM8K marks it, or else all of it."""
    parts = answer.split("####")
    return (parts[1] if len(parts) > 1 else answer).strip()


def _content(question: Any) -> str:
    """A question may come as chat messages (the original DAPO rows): the last user message asks."""
    if isinstance(question, str):
        return question
    if isinstance(question, Sequence) and all(isinstance(m, Mapping) for m in question):
        asked = [m.get("content") for m in question if m.get("role") == "user"]
        if asked and isinstance(asked[-1], str):
            return asked[-1]
    raise DataError(f"a question is text or chat messages, got {str(question)[:80]!r}")


def find_column(
    row: Row,
    key: str,
    columns: Mapping[str, str],
    known: Mapping[str, tuple[str, ...]] = COLUMNS,
) -> Any:
    """A row's value for a canonical key.

    Args:
        row: The row.
        key: The canonical key.
        columns: Canonical key -> column, as the user named them; dots reach into mappings.
        known: Canonical key -> the columns that may carry it otherwise, first match wins.

    Raises:
        DataError: The row has no such column.
    """
    names = (columns[key],) if key in columns else known[key]
    for name in names:
        found, value = _reach(row, name)
        if found:
            return value
    wanted = " or ".join(repr(name) for name in names)
    near = difflib.get_close_matches(names[0], list(row), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise DataError(
        f"a row has no column {wanted} for its {key}; it has {', '.join(map(str, row))}.{hint} "
        f"Name the column with columns={{{key!r}: ...}} (--columns on the command line)"
    )


def _reach(row: Row, path: str) -> tuple[bool, Any]:
    if path in row:
        return True, row[path]
    value: Any = row
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return False, None
        value = value[step]
    return True, value


def _consistent(tasks: Sequence[Task], beside: str | None, dropped: Counter[str]) -> list[Task]:
    asked = [(task.question, task.row[beside] if beside else None) for task in tasks]
    answers: dict[Any, set[str]] = {}
    for key, task in zip(asked, tasks, strict=True):
        answers.setdefault(key, set()).add(task.answer)
    kept: dict[Any, Task] = {}
    for key, task in zip(asked, tasks, strict=True):
        if len(answers[key]) > 1:
            dropped["two answers"] += 1
        elif key in kept:
            dropped["duplicate"] += 1
        else:
            kept[key] = task
    return list(kept.values())
