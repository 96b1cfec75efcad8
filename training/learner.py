"""GRPO by TRL: our rollouts go in through `rollout_func`, TRL computes the loss and steps.

What is relied on of TRL 1.15 and 1.16 (pinned by `tests/test_trl_contract.py`): `rollout_func` gets
each prompt already repeated G times and must answer in that order; `env_mask` marks the tokens that
count in the loss; other keys reach the reward function per sample; a reward of None drops a sample
from its group; `log_metric` averages into the step's log; `use_vllm` and `vllm_generation` decide
whether the sampler's log-probabilities correct the loss.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils
from datasets import Dataset
from taskgym.agents.episode import Trajectory
from taskgym.agents.groups import Group, Signal, collect_groups
from taskgym.agents.policy import ApartPolicy, Policy, RestingPolicy
from taskgym.agents.rollout import Rollout
from taskgym.agents.traces import to_record, write_episodes
from taskgym.envs import TaskgymError
from taskgym.training.callbacks import RunCallback
from taskgym.training.config import GrpoConfig, TrainConfig
from taskgym.training.devices import has_cuda
from taskgym.training.folder import RunFolder
from taskgym.training.models import Loaded
from taskgym.training.shown_processor import ShownProcessor, position_in
from taskgym.training.sync import Sync
from taskgym.training.tasks import TaskPlan
from transformers import PrinterCallback, ProgressCallback
from trl import GRPOConfig, GRPOTrainer

_MAX_FAILED = 0.25  # share of a step's episodes that our own machinery may fail before we stop

OnStep = Callable[[dict[str, float]], None]


class TooManyFailuresError(TaskgymError, RuntimeError):
    """Our machinery failed too many episodes of one step for its gradient to mean anything."""


class Sampler:
    """TRL's `rollout_func`: plays the groups of a step and remembers what to log about them."""

    def __init__(
        self,
        config: TrainConfig,
        plan: TaskPlan,
        rollout: Rollout,
        sync: Sync,
        folder: RunFolder,
        shown: ShownProcessor | None = None,
    ):
        self._sync = sync
        self._shown = shown
        self._config = config
        self._plan = plan
        self._rollout = rollout
        self._folder = folder
        self._metrics: dict[str, float] = {}

    def __call__(self, prompts: Sequence[Any], trainer: Any) -> dict[str, list[Any]]:
        """Plays one group for each distinct prompt, which is its position in the step."""
        step = trainer.state.global_step
        positions = [_position(prompt) for prompt in prompts]
        before, stale = dict(self._rollout.seconds), self._rollout.stale
        synced = self._sync(step)
        self._rollout.seconds["sync"] += synced["seconds/sync"]
        played = list(self._groups(step, list(dict.fromkeys(positions))))
        if isinstance(self._rollout.policy, RestingPolicy):
            self._rollout.policy.rest()
        kept = {group.trajectories[0].start.group: group for group in played}
        self._save(played, step)
        _check_failures([t for group in played for t in group.trajectories], step)
        spent = {phase: now - before[phase] for phase, now in self._rollout.seconds.items()}
        refused = {"sampling/stale": float(self._rollout.stale - stale)}
        self._metrics = step_metrics(played, kept, spent) | synced | refused
        return self._samples(positions, kept)

    def env_total(
        self, prompts: list[Any], *, log_metric: Any, **columns: Any
    ) -> list[float | None]:
        """TRL's reward function: the env's rewards, which came along with the rollouts."""
        for name, value in self._metrics.items():
            log_metric(name, value)
        rewards: list[float | None] = columns["env_reward"]
        return rewards

    def _groups(self, step: int, positions: list[int]) -> Any:
        grpo = self._config.grpo

        def draw(position: int, attempt: int) -> tuple[int, int | None]:
            return self._plan.training_start(grpo.groups_per_step, step, position, attempt)

        return collect_groups(
            self._rollout,
            draw,
            positions,
            size=grpo.num_generations,
            max_fresh=grpo.max_fresh_groups,
            mask_truncated=grpo.mask_truncated_completions,
        )

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


def step_metrics(
    played: Sequence[Group], kept: dict[int, Group], seconds: dict[str, float]
) -> dict[str, float]:
    """What a step logs besides TRL's own: components, signals, verdicts, stops, time and speed.

    Args:
        played: Every group of the step, replaced ones too.
        kept: The group that was learned from at each position.
        seconds: Wall time of the rollout by phase.
    """
    rows = [t for group in kept.values() for t in group.trajectories if t.error is None]
    every = [t for group in played for t in group.trajectories]
    sampled = sum(sum(t.mask) for t in every)
    metrics = {f"seconds/{phase}": spent for phase, spent in seconds.items()}
    metrics["tokens_per_second"] = sampled / max(seconds["generate"], 1e-9)
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


def _check_failures(trajectories: Sequence[Trajectory], step: int) -> None:
    failed = [t.error for t in trajectories if t.error is not None]
    if len(failed) > _MAX_FAILED * len(trajectories):
        raise TooManyFailuresError(
            f"step {step + 1}: {len(failed)} of {len(trajectories)} episodes failed by our own "
            f"machinery, not the model's fault; the first: {failed[0]}"
        )


