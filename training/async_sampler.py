"""What TRL's asynchronous trainer asks of a rollout worker, answered with groups played ahead."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from taskgym.agents.ahead import GroupsAhead, Taken
from taskgym.agents.episode import Trajectory
from taskgym.agents.groups import Group
from taskgym.agents.traces import to_record, write_episodes
from taskgym.agents.worker import RolloutWorker
from taskgym.training.config import TrainConfig
from taskgym.training.folder import RunFolder
from taskgym.training.generation import Generation
from taskgym.training.sampler import check_failures, step_metrics
from taskgym.training.sync import Sync
from trl.experimental.async_grpo.async_rollout_worker import RolloutSample

_LEAST_DEVIATION = 1e-4  # TRL's: what is added to the deviation that advantages are divided by


class AsyncSampler:
    """TRL's `RolloutWorkerProtocol`: hands out samples, brings adapters, tells what it measured.

    All of it is called by the learner's thread; what runs beside it is the worker's process.

    Attributes:
        rollout_buffer: Where TRL gets its samples.
        metrics_queue: Where TRL looks for what to log.
        seconds: Wall time so far that the learner waited for groups.
    """

    def __init__(
        self,
        config: TrainConfig,
        worker: RolloutWorker,
        groups: GroupsAhead,
        sync: Sync,
        folder: RunFolder,
        pad: int,
    ):
        self.rollout_buffer = self
        self.metrics_queue: queue.SimpleQueue[dict[str, float]] = queue.SimpleQueue()
        self.seconds = 0.0
        self._config = config
        self._worker = worker
        self._groups = groups
        self._sync = sync
        self._folder = folder
        self._pad = pad
        self._samples: deque[RolloutSample] = deque()
        self._last: RolloutSample | None = None
        self._before: dict[str, float] = {}

    def start(self) -> None:
        """TRL begins to learn; episodes are played since the first adapter arrived."""
        self._spent()

    def stop(self) -> None:
        """Ends the worker's process."""
        self._worker.close()

    def get(self, timeout: float) -> RolloutSample:
        """The next sample; a group's members come one after the other.

        TRL reads one micro-batch ahead. Beyond the last step it gets a sample once more, from which
        nothing is learned any more.

        Raises:
            queue.Empty: No group was complete in time.
        """
        if not self._samples and not self._groups.over:
            began, step = time.perf_counter(), self._groups.step
            group = self._groups.take(timeout)
            self.seconds += time.perf_counter() - began
            if group is None:
                raise queue.Empty
            self._samples.extend(self._of_group(group, step))
        self._last = self._samples.popleft() if self._samples else self._last
        return self._last

    def qsize(self) -> int:
        """Samples that can be had at once."""
        return len(self._samples)

    def check_health(self, stale_after_s: float) -> None:
        """Raises what ended the worker for good; one that died or hangs was started again."""
        self._worker.check()

    def update_model_version(self, model_version: int) -> None:
        """Brings the learner's adapter to the sampler, and tells what the step before measured."""
        synced = self._sync(model_version)
        taken = self._groups.taken.pop(model_version - 1, None)
        if taken is not None:
            self.metrics_queue.put(self._measured(taken, model_version) | synced)
        self._groups.fill(model_version)

    def unlearned(self, step: int) -> dict[str, object]:
        """What a checkpoint after so many steps must hold beside the weights."""
        return self._groups.unlearned(step)

    def _of_group(self, group: Group, step: int) -> list[RolloutSample]:
        advantages = group_advantages(group, self._config.grpo.scale_rewards)
        return [
            to_sample(t, advantage, step, group.mask_truncated, self._pad)
            for t, advantage in zip(group.trajectories, advantages, strict=True)
        ]

    def _measured(self, taken: Taken, step: int) -> dict[str, float]:
        """Saves the episodes of a step that is done; returns what to log about it."""
        every = [t for group in taken.played for t in group.trajectories]
        records = [to_record(t, self._config.env, step) for t in every]
        write_episodes(self._folder.episodes, records)
        check_failures(every, step - 1)
        spent = self._spent()
        took, restarts = spent.pop("step"), spent.pop("restarts")
        generation = Generation(taken.played, spent, taken.stale)
        return step_metrics(generation, step - 1) | {
            **_rewards([t for group in generation.kept.values() for t in group.trajectories]),
            "tokens_per_second": sum(sum(t.mask) for t in every) / took,
            "sampling/staleness_max": float(max(taken.gaps)),
            "sampling/restarts": restarts,
        }

    def _spent(self) -> dict[str, float]:
        """What was spent since it was asked last: seconds by phase, and restarts."""
        now = {
            **self._worker.seconds,
            "wait": self.seconds,
            "step": time.perf_counter(),
            "restarts": float(self._worker.restarts),
        }
        before, self._before = self._before, now
        return {name: value - before.get(name, value) for name, value in now.items()}


def group_advantages(group: Group, scale_rewards: str) -> list[float]:
    """How much better each member did than its group, as TRL's `GRPOTrainer` computes it.

    Args:
        group: G members; one that our own machinery failed has no reward and no advantage.
        scale_rewards: `group` divides by the deviation within the group, `none` does not.
    """
    failed = [t.error is not None for t in group.trajectories]
    rewards_G = np.array([t.reward for t in group.trajectories], dtype=np.float64)
    scored = rewards_G[np.logical_not(failed)]
    if not scored.size:
        return [0.0] * len(rewards_G)
    advantages_G = np.where(failed, 0.0, rewards_G - scored.mean())
    if scale_rewards == "group" and scored.size > 1:
        advantages_G /= scored.std(ddof=1) + _LEAST_DEVIATION
    found: list[float] = advantages_G.tolist()
    return found


def to_sample(
    t: Trajectory, advantage: float, step: int, mask_truncated: bool, pad: int
) -> RolloutSample:
    """One episode as TRL's trainer takes it.

    TRL's loss cannot do without any token in a sample. Of an episode that is left out of the loss
    one token stays in it, the last that was sampled, with an advantage of zero: it moves nothing,
    and weighs one in the number of tokens that the loss is divided by.

    Args:
        t: The episode.
        advantage: Of all its sampled tokens.
        step: Of which version the weights are that learn from it.
        mask_truncated: Whether a truncated episode is left out.
        pad: A token for an episode that failed before anything was said.
    """
    ids, mask = [*t.prompt_ids, *t.completion_ids], [0] * len(t.prompt_ids) + t.mask
    logprobs = [0.0] * len(t.prompt_ids) + t.logprobs
    if 1 not in mask:
        ids, mask, logprobs, advantage = [pad, pad], [0, 1], [0.0, 0.0], 0.0
    elif t.error or (t.truncated and mask_truncated):
        last = len(mask) - 1 - mask[::-1].index(1)
        mask, advantage = [int(i == last) for i in range(len(mask))], 0.0
    return RolloutSample(
        prompt=[],
        completion=[],
        input_ids=np.array(ids),
        completion_mask=np.array(mask),
        old_log_probs=np.array(logprobs),
        advantage=advantage,
        model_version=min(t.versions, default=step),
        group_id=t.start.group,
        metrics={},
    )


def _rewards(rows: Sequence[Trajectory]) -> dict[str, Any]:
    """The step's rewards under TRL's names."""
    rewards = np.array([t.reward for t in rows if t.error is None] or [0.0])
    deviation = rewards.std(ddof=1) if rewards.size > 1 else 0.0
    return {"reward": float(rewards.mean()), "reward_std": float(deviation)}
