"""Vision-EasyVQA-v0: 5,000 small pictures of one shape each, which come in the package easy-vqa."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taskgym.envs.errors import DataError
from taskgym.envs.rows import Row
from taskgym.envs.rubric import Task
from taskgym.envs.vision import VisionEnv

PACKAGE = "easy_vqa"
INSTALL = "pip install 'taskgym[vision]'"


class VisionEasyVqa(VisionEnv):
    """Easy-VQA: what shape, which colour, is there a ...; learnable from scratch.

    Its own test split, 1,000 pictures and 9,673 questions, is for evaluation alone; the 4,000
    pictures and 38,575 questions of its train split are trained on.

    Args:
        data: None for the package, or rows of your own as for other dataset envs.
        dataset: The other keyword arguments of `VisionEnv`.
    """

    source = "the package easy-vqa, or your own rows"
    needs = f"pillow; {INSTALL}"
    hub_id = ""  # it is no hub's
    working = "I look at the picture."

    def load(self) -> Sequence[Row]:
        """The rows of `data`, or both splits of the package."""
        return super().load() if self.data is not None else easyvqa_rows()

    def kept_for_evaluation(self, task: Task) -> bool:
        """Whether the task is of the package's test split."""
        return task.row.get("split") == "test"

    def gold(self, task: Task, working: str = working) -> str:
        """A reply that earns `max_reward`; there is not much to work out."""
        return super().gold(task, working)


def easyvqa_rows(splits: Sequence[str] = ("train", "test")) -> list[Mapping[str, Any]]:
    """The package's rows, `image` as path.

    Raises:
        DataError: The package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise DataError(f"easy-VQA's pictures come in the package easy-vqa: {INSTALL}")
    folder = Path(next(iter(places)), "data")
    return [row for split in splits for row in _of_split(folder / split, split)]


def _of_split(folder: Path, split: str) -> list[Mapping[str, Any]]:
    triples = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    return [
        {
            "question": question,
            "answer": answer,
            "image": str(folder / "images" / f"{number}.png"),
            "split": split,
        }
        for question, answer, number in triples
    ]