def learn(
    config: TrainConfig,
    loaded: Loaded,
    policy: Policy,
    sync: Sync,
    plan: TaskPlan,
    folder: RunFolder,
    checkpoint: Path | None,
    on_step: OnStep,
) -> bool:
    """Trains until the last step, a Ctrl-C or an error; the model is changed in place.

    Args:
        config: The run's config.
        loaded: The model to train.
        policy: What answers the rollouts' requests.
        sync: Brings it the learner's adapter before each step.
        plan: Which tasks to train on.
        folder: Where metrics, episodes and checkpoints go.
        checkpoint: A whole checkpoint to continue from, or None.
        on_step: Told the metrics of each step.

    Returns:
        Whether the last step was reached.
    """
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # rollout_func: known, pinned by a test
    rollout = Rollout(policy, plan.make_env, config.sampling, loaded.renderer)
    score_completions_only()
    pictures = plan.pictures
    shown = ShownProcessor(loaded.renderer, pictures) if pictures else None
    sampler = Sampler(config, plan, rollout, sync, folder, shown)
    callback = RunCallback(folder, rollout, checkpoint, on_step)
    trainer = GRPOTrainer(
        model=loaded.model,
        reward_funcs=sampler.env_total,
        args=grpo_arguments(config, folder.checkpoints),
        train_dataset=_positions(config.grpo.groups_per_step, pictures),
        processing_class=shown or loaded.tokenizer,
        callbacks=[callback],
        rollout_func=sampler,
    )
    if isinstance(policy, ApartPolicy):
        correct_for_the_sampler(trainer)
    for theirs in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(theirs)
    try:
        with callback.stop_on_interrupt():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        rollout.close()
    return bool(trainer.state.global_step >= config.steps)


def grpo_arguments(config: TrainConfig, output: Path) -> GRPOConfig:
    """A config in TRL's terms; what a person cannot change is set here, with its reason."""
    grpo, cuda = config.grpo, has_cuda()
    batch = grpo.num_generations * grpo.groups_per_step
    micro = min(grpo.micro_batch, batch)
    return GRPOConfig(
        output_dir=str(output),
        max_steps=config.steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch // micro,
        num_generations=grpo.num_generations,
        max_completion_length=config.sampling.max_tokens,
        temperature=config.sampling.temperature,
        learning_rate=grpo.learning_rate,
        lr_scheduler_type=grpo.lr_scheduler_type,
        warmup_steps=int(grpo.warmup_ratio * config.steps),
        loss_type=grpo.loss_type,
        scale_rewards=grpo.scale_rewards,
        importance_sampling_level=grpo.importance_sampling_level,
        beta=grpo.beta,
        epsilon=grpo.epsilon,
        epsilon_high=_clip_above(grpo),
        mask_truncated_completions=False,  # env_mask does it, and knows the env's own limits too
        max_grad_norm=grpo.max_grad_norm,
        weight_decay=grpo.weight_decay,
        adam_beta2=grpo.adam_beta2,
        optim=grpo.optim,
        seed=config.seed,
        shuffle_dataset=False,  # the positions of a step; TaskPlan decides the tasks
        ignore_data_skip=True,  # a resumed run knows its tasks from the step alone
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=2,  # the newest may be torn by a kill, then the one before it is whole
        logging_steps=1,
        report_to=list(config.trackers) or "none",
        use_cpu=not cuda,
        bf16=cuda,
        gradient_checkpointing=cuda,
        use_vllm=False,  # the engine that TRL would start itself; see correct_for_the_sampler
        vllm_importance_sampling_correction=grpo.vllm_importance_sampling_correction,
        vllm_importance_sampling_mode=grpo.vllm_importance_sampling_mode,
        vllm_importance_sampling_clip_max=grpo.vllm_importance_sampling_clip_max,
        disable_tqdm=True,
        disable_dropout=True,
        push_to_hub=False,
    )


def _clip_above(grpo: GrpoConfig) -> float | None:
    """TRL's own default for dapo, said outright: Unsloth would take None for the paper's 0.28."""
    if grpo.epsilon_high is None and grpo.loss_type == "dapo":
        return grpo.epsilon
    return grpo.epsilon_high


class _Synced:
    """Stands where TRL keeps its own vLLM and brings it the weights; ours were brought already."""

    def sync_weights(self) -> None:
        """Nothing is left to do."""


def correct_for_the_sampler(trainer: GRPOTrainer) -> None:
    """Lets TRL weigh its loss by learner over sampler, as it does beside its own vLLM.

    TRL reads the log-probabilities that `rollout_func` returns only if it believes in that engine;
    nothing else in its learning depends on it. It then logs `sampling/...` too.
    """
    trainer.use_vllm = True
    trainer.vllm_generation = _Synced()
    trainer._last_loaded_step = -1


def score_completions_only() -> None:
    """Lets TRL 1.16 project only completion tokens onto the vocabulary on a CPU too.

    Without Triton it projects prompt tokens as well and masks them afterwards, which for a prompt
    of 20 tokens and an answer of 3 is seven times the work of the largest matrix product. The
    numbers are the same. The name is read in `trl.trainer.utils` for this choice alone; the kernels
    have their own.
    """
    if hasattr(trl.trainer.utils, "_use_triton"):
        trl.trainer.utils._use_triton = lambda device: True


def _positions(groups: int, pictures: int) -> Dataset:
    """The rows of a step: a group's position, with room for its pictures if it has any.

    Which pictures those are is known when the group has been played, so `ShownProcessor` puts them
    there; TRL only counts what is in the column.
    """
    positions = [str(position) for position in range(groups)]
    if not pictures:
        return Dataset.from_dict({"prompt": positions})
    asked = [[{"role": "user", "content": position}] for position in positions]
    return Dataset.from_dict({"prompt": asked, "images": [[None] * pictures] * groups})


def _position(prompt: Any) -> int:
    """The position in a prompt as TRL hands it over: text, or a message with room for pictures."""
    return int(prompt if isinstance(prompt, str) else position_in(prompt))
