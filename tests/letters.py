"""An env with a signal for a model that was never trained: it pays for letters from a to m."""

import gymnasium as gym
from taskgym.envs import Rubric, SingleTurnEnv, Task


def early(completion: str, task: Task) -> float:
    """The share of what was said that is a letter from a to m."""
    return sum("a" <= c <= "m" for c in completion) / max(len(completion), 1)


class Letters(SingleTurnEnv):
    rubric = Rubric({"early": (early, 1.0)})

    def load(self) -> list[dict[str, str]]:
        return [{"question": f"Task {n}.", "answer": "abcdefgh"} for n in range(64)]


gym.register("Letters-v0", "letters:Letters")
