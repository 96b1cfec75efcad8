"""Vision-MathVista-v0: trains on other sets of pictures, evaluates on MathVista's testmini."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from taskgym.envs.dataset import Data
from taskgym.envs.errors import DataError
from taskgym.envs.rows import Row, Tasks
from taskgym.envs.rubric import Task
from taskgym.envs.sources import load_rows
from taskgym.envs.vision import VisionEnv
from taskgym.envs.vision_easyvqa import VisionEasyVqa, easyvqa_rows
from taskgym.envs.vision_figures import VisionGeometry3K
from taskgym.envs.vision_rows import without_seen
from taskgym.envs.vision_shapes import VisionShapes

logger = logging.getLogger(__name__)

HELD_OUT = 4  # of 16: the share of testmini that is kept from training on testmini
SHAPES_DIFFICULTY = 3


class VisionMathVista(VisionEnv):
    """Reasoning about charts, figures and photos: MathVista.

    `testmini`, its only labelled split, is the field's evaluation set: it is what is held out here.
    Trained on are Geometry3K's train split, easy-VQA's and drawings of our own, less the rows that
    share an image, or a question of their own, with testmini.

    Args:
        data: MathVista's rows: None for the hub, a file, a list, or "sample".
        geometry3k: Geometry3K's rows likewise; False leaves them out.
        easyvqa: Rows of easy-VQA at most; 0 leaves them out.
        shapes: Drawings; 0 leaves them out.
        train_on_testmini: Train on testmini instead. A quarter of it, fixed by content, is kept
            for evaluation, but scores on the whole of it mean nothing any more.
        vision: The other keyword arguments of `VisionEnv`.
    """

    source = "AI4Math/MathVista; trains on hiyouga/geometry3k, easy-vqa and drawings"
    needs = "pillow; datasets, for rows from the hub; easy-vqa"
    hub_id = "AI4Math/MathVista"
    letters = False

    def __init__(
        self,
        *,
        geometry3k: Data | bool = True,
        easyvqa: int = 2000,
        shapes: int = 2000,
        train_on_testmini: bool = False,
        split: str = "",
        **vision: Any,
    ):
        local = vision.get("data") is not None
        super().__init__(split=split or ("train" if local else "testmini"), **vision)
        self.geometry3k, self.easyvqa, self.shapes = geometry3k, easyvqa, shapes
        self.train_on_testmini = train_on_testmini

    def load_tasks(self) -> Tasks:
        """The training tasks, then testmini's."""
        seen = list(super().load_tasks())
        if self.train_on_testmini:
            logger.warning(
                "%s TRAINS ON MathVista's testmini, the field's evaluation set: only the quarter "
                "that is held out may be scored, and no score is comparable with published ones",
                self,
            )
            return Tasks(seen, {})
        trained = [task for source in self._sources() for task in self._training(source)]
        kept = without_seen(trained, seen, str(self))
        if not kept:
            raise DataError(f"{self} has nothing to train on: every source is missing or empty")
        return Tasks([*kept, *seen], {"shared with testmini": len(trained) - len(kept)})

    def kept_for_evaluation(self, task: Task) -> bool:
        """Whether it is of testmini, or of its held-out part where the rest is trained on."""
        if self.train_on_testmini:
            return int(task.task_id[0], 16) < HELD_OUT
        return "trains" not in task.row

    def _sources(self) -> list[Callable[[], Sequence[Row]]]:
        wanted = [
            (self.geometry3k is not False, self._geometry3k),
            (self.easyvqa > 0, self._easyvqa),
            (self.shapes > 0, self._drawings),
        ]
        return [source for asked, source in wanted if asked]

    def _training(self, source: Callable[[], Sequence[Row]]) -> Sequence[Task]:
        """The tasks of one source; one that cannot be had is left out with a warning."""
        try:
            rows = source()
        except DataError as error:
            logger.warning("%s trains without one of its sources: %s", self, error)
            return []
        return list(self.as_tasks([{**row, "trains": True} for row in rows]))

    def _geometry3k(self) -> Sequence[Row]:
        data = VisionGeometry3K.hub_id if self.geometry3k is True else self.geometry3k
        assert not isinstance(data, bool)
        env = VisionGeometry3K(max_pixels=self.max_pixels)
        return env.checked(load_rows(data, split="train"), data)

    def _easyvqa(self) -> Sequence[Row]:
        rows = easyvqa_rows(("train",))
        step = max(1, len(rows) // self.easyvqa)  # spread over the pictures
        return VisionEasyVqa().checked(rows[::step][: self.easyvqa], None)

    def _drawings(self) -> Sequence[Row]:
        env = VisionShapes(difficulty=SHAPES_DIFFICULTY, size=self.shapes)
        return env.checked(env.load(), None)
