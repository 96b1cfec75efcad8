"""The ids of our envs. Entry points are strings: registering imports none of them."""

from __future__ import annotations

import gymnasium as gym

ENVS = {
    "Arithmetic-v0": "taskgym.envs.arithmetic:Arithmetic",
    "Code-HumanEval-v0": "taskgym.envs.code_humaneval:CodeHumanEval",
    "Code-MBPP-v0": "taskgym.envs.code_mbpp:CodeMbpp",
    "Countdown-v0": "taskgym.envs.countdown:Countdown",
    "Game2048-Numeric-v0": "taskgym.envs.game2048.numeric_env:Game2048Numeric",
    "Game2048-Strategy-v0": "taskgym.envs.game2048.strategy_env:Game2048Strategy",
    "Game2048-v0": "taskgym.envs.game2048.chat_env:Game2048",
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

VECTOR_ENVS = {  # what `make_vec` makes of an id, where not copies of the single env
    "Game2048-Numeric-v0": "taskgym.envs.game2048.numeric_vector_env:Game2048NumericVector",
}


def register_envs() -> None:
    """Makes every id known to `gymnasium.make`."""
    for env_id, entry_point in ENVS.items():
        if env_id not in gym.registry:
            gym.register(env_id, entry_point, vector_entry_point=VECTOR_ENVS.get(env_id))
