"""When a step's groups are played: as it begins, or one step ahead while the learner works."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Thread

from taskgym.agents.groups import Group
from taskgym.agents.rollout import Rollout
from taskgym.agents.traces import portable
from taskgym.training.sync import Sync


@dataclass(frozen=True)
class Generation:
    """What was played for one step.

    Attributes:
        groups: Every group, replaced ones too, as they completed.
        seconds: What it took, by the rollout's phases.
        refused: Completions asked for again because their adapter was too old.
    """

    groups: Sequence[Group]
    seconds: dict[str, float]
    refused: int

    @property
    def kept(self) -> dict[int, Group]:
        """The group that is learned from at each position: the last one played there."""
        return {group.trajectories[0].start.group: group for group in self.groups}

    def portable(self) -> Generation:
        """The same as it can travel to another process."""
        groups = [replace(g, trajectories=[*map(portable, g.trajectories)]) for g in self.groups]
        return replace(self, groups=groups)

    @classmethod
    def merged(cls, parts: Sequence[Generation]) -> Generation:
        """What several processes have played for one step; the seconds are the slowest one's."""
        slowest = max(parts, key=lambda part: sum(part.seconds.values()))
        groups = [group for part in parts for group in part.groups]
        return cls(groups, slowest.seconds, sum(part.refused for part in parts))


Play = Callable[[int, Sequence[int]], Generation]  # a step and the positions of its groups


class InTurn:
    """Learner and sampler take turns: the adapter is brought, then all is written with it."""

    def __init__(self, play: Play, sync: Sync):
        self._play = play
        self._sync = sync

    def next(self, step: int, positions: Sequence[int]) -> tuple[Generation, dict[str, float]]:
        """The groups of a step, and what bringing the adapter and waiting for them took."""
        metrics = self._sync(step)
        began = time.perf_counter()
        generation = self._play(step, positions)
        return generation, metrics | {"seconds/wait": time.perf_counter() - began}

    def close(self) -> None:
        """Nothing is under way."""


class OneAhead:
    """The next step's groups are written, in a thread, while the learner works on this one's.

    Their adapter is thus one optimiser step older than the learner's when they are learned from;
    the first step's is not. The adapter is brought while nothing is written, so the policy is
    driven by one thread at any time.
    """

    def __init__(self, play: Play, sync: Sync, rollout: Rollout, steps: int):
        """Nothing is started yet.

        Args:
            play: Plays a step; called in the thread.
            sync: Brings the adapter; called between two generations.
            rollout: What `play` plays on, to stop it.
            steps: Of the run: nothing is played beyond the last.
        """
        self._play = play
        self._sync = sync
        self._rollout = rollout
        self._steps = steps
        self._task: _Task | None = None

    def next(self, step: int, positions: Sequence[int]) -> tuple[Generation, dict[str, float]]:
        """The groups of a step, once they are there; those of the next one are then begun.

        Raises:
            Exception: Whatever ended the thread.
        """
        if self._task is not None and self._task.step != step:  # a step is done again
            self.close()
        metrics, fresh = {"seconds/sync": 0.0}, self._task is None
        if fresh:
            metrics = self._sync(step)
        task = self._task or self._begun(step, positions)
        began = time.perf_counter()
        generation = task.wait()
        waited = {"seconds/wait": time.perf_counter() - began}
        if step + 1 < self._steps:
            if not fresh:
                metrics = self._sync(step)
            self._begun(step + 1, positions)
        return generation, metrics | waited

    def close(self) -> None:
        """Drops what is being played and ends the thread."""
        if self._task is not None:
            self._rollout.stop()
            self._task.join()
            self._task = None

    def _begun(self, step: int, positions: Sequence[int]) -> _Task:
        self._task = _Task(step, lambda: self._play(step, positions))
        self._task.start()
        return self._task


class _Task(Thread):
    """Plays one step's groups; what comes of it, or ends it, is had by `wait`."""

    def __init__(self, step: int, play: Callable[[], Generation]):
        super().__init__(name=f"taskgym-step-{step + 1}", daemon=True)
        self.step = step
        self._play = play
        self._generation: Generation | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._generation = self._play()
        except BaseException as error:  # raised where it is waited for
            self._error = error

    def wait(self) -> Generation:
        self.join()
        if self._error is not None:
            raise self._error
        assert self._generation is not None
        return self._generation
