"""TRL's `rollout_func` and reward function: plays the groups of a step and tells TRL of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from taskgym.agents.episode import Trajectory
from taskgym.agents.groups import Group, Signal, collect_groups, fresh_share
from taskgym.agents.policy import RestingPolicy
from taskgym.agents.rollout import Rollout
from taskgym.agents.traces import to_record, write_episodes
from taskgym.envs import TaskgymError
from taskgym.training.config import TrainConfig
from taskgym.training.folder import RunFolder
from taskgym.training.generation import Generation, InTurn, OneAhead
from taskgym.training.ranks import Ranks
from taskgym.training.shown_processor import ShownProcessor, position_in
from taskgym.training.sync import Sync
from taskgym.training.tasks import TaskPlan

_GAP = "sampling/canary_gap"
_MAX_FAILED = 0.25  # share of a step's episodes that our own machinery may fail before we stop


class TooManyFailuresError(TaskgymError, RuntimeError):
    """Our machinery failed too many episodes of one step for its gradient to mean anything."""


class Sampler:
    """TRL's `rollout_func`: plays the groups of a step and remembers what to log about them.

    Attributes:
        seconds: Wall time so far in which the learner had nothing to do.
    """

    def __init__(
        self,
        config: TrainConfig,
        plan: TaskPlan,
        rollout: Rollout,
        sync: Sync,
        folder: RunFolder,
        ranks: Ranks,
        shown: ShownProcessor | None = None,
    ):
        self.seconds = 0.0
        self._shown = shown
        self._config = config
        self._plan = plan
        self._rollout = rollout
        self._folder = folder
        self._ranks = ranks
        self._metrics: dict[str, float] = {}
        self._turns: InTurn | OneAhead = InTurn(self._play, sync)
        if config.grpo.max_staleness:
            self._turns = OneAhead(self._play, sync, rollout, config.steps)

    def __call__(self, prompts: Sequence[Any], trainer: Any) -> dict[str, list[Any]]:
        """Plays one group for each distinct prompt, which is its position in the step."""
        began = time.perf_counter()
        step = trainer.state.global_step
        positions = [_position(prompt) for prompt in prompts]
        generation, metrics = self._turns.next(step, list(dict.fromkeys(positions)))
        self._metrics = self._tell(generation, metrics, step)
        samples = self._samples(positions, generation.kept)
        self.seconds += time.perf_counter() - began
        return samples

    def close(self) -> None:
        """Ends what is being played ahead, if anything is."""
        self._turns.close()

    def env_total(
        self, prompts: list[Any], *, log_metric: Any, **columns: Any
    ) -> list[float | None]:
        """TRL's reward function: the env's rewards, which came along with the rollouts."""
        for name, value in self._metrics.items():
            log_metric(name, value)
        rewards: list[float | None] = columns["env_reward"]
        return rewards

    def _tell(self, mine: Generation, metrics: dict[str, float], step: int) -> dict[str, float]:
        """Saves what all processes have played, and says what to log; others leave it to the first.

        Raises:
            TooManyFailuresError: Our machinery failed too many episodes.
        """
        began = time.perf_counter()
        everyone = self._ranks.bring((mine.portable(), metrics)) or []
        metrics["seconds/wait"] += time.perf_counter() - began
        if not everyone:
            return {}
        gaps = [said[_GAP] for _, said in everyone if _GAP in said]
        generation = Generation.merged([part for part, _ in everyone])
        self._save(generation.groups, step)
        check_failures([t for g in generation.groups for t in g.trajectories], step)
        return step_metrics(generation, step) | metrics | ({_GAP: max(gaps)} if gaps else {})

    def _play(self, step: int, positions: Sequence[int]) -> Generation:
        """One group for each position, by the adapter that the policy has now."""
        grpo, rollout = self._config.grpo, self._rollout
        before, refused = dict(rollout.seconds), rollout.stale

        def draw(position: int, attempt: int) -> tuple[int, int | None]:
            return self._plan.training_start(grpo.groups_per_step, step, position, attempt)

        def max_fresh(position: int) -> int:
            total = grpo.max_fresh_groups
            return fresh_share(total, grpo.groups_per_step, step, position)

        groups = collect_groups(
            rollout,
            draw,
            positions,
            size=grpo.num_generations,
            max_fresh=max_fresh,
            mask_truncated=grpo.mask_truncated_completions,
        )
        played = list(groups)
        if isinstance(rollout.policy, RestingPolicy):
            rollout.policy.rest()
        spent = {phase: now - before[phase] for phase, now in rollout.seconds.items()}
        return Generation(played, spent, rollout.stale - refused)

    def _samples(self, positions: Sequence[int], kept: dict[int, Group]) -> dict[str, list[Any]]:
        members = {position: iter(group.trajectories) for position, group in kept.items()}
        rows = [next(members[position]) for position in positions]
        if self._shown is not None:
            self._shown.show(positions, rows)
        return {
            "prompt_ids": [list(t.prompt_ids) for t in rows],
            "completion_ids": [t.completion_ids for t in rows],
            "logprobs": [t.logprobs for t in rows],
            "env_mask": [self._mask(t) for t in rows],
            "env_reward": [None if t.error else t.reward for t in rows],
        }

    def _mask(self, t: Trajectory) -> list[int]:
        cut = t.truncated and self._config.grpo.mask_truncated_completions
        return [0] * len(t.mask) if cut or t.error else t.mask

    def _save(self, played: Sequence[Group], step: int) -> None:
        records = [to_record(t, self._config.env, step + 1) for g in played for t in g.trajectories]
        write_episodes(self._folder.episodes, records)


def step_metrics(generation: Generation, step: int) -> dict[str, float]:
    """What a step logs besides TRL's own: components, signals, verdicts, stops, time and speed.

    Args:
        generation: What was played for it, by all processes.
        step: Optimiser steps that the learner's adapter has seen.
    """
    played, kept, seconds = generation.groups, generation.kept, generation.seconds
    rows = [t for group in kept.values() for t in group.trajectories if t.error is None]
    every = [t for group in played for t in group.trajectories]
    sampled = sum(sum(t.mask) for t in every)
    metrics = {f"seconds/{phase}": spent for phase, spent in seconds.items()}
    metrics["tokens_per_second"] = sampled / max(seconds["generate"], 1e-9)
    metrics["sampling/stale"] = float(generation.refused)
    metrics["sampling/staleness"] = _mean([float(step - v) for t in rows for v in t.versions])
    metrics["success"] = _mean([float(t.success) for t in rows])
    metrics["episodes/failed"] = float(sum(t.error is not None for t in every))
    metrics["episodes/turns"] = _mean([float(len(t.versions)) for t in rows])
    metrics["episodes/clipped_ratio"] = _mean([float(t.truncated) for t in rows])
    lengths = [float(sum(t.mask)) for t in rows] or [0.0]
    metrics["episodes/mean_length"] = _mean(lengths)
    metrics["episodes/min_length"], metrics["episodes/max_length"] = min(lengths), max(lengths)
    for name in sorted({name for t in rows for name in t.rewards}):
        values = torch.tensor([t.rewards.get(name, 0.0) for t in rows])
        metrics[f"rewards/{name}/mean"] = values.mean().item()
        metrics[f"rewards/{name}/std"] = values.std().item() if len(rows) > 1 else 0.0
    return metrics | _shares(played, kept, rows)


def _shares(
    played: Sequence[Group], kept: dict[int, Group], rows: Sequence[Trajectory]
) -> dict[str, float]:
    signals = Counter(group.signal for group in played)
    shares = {f"groups/{signal}": signals[signal] / len(played) for signal in Signal}
    shares["groups/replaced"] = float(len(played) - len(kept))
    verdicts = Counter(str(t.info["verdict"]) for t in rows if "verdict" in t.info)
    shares |= {f"verdict/{verdict}": n / len(rows) for verdict, n in verdicts.items()}
    return shares | {f"stop/{s}": n / len(rows) for s, n in Counter(t.stop for t in rows).items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def check_failures(trajectories: Sequence[Trajectory], step: int) -> None:
    """Stops a run whose own machinery does not work.

    Raises:
        TooManyFailuresError: It failed more than a quarter of a step's episodes.
    """
    failed = [t.error for t in trajectories if t.error is not None]
    if len(failed) > _MAX_FAILED * len(trajectories):
        raise TooManyFailuresError(
            f"step {step + 1}: {len(failed)} of {len(trajectories)} episodes failed by our own "
            f"machinery, not the model's fault; the first: {failed[0]}"
        )


def _position(prompt: Any) -> int:
    """The position in a prompt as TRL hands it over: text, or a message with room for pictures."""
    return int(prompt if isinstance(prompt, str) else position_in(prompt))
