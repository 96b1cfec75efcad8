"""Vision-Shapes-v0: drawings made from their kwargs: count, colour, position, bar chart, angle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from taskgym.envs.rows import Row
from taskgym.envs.shapes import HARDEST, SCENES, drawings
from taskgym.envs.vision import VisionEnv


class VisionShapes(VisionEnv):
    """Drawings with one question each, made from its kwargs.

    Args:
        scenes: Some of `count`, `colour`, `position`, `chart` and `angle`; rows take turns.
        difficulty: 1 to 5: more shapes, finer scales, smaller steps.
        size: Rows.
        weights: Component -> weight, for those that shall differ from the rubric's.
    """

    source = "made from its kwargs"
    needs = "pillow"
    letters = False

    def __init__(
        self,
        *,
        scenes: Sequence[str] = tuple(SCENES),
        difficulty: int = 1,
        size: int = 1000,
        weights: Mapping[str, float] | None = None,
    ):
        super().__init__(weights=weights)
        unknown = set(scenes) - set(SCENES)
        if not scenes or unknown:
            raise ValueError(f"scenes are some of {', '.join(SCENES)}, got {scenes!r}")
        if not 1 <= difficulty <= HARDEST:
            raise ValueError(f"difficulty is from 1 to {HARDEST}, got {difficulty}")
        if size < 1:
            raise ValueError(f"size is at least 1 row, got {size}")
        self.scenes, self.difficulty, self.size = tuple(scenes), difficulty, size

    def load(self) -> Sequence[Row]:
        """The rows; equal kwargs give equal rows."""
        return drawings(self.scenes, self.difficulty, self.size)
