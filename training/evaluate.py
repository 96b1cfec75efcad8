"""Scores a policy on held-out tasks: sampled and greedy, with intervals and pass@k."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from taskgym.agents.chat import Renderer
from taskgym.agents.episode import Start, Trajectory
from taskgym.agents.policy import Policy, Sampling
from taskgym.agents.rollout import Rollout
from taskgym.agents.traces import portable
from taskgym.training.ranks import Ranks
from taskgym.training.statistics import Interval, mean_interval, pass_at_k, rate_interval
from taskgym.training.tasks import TaskPlan

Tick = Callable[[int], object]  # told how many episodes have ended since the last call


@dataclass(frozen=True)
class Evaluation:
    """Trajectories of N held-out tasks: K sampled ones of each, and one greedy."""

    sampled_NK: Sequence[Sequence[Trajectory]]
    greedy_N: Sequence[Trajectory]
    seconds: float

    def summary(self) -> dict[str, Any]:
        """What `evaluation.json` holds: means with 95 % intervals over tasks, and pass@k."""
        success_NK = [[t.success for t in row] for row in self.sampled_NK]
        return {
            "tasks": len(self.greedy_N),
            "samples": len(self.sampled_NK[0]),
            "sampled": _scores(self.sampled_NK),
            "greedy": _scores([[t] for t in self.greedy_N]),
            "pass_at_k": {str(k): rate for k, rate in pass_at_k(success_NK).items()},
            "success_NK": [[int(s) for s in row] for row in success_NK],
            "reward_NK": [[round(t.reward, 6) for t in row] for row in self.sampled_NK],
            "seconds": round(self.seconds, 1),
        }


def evaluate(
    policy: Policy,
    plan: TaskPlan,
    sampling: Sampling,
    renderer: Renderer | None,
    samples: int,
    tick: Tick,
    ranks: Ranks | None = None,
) -> Evaluation:
    """Plays every held-out task of a plan: `samples` times as `sampling` says, and once greedily.

    Several processes share the tasks out, and each has all trajectories in the end.

    An episode that our own machinery failed counts as not solved, with reward 0; `failed` is their
    share, to be looked at before the rest.
    """
    began = time.perf_counter()

    def play(sampling: Sampling, samples: int) -> list[list[Trajectory]]:
        rollout = Rollout(policy, plan.make_env, sampling, renderer)
        rows = _play(rollout, plan.evaluation_starts(samples), tick, ranks or Ranks())
        return [rows[i : i + samples] for i in range(0, len(rows), samples)]

    sampled_NK = play(sampling, samples)
    greedy_N1 = play(dataclasses.replace(sampling, temperature=0.0), 1)
    return Evaluation(sampled_NK, [row[0] for row in greedy_N1], time.perf_counter() - began)


def _play(rollout: Rollout, starts: Sequence[Start], tick: Tick, ranks: Ranks) -> list[Trajectory]:
    """The trajectories of all processes in the order of their starts; each plays whole tasks."""
    mine: list[Trajectory] = []
    try:
        rollout.start(start for start in starts if start.group % ranks.size == ranks.rank)
        for trajectory in rollout.finished():
            mine.append(trajectory)
            tick(1)
    finally:
        rollout.close()
    by_start = {
        t.start: t
        for part in ranks.gather(mine if ranks.size == 1 else [*map(portable, mine)])
        for t in part
    }
    return [by_start[start] for start in starts]


def _scores(rows_NK: Sequence[Sequence[Trajectory]]) -> dict[str, Any]:
    names = next((list(t.rewards) for row in rows_NK for t in row if t.rewards), [])
    every = [t for row in rows_NK for t in row]
    return {
        "accuracy": _interval(rate_interval([[t.success for t in row] for row in rows_NK])),
        "reward": _interval(mean_interval([[t.reward for t in row] for row in rows_NK])),
        "components": {
            name: _interval(
                mean_interval([[t.rewards.get(name, 0.0) for t in row] for row in rows_NK])
            )
            for name in names
        },
        "mean_length": float(np.mean([sum(t.mask) for t in every])),
        "truncated": float(np.mean([t.truncated for t in every])),
        "failed": float(np.mean([t.error is not None for t in every])),
    }


def _interval(interval: Interval) -> dict[str, float]:
    return dataclasses.asdict(interval)
