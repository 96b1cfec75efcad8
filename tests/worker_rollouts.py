"""Rollouts that a worker process can open by name, for the tests of what runs in one."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import gymnasium as gym
import taskgym.envs  # noqa: F401
from taskgym.agents.policy import Completion, LockstepPolicy, Request, Sampling
from taskgym.agents.rollout import Rollout


class Slow(LockstepPolicy):
    """Answers one request at a time; the text says which seed asked and which process answered.

    When a file is there, it does what the file says: a signal's number to die of, or `raise`.
    """

    lockstep = False

    def __init__(self, seconds: float, order: Path | None):
        super().__init__()
        self.seconds, self.order = seconds, order

    def _answer(self, requests: list[Request]) -> list[Completion]:
        time.sleep(self.seconds)
        self._obey()
        first, self._requests = requests[0], requests[1:]
        text = f"{first.seed} {os.getpid()}"
        return [Completion(first.request_id, text, (7, 2), (0.0, 0.0), "stop", self._version)]

    def _obey(self) -> None:
        if self.order is None or not self.order.exists():
            return
        order = self.order.read_text()
        if order == "raise":
            raise RuntimeError("the policy broke")
        self.order.unlink()
        os.kill(os.getpid(), int(order))

    def score(self, ids: list[int]) -> list[float]:
        self._obey()
        return [float(self._version), float(len(ids))]


@contextmanager
def slow_rollout(env: str, seconds: float, order: Path | None = None) -> Iterator[Rollout]:
    rollout = Rollout(Slow(seconds, order), partial(gym.make, env), Sampling(max_tokens=8))
    try:
        yield rollout
    finally:
        rollout.close()


@contextmanager
def hanging_rollout(order: Path) -> Iterator[Rollout]:
    """The first to be opened never gets ready."""
    if not order.exists():
        order.touch()
        signal.pause()
    with slow_rollout("Arithmetic-v0", 0.0) as rollout:
        yield rollout
