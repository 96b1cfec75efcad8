"""The work that every contender of `grpo_gpu.py` does: prompts, completion lengths, a reward."""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Sequence
from statistics import NormalDist

import gymnasium as gym
from taskgym.envs import Rubric, SingleTurnEnv, Task

ENV = "grpo_gpu_work:Shelves-v0"
GROUP = 8  # G, completions of one prompt
RANK, ALPHA = 32, 64
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LEARNING_RATE = 1e-5
EIGHT_BIT = "adamw_8bit"  # of Unsloth's notebooks, and of its trainer by itself
MODEL_LEN = 1024  # tokens of a prompt and its completion at most
SHARE = 0.5  # gpu_memory_utilization that all ask for; `settle_engine` says what they get

# Completions of a model that reasons are skewed: many short ones, a few that reach the limit. The
# logarithm of a length is normal; what it would exceed is cut off.
MEDIAN, DEVIATION = 160.0, 0.75
LEAST, MOST = 16, 512

_ROWS = 512


def lengths(completions: int) -> list[int]:
    """Tokens of each completion of one generation, shape (B,): quantiles in a fixed random order.

    Quantiles instead of draws, so that 32 and 256 completions have one distribution.
    """
    logarithm = NormalDist(math.log(MEDIAN), DEVIATION)
    places = [(i + 0.5) / completions for i in range(completions)]
    drawn = [min(MOST, max(LEAST, round(math.exp(logarithm.inv_cdf(p))))) for p in places]
    random.Random(0).shuffle(drawn)
    return drawn


def fraction(text: str) -> float:
    """A number in [0, 1) that depends on every character: rewards of a group always differ."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) / 2**32


def _fraction(completion: str, task: Task) -> float:
    return fraction(completion)


class Shelves(SingleTurnEnv):
    """Sums of 40 to 130 tokens that nobody is expected to solve: a random model writes noise."""

    rubric = Rubric({"fraction": (_fraction, 1.0)})

    def load(self) -> Sequence[dict[str, str]]:
        """Rows of different lengths."""
        return [{"question": _question(i), "answer": "0"} for i in range(_ROWS)]


def _question(number: int) -> str:
    rng = random.Random(number)
    shelves = [
        f"Shelf {i} holds {rng.randint(2, 99)} boxes of {rng.randint(2, 99)} pencils."
        for i in range(rng.randint(2, 7))
    ]
    return " ".join([*shelves, "How many pencils are there? Think step by step."])


gym.register("Shelves-v0", entry_point=Shelves)
