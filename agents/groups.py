"""Groups: G trajectories of one start, and fresh ones for those that teach nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from taskgym.agents.episode import Start, Trajectory
from taskgym.agents.rollout import Rollout
from taskgym.agents.seeds import derive_seed
from taskgym.envs import TaskgymError

_EQUAL = 1e-9  # rewards closer than this are equal: float noise is no signal


class Signal(StrEnum):
    """Whether a group teaches anything, and if not, why."""

    SOME = "some"
    ALL_RIGHT = "all_right"
    ALL_WRONG = "all_wrong"
    ALL_TRUNCATED = "all_truncated"
    ALL_UNPARSED = "all_unparsed"
    ALL_FAILED = "all_failed"


@dataclass(frozen=True, slots=True)
class Group:
    """G trajectories that started alike, in the order of their members.

    Attributes:
        trajectories: The members.
        mask_truncated: Whether the learner leaves truncated members out of the loss.
    """

    trajectories: Sequence[Trajectory]
    mask_truncated: bool = True

    @property
    def signal(self) -> Signal:
        """SOME if rewards differ; otherwise the first cause that fits all members."""
        scored = [t for t in self.trajectories if t.error is None]
        if not scored:
            return Signal.ALL_FAILED
        rewards = [t.reward for t in scored]
        differ = max(rewards) - min(rewards) > _EQUAL
        if all(t.truncated for t in scored) and (self.mask_truncated or not differ):
            return Signal.ALL_TRUNCATED
        if differ:
            return Signal.SOME
        if all(t.success for t in scored):
            return Signal.ALL_RIGHT
        if all(t.info.get("verdict") == "unparsed" for t in scored):
            return Signal.ALL_UNPARSED
        return Signal.ALL_WRONG


class DifferentStartsError(TaskgymError, RuntimeError):
    """Members of one group saw different first observations: `reset(seed=)` is not honoured."""


# Names the start of a group: (its position in the step, which attempt) -> seed and task index.
Draw = Callable[[int, int], tuple[int, int | None]]


def collect_groups(
    rollout: Rollout,
    draw: Draw,
    positions: Sequence[int],
    *,
    size: int,
    max_fresh: Callable[[int], int],
    mask_truncated: bool = True,
) -> Iterator[Group]:
    """Plays one group per position and replaces those without signal by fresh ones.

    Args:
        rollout: Where the episodes are played.
        draw: Names the start of the group at a position; attempt 0 is the first, 1 its first
            replacement, and so on.
        positions: The groups wanted, by position in the step.
        size: G, members of a group.
        max_fresh: How many replacements a position may use.
        mask_truncated: Whether the learner leaves truncated episodes out of the loss.

    Yields:
        Every group that was played, replaced ones too, as it completes; the last group yielded
        for a position (`trajectories[0].start.group`) is the one to keep.

    Raises:
        DifferentStartsError: Members of a group did not start alike.
    """
    attempts = dict.fromkeys(positions, 0)
    parts: dict[int, list[Trajectory]] = {position: [] for position in positions}
    for position in positions:
        rollout.start(group_starts(draw, position, 0, size))
    for trajectory in rollout.finished():
        position = trajectory.start.group
        parts[position].append(trajectory)
        if len(parts[position]) < size:
            continue
        group = group_of(parts[position], mask_truncated)
        parts[position] = []
        if group.signal is not Signal.SOME and attempts[position] < max_fresh(position):
            attempts[position] += 1
            rollout.start(group_starts(draw, position, attempts[position], size))
        yield group


def fresh_share(total: int, positions: int, step: int, position: int) -> int:
    """How many of a step's replacements are for one of its positions.

    Each gets as many, and what is left over goes round from step to step. So it matters neither
    which group ends first nor which process plays it: a step has the same groups every time.
    """
    each, left = divmod(total, positions)
    return each + ((position - step * left) % positions < left)


def group_starts(draw: Draw, position: int, attempt: int, size: int) -> list[Start]:
    """Where the members of a group start: at the same task, each with its own sampling noise."""
    seed, index = draw(position, attempt)
    return [
        Start(seed, index, derive_seed(seed, index or 0, "sample", m), position, m)
        for m in range(size)
    ]


def group_of(trajectories: Sequence[Trajectory], mask_truncated: bool) -> Group:
    """The group of these trajectories, in the order of their members.

    Raises:
        DifferentStartsError: They did not start alike.
    """
    group = sorted(trajectories, key=lambda t: t.start.member)
    if len({t.start_hash for t in group if t.error is None}) > 1:
        start = group[0].start
        raise DifferentStartsError(
            f"{len(group)} resets with seed {start.seed} gave different first observations; "
            "draw all chance from self.np_random, never from random or numpy.random"
        )
    return Group(group, mask_truncated)
