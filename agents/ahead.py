"""Groups played ahead of the learner: handed out as they complete, unless they got too old."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from taskgym.agents.episode import Start, Trajectory
from taskgym.agents.groups import Draw, Group, Signal, group_of, group_starts


class Player(Protocol):
    """Plays episodes beside the caller; `RolloutWorker` does."""

    def start(self, starts: Iterable[Start]) -> None:
        """Begins episodes."""

    def receive(self, timeout: float) -> list[Trajectory]:
        """The episodes that have ended; waits so many seconds for a first one."""


@dataclass
class Taken:
    """What one step learns from, and what it took to get it.

    Attributes:
        numbers: The groups handed out for the step.
        played: The same, each after those without signal that it replaced.
        gaps: Of each episode handed out: how many versions older than the step's its oldest turn
            is.
        stale: Episodes that were too old when their turn came, and are played again.
    """

    numbers: list[int] = field(default_factory=list)
    played: list[Group] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    stale: int = 0


class GroupsAhead:
    """Numbered groups, played while the learner works and handed out in the order they complete.

    Step s learns with the weights of version s, so how old a group will be for its step is known
    when it is handed out, however far ahead that is. A group is begun once the step that it stands
    in line for is near enough; one that is too old all the same, because others overtook it, is
    counted and played again from its start.

    Attributes:
        taken: What was handed out, by step.
    """

    def __init__(
        self,
        player: Player,
        draw: Draw,
        *,
        size: int,
        per_step: int,
        steps: range,
        max_staleness: int,
        max_fresh: Callable[[int], int],
        mask_truncated: bool = True,
        unlearned: Sequence[int] = (),
        begun: int = 0,
    ):
        """Nothing is started yet.

        Args:
            player: Plays the episodes.
            draw: Names the start of a group by its number and attempt, as for `collect_groups`.
            size: G, members of a group.
            per_step: P, groups of one step.
            steps: The steps to play for, counted from 0.
            max_staleness: Versions that any turn of a group may lie behind the step's.
            max_fresh: How many groups without signal may be replaced at a number.
            mask_truncated: Whether the learner leaves truncated episodes out of the loss.
            unlearned: Groups that an earlier run began and did not learn from.
            begun: How many groups it began.
        """
        self.taken: dict[int, Taken] = {}
        self._player = player
        self._draw = draw
        self._size, self._per_step, self._steps = size, per_step, steps
        self._max_staleness, self._max_fresh = max_staleness, max_fresh
        self._mask_truncated = mask_truncated
        self._begun = begun
        self._waiting = deque(unlearned)
        self._attempts: dict[int, int] = {}  # of each group under way
        self._replaced: dict[int, list[Group]] = {}
        self._parts: dict[int, list[Trajectory]] = {}
        self._complete: deque[Group] = deque()
        self._handed = 0

    @property
    def step(self) -> int:
        """The step that the next group is handed out for."""
        return self._steps.start + self._handed // self._per_step

    @property
    def over(self) -> bool:
        """Whether all groups of all steps were handed out."""
        return self.step >= self._steps.stop

    def fill(self, version: int) -> None:
        """Begins every group that may be played now that the adapter of this version writes."""
        nearest = min(version + self._max_staleness + 1, self._steps.stop)
        most = (nearest - self._steps.start) * self._per_step
        while self._handed + len(self._attempts) < most:
            number = self._waiting.popleft() if self._waiting else self._next()
            self._replaced[number] = []
            self._start(number, 0)

    def take(self, timeout: float) -> Group | None:
        """The next group, handed out for `step` as it was before; None if none comes in time."""
        deadline = time.monotonic() + timeout
        while True:
            while self._complete:
                group = self._complete.popleft()
                if self._hand_out(group):
                    return group
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            for trajectory in self._player.receive(left):
                self._collect(trajectory)

    def unlearned(self, step: int) -> dict[str, object]:
        """What a run that goes on after so many steps must know: `unlearned` and `begun`."""
        ahead = chain.from_iterable(t.numbers for s, t in self.taken.items() if s >= step)
        return {
            "unlearned": sorted({*self._attempts, *self._waiting, *ahead}),
            "begun": self._begun,
        }

    def _next(self) -> int:
        self._begun += 1
        return self._begun - 1

    def _start(self, number: int, attempt: int) -> None:
        self._attempts[number] = attempt
        self._parts[number] = []
        self._player.start(group_starts(self._draw, number, attempt, self._size))

    def _collect(self, trajectory: Trajectory) -> None:
        number = trajectory.start.group
        self._parts[number].append(trajectory)
        if len(self._parts[number]) < self._size:
            return
        group = group_of(self._parts.pop(number), self._mask_truncated)
        attempt = self._attempts[number]
        if group.signal is Signal.SOME or attempt == self._max_fresh(number):
            self._complete.append(group)
        else:
            self._replaced[number].append(group)
            self._start(number, attempt + 1)

    def _hand_out(self, group: Group) -> bool:
        number, step = group.trajectories[0].start.group, self.step
        taken = self.taken.setdefault(step, Taken())
        gaps = [step - min(t.versions, default=step) for t in group.trajectories]
        if max(gaps) > self._max_staleness:
            taken.stale += len(gaps)
            self._start(number, self._attempts[number])
            return False
        taken.numbers.append(number)
        taken.played += [*self._replaced.pop(number), group]
        taken.gaps += gaps
        del self._attempts[number]
        self._handed += 1
        return True
