"""Vision-MathVision-v0, Vision-Geometry3K-v0: mathematical figures, one class, a column map."""

from __future__ import annotations

from typing import Any

from taskgym.envs.rubric import Task
from taskgym.envs.vision import VisionEnv


class VisionMathVision(VisionEnv):
    """Competition problems with a figure; the field's test set, for evaluation alone."""

    source = "MathLLMs/MathVision, or your own rows"
    hub_id = "MathLLMs/MathVision"

    def __init__(self, *, split: str = "", **vision: Any):
        local = vision.get("data") is not None
        super().__init__(split=split or ("train" if local else "test"), **vision)

    def kept_for_evaluation(self, task: Task) -> bool:
        """Every one: training on the test set would spoil it."""
        return True


class VisionGeometry3K(VisionEnv):
    """Geometry problems with a diagram."""

    source = "hiyouga/geometry3k, or your own rows"
    hub_id = "hiyouga/geometry3k"
