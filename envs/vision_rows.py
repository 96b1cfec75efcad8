"""Rows about pictures, whatever their data set calls the columns: choices, gold letters, images."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from taskgym.envs.errors import DataError
from taskgym.envs.images import at_most, image_hash, open_image
from taskgym.envs.rows import Row
from taskgym.envs.rubric import Task
from taskgym.envs.vision_scores import LETTERS

logger = logging.getLogger(__name__)

# Canonical key -> the columns that may carry it, first match wins: MathVista's, MATH-Vision's and
# Geometry3K's names. A column map of one's own (columns=) goes first.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "question": ("question", "problem"),
    "answer": ("answer",),
    "image": ("decoded_image", "image", "images"),
    "choices": ("choices", "options"),
    "precision": ("precision",),
    "unit": ("unit",),
}
_NEEDED = ("question", "answer", "image")
_PLACEHOLDER = re.compile(r"\s*<image\d*>\s*")  # where a data set's own text says: picture here

Show = Callable[[Row], Any]


def canonical(
    row: Row, number: int, name: str, columns: Mapping[str, str], *, letters: bool
) -> dict[str, Any]:
    """A row with `question`, `answer`, `image`, `choices`, `precision` and `unit`, and its others.

    Args:
        row: As the data set has it.
        number: Its place there, for the errors.
        name: The data set, likewise.
        columns: Canonical key -> column, where the names differ from `COLUMNS`.
        letters: Whether the answer to a choice is its letter (else its text) where both are read.

    Returns:
        The answer to a choice is always its letter, whatever it was.

    Raises:
        DataError: A column is missing, or the answer is none of the choices.
    """
    where = f"{name}: row {number}"
    found = {key: _column(row, key, columns, where) for key in COLUMNS}
    dropped = {c for names in COLUMNS.values() for c in names} | set(columns.values())
    others = {key: value for key, value in row.items() if key not in dropped}
    choices = _choices(found["choices"], where)
    answer = "" if found["answer"] is None else str(found["answer"]).strip()
    if choices and answer:
        answer = _letter(answer, choices, letters, where)
    precision = found["precision"]
    return {
        **others,
        "question": _PLACEHOLDER.sub(" ", str(found["question"] or "")).strip(),
        "answer": "" if answer.casefold() == "nan" else answer,
        "image": found["image"],
        "choices": choices,
        "precision": None if precision in (None, "") else int(float(precision)),
        "unit": str(found["unit"] or "").strip(),
        "where": where,
    }


def with_hashes(rows: Iterable[Mapping[str, Any]], show: Show, name: str) -> list[dict[str, Any]]:
    """The rows with the hash of their image, each image decoded once here to see that it can be.

    Raises:
        DataError: An image that cannot be shown; the message names the row.
    """
    known: dict[Any, str] = {}
    hashed = []
    for row in rows:
        source = row["image"]
        key = source if isinstance(source, str | Path) else id(source)
        if key not in known:
            known[key] = image_hash(show(row))
        hashed.append({**row, "image_hash": known[key]})
    pixels = sorted(set(known.values()))
    whole = hashlib.blake2b("".join(pixels).encode(), digest_size=8).hexdigest()
    logger.info("%s: %d rows about %d images, hash %s", name, len(hashed), len(pixels), whole)
    return hashed


def picture(row: Row, folder: Path | None, max_pixels: int) -> Any:
    """The image of a canonical row, with no more pixels than that."""
    return at_most(open_image(row["image"], str(row["where"]), folder=folder), max_pixels)


def without_seen(tasks: Sequence[Task], seen: Sequence[Task], name: str) -> list[Task]:
    """Training tasks that no evaluation task resembles.

    A task is dropped when its image is among the evaluation's, or its question is, unless that
    question is asked about several training images and so says nothing by itself (`Find x.`).
    """
    images = {task.row["image_hash"] for task in seen}
    questions = {folded(task.question) for task in seen}
    common = Counter(folded(question) for question, _ in {_asked(task) for task in tasks})
    dropped: Counter[str] = Counter()
    kept = []
    for task in tasks:
        same_image = task.row["image_hash"] in images
        question = folded(task.question)
        if same_image or (question in questions and common[question] == 1):
            dropped["image" if same_image else "question"] += 1
        else:
            kept.append(task)
    if dropped:
        logger.warning(
            "%s: left out training rows that the evaluation shares: %s", name, dict(dropped)
        )
    return kept


def folded(question: str) -> str:
    """A question as it is compared across data sets: case and blanks do not count."""
    return " ".join(question.casefold().split())


def _asked(task: Task) -> tuple[str, str]:
    return task.question, str(task.row["image_hash"])


def _column(row: Row, key: str, columns: Mapping[str, str], where: str) -> Any:
    names = (columns[key],) if key in columns else COLUMNS[key]
    for name in names:
        if name in row and (row[name] is not None or key not in _NEEDED):
            return row[name]
    if key not in _NEEDED and key not in columns:
        return None
    raise DataError(
        f"{where} has no column {' or '.join(map(repr, names))} for its {key}; it has "
        f"{', '.join(map(str, row))}. Name the column with columns={{{key!r}: ...}}"
    )


def _choices(value: Any, where: str) -> tuple[str, ...]:
    """The texts of the choices; some files keep the list as JSON text."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DataError(f"{where}: choices are no list: {value[:60]!r}") from error
    if value is None or len(value) == 0:
        return ()
    if isinstance(value, str) or len(value) > len(LETTERS):
        raise DataError(f"{where}: choices are a list of at most 26 texts, got {str(value)[:60]!r}")
    return tuple(str(choice).strip() for choice in value)


def _letter(answer: str, choices: tuple[str, ...], letters: bool, where: str) -> str:
    by_letter = answer if len(answer) == 1 and answer in LETTERS[: len(choices)] else None
    places = [i for i, choice in enumerate(choices) if folded(choice) == folded(answer)]
    by_text = LETTERS[places[0]] if places else None
    found = (by_letter or by_text) if letters else (by_text or by_letter)
    if found is None:
        raise DataError(f"{where}: the answer {answer!r} is none of the choices {list(choices)}")
    return found
