"""The ids of our envs. Entry points are strings: registering imports none of them."""

from __future__ import annotations

import gymnasium as gym

ENVS = {
    "Arithmetic-v0": "taskgym.envs.arithmetic:Arithmetic",
    "Countdown-v0": "taskgym.envs.countdown:Countdown",
    "GuessNumber-v0": "taskgym.envs.guess_number:GuessNumber",
    "Math-DAPO-v0": "taskgym.envs.math_dapo:MathDapo",
    "Math-GSM8K-v0": "taskgym.envs.math_gsm8k:MathGsm8k",
    "Math-GSM8K-Shaped-v0": "taskgym.envs.math_gsm8k_shaped:MathGsm8kShaped",
    "Vision-EasyVQA-v0": "taskgym.envs.vision_easyvqa:VisionEasyVqa",
    "Vision-Geometry3K-v0": "taskgym.envs.vision_figures:VisionGeometry3K",
    "Vision-MathVision-v0": "taskgym.envs.vision_figures:VisionMathVision",
    "Vision-MathVista-v0": "taskgym.envs.vision_mathvista:VisionMathVista",
    "Vision-Shapes-v0": "taskgym.envs.vision_shapes:VisionShapes",
}


def register_envs() -> None:
    """Makes every id known to `gymnasium.make`."""
    for env_id, entry_point in ENVS.items():
        if env_id not in gym.registry:
            gym.register(env_id, entry_point)
