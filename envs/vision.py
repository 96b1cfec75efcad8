"""What the vision envs share: a picture and a question, reasoning and solution between tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from taskgym.envs.answers import Verdict
from taskgym.envs.core import Info, Stop
from taskgym.envs.dataset import Data
from taskgym.envs.errors import DataError
from taskgym.envs.math_env import WORKING, MathEnv
from taskgym.envs.rows import Row, Tasks, to_tasks
from taskgym.envs.rubric import Rubric, Task
from taskgym.envs.shapes import SCENES, drawings, paint
from taskgym.envs.spaces import Messages
from taskgym.envs.vision_rows import canonical, picture, with_hashes
from taskgym.envs.vision_scores import (
    INSTRUCTION,
    LETTERS,
    TAGS,
    correctness_reward_func,
    formatting_reward_func,
    verdict,
)

MAX_PIXELS = 1_048_576  # of a picture shown; larger ones are scaled down, aspect ratio kept

_SAMPLE = 25  # drawings

Kinds = Literal["all", "free_form", "multi_choice"]


class VisionEnv(MathEnv):
    """One question about one picture per row.

    The observation is one user message: the picture (a `PIL.Image` of mode RGB), then the
    question, its choices and how to answer. `info["image_hash"]` names the pixels shown.
    Every picture is decoded once at load time, so that a broken one shows before any work.

    Args:
        kinds: Rows to keep: those with choices, those without, or all.
        max_pixels: Pictures with more are scaled down, aspect ratio kept.
        columns: Canonical key (`question`, `answer`, `image`, `choices`, `precision`, `unit`) ->
            column.
        dataset: The other keyword arguments of `DatasetEnv`.
    """

    needs = "pillow; datasets, for rows from the hub"
    tags = TAGS
    layout = "<REASONING>{working}</REASONING>\n<SOLUTION>{answer}</SOLUTION>"
    letters: ClassVar[bool] = True  # whether the data set gives the letter of a choice, or its text
    rubric = Rubric(
        {
            "formatting_reward_func": (formatting_reward_func, 1.0),
            "correctness_reward_func": (correctness_reward_func, 1.0),
        }
    )
    best = {  # noqa: RUF012
        "formatting_reward_func": 2.0,
        "correctness_reward_func": 2.0,
    }

    def __init__(self, *, kinds: Kinds = "all", max_pixels: int = MAX_PIXELS, **dataset: Any):
        super().__init__(**dataset)
        if kinds not in ("all", "free_form", "multi_choice"):
            raise ValueError(f"kinds is all, free_form or multi_choice, got {kinds!r}")
        if max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, got {max_pixels}")
        self.kinds, self.max_pixels = kinds, max_pixels

    def load_tasks(self) -> Tasks:
        """The rows as tasks."""
        return self.as_tasks(self.checked(self.load(), self.data))

    def prompt(self, task: Task) -> Messages:
        """The picture, then the question with its choices and how to answer."""
        text = "\n".join(filter(None, (task.question, *_hints(task.row), INSTRUCTION)))
        return self._messages(
            [{"type": "image", "image": self.show(task.row)}, {"type": "text", "text": text}]
        )

    def show(self, row: Row) -> Any:
        """The picture of a row as RGB, no larger than `max_pixels`; drawn where it is a drawing."""
        return (
            paint(row["image"])
            if "scene" in row
            else picture(row, row.get("folder"), self.max_pixels)
        )

    def gold(self, task: Task, working: str = WORKING) -> str:
        """A reply that earns `max_reward`."""
        return super().gold(task, working)

    def _sample(self) -> Sequence[Row]:
        """Drawings: no picture of a public set may be shipped, and none is needed."""
        return drawings(tuple(SCENES), 1, _SAMPLE)

    def verdict(self, completion: str, task: Task) -> Verdict:
        """How the solution compares with the gold answer."""
        return verdict(completion, task)

    def _info(self, rewards: dict[str, float], stop: Stop, success: bool) -> Info:
        return {
            **super()._info(rewards, stop, success),
            "image_hash": self.task.row["image_hash"],
        }

    def checked(self, rows: Sequence[Row], data: Data | None) -> list[dict[str, Any]]:
        """Rows of one source under canonical names, with the hashes of their pictures.

        Raises:
            DataError: A column is missing, or a picture cannot be shown; it names the row.
        """
        folder = _folder(data)
        columns = dict(self.columns or {})
        named = [
            {**canonical(row, i, str(self), columns, letters=self.letters), "folder": folder}
            for i, row in enumerate(rows)
        ]
        wanted = [row for row in named if self.kinds == "all" or self._kind(row) == self.kinds]
        if not wanted:
            raise DataError(f"{self} has no rows of kind {self.kinds!r} among {len(named)}")
        return with_hashes(wanted, self.show, str(self))

    def as_tasks(self, rows: Sequence[Row]) -> Tasks:
        """Checked rows as tasks; those that differ in their picture are different tasks."""
        return to_tasks(rows, str(self), numeric=self.numeric, beside="image_hash")

    @staticmethod
    def _kind(row: Row) -> Kinds:
        return "multi_choice" if row["choices"] else "free_form"


def _folder(data: Any) -> Path | None:
    """Where a file of rows lies: the pictures it names are relative to it."""
    path = Path(data).expanduser() if isinstance(data, str | Path) else None
    return path.parent.resolve() if path is not None and path.is_file() else None


def _hints(row: Mapping[str, Any]) -> list[str]:
    """The choices or the form of the number, as MathVista asks for them."""
    if row["choices"]:
        lines = [f"({LETTERS[i]}) {choice}" for i, choice in enumerate(row["choices"])]
        return ["Choices:", *lines, "Answer with the letter of the right choice."]
    hints = []
    if row["precision"] is not None:
        places = f"{row['precision']} decimal place{'s' if row['precision'] != 1 else ''}"
        hints.append(f"Answer with a number of {places}." if row["precision"] else "")
    if row["unit"]:
        hints.append(f"The unit is {row['unit']}.")
    return hints
