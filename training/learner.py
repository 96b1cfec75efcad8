"""GRPO by TRL: our rollouts go in through `rollout_func`, TRL computes the loss and steps.

What is relied on of TRL 1.15 and 1.16 (pinned by `tests/test_trl_contract.py`): `rollout_func` gets
each prompt already repeated G times and must answer in that order; `env_mask` marks the tokens that
count in the loss; other keys reach the reward function per sample; a reward of None drops a sample
from its group; `log_metric` averages into the step's log; `use_vllm` and `vllm_generation` decide
whether the sampler's log-probabilities correct the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from taskgym.agents.policy import ApartPolicy, OverlappingPolicy, Policy
from taskgym.agents.rollout import Rollout
from taskgym.training.callbacks import RunCallback
from taskgym.training.config import TrainConfig
from taskgym.training.config_grpo import GrpoConfig
from taskgym.training.devices import has_cuda
from taskgym.training.folder import RunFolder
from taskgym.training.grpo_trainer import prepare_trl, trainer_class
from taskgym.training.halving import WrittenOnce, train_within_memory
from taskgym.training.models import Loaded
from taskgym.training.ranks import Ranks, share_of
from taskgym.training.sampler import Sampler
from taskgym.training.sampler_gap import most_gap
from taskgym.training.shown_processor import ShownProcessor
from taskgym.training.sync import Sync
from taskgym.training.tasks import TaskPlan
from transformers import PrinterCallback, ProgressCallback
from trl import GRPOConfig

OnStep = Callable[[dict[str, float]], None]


def learn(
    config: TrainConfig,
    loaded: Loaded,
    policy: Policy,
    sync: Sync,
    plan: TaskPlan,
    folder: RunFolder,
    checkpoint: Path | None,
    on_step: OnStep,
    ranks: Ranks | None = None,
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
        ranks: The processes that train together, if there are several; each plays whole groups of
            a step.

    Returns:
        Whether the last step was reached.
    """
    ranks = ranks or Ranks()
    if config.grpo.max_staleness and isinstance(policy, OverlappingPolicy):
        policy.overlap()
    rollout = Rollout(policy, plan.make_env, config.sampling, loaded.renderer)
    prepare_trl()
    pictures = plan.pictures
    shown = ShownProcessor(loaded.renderer, pictures) if pictures else None
    sampler = Sampler(config, plan, rollout, sync, folder, ranks, shown)
    callback = RunCallback(folder, sampler, checkpoint, on_step, ranks)
    written = WrittenOnce(sampler)
    share = share_of(config, ranks.size)

    def trainer_of(rows: int) -> Any:
        grpo = replace(share.grpo, micro_batch=rows)
        trainer = trainer_class()(
            model=loaded.model,
            reward_funcs=sampler.env_total,
            args=grpo_arguments(replace(share, grpo=grpo), folder.checkpoints),
            train_dataset=_positions(config.grpo.groups_per_step, pictures),
            processing_class=shown or loaded.tokenizer,
            callbacks=[callback, written],
            rollout_func=written,
        )
        if isinstance(policy, ApartPolicy):
            most = most_gap(sync.noise, config.sampling, grpo.max_staleness)
            trainer.correct_for_the_sampler(most)
        for theirs in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(theirs)
        return trainer

    try:
        with callback.stop_on_interrupt():
            trainer = train_within_memory(trainer_of, share.grpo.rows, written, checkpoint)
    finally:
        sampler.close()
        rollout.close()
    return bool(trainer.state.global_step >= config.steps)


def grpo_arguments(config: TrainConfig, output: Path) -> GRPOConfig:
    """A process's share of a config in TRL's terms; what nobody may change has its reason here."""
    grpo = config.grpo
    return GRPOConfig(
        **shared_arguments(config, output),
        loss_type=grpo.loss_type,
        scale_rewards=grpo.scale_rewards,
        importance_sampling_level=grpo.importance_sampling_level,
        beta=grpo.beta,
        mask_truncated_completions=False,  # env_mask does it, and knows the env's own limits too
        shuffle_dataset=False,  # the positions of a step; TaskPlan decides the tasks
        use_vllm=False,  # the engine that TRL would start itself; see correct_for_the_sampler
        vllm_importance_sampling_correction=grpo.vllm_importance_sampling_correction,
        vllm_importance_sampling_mode=grpo.vllm_importance_sampling_mode,
        vllm_importance_sampling_clip_min=grpo.vllm_importance_sampling_clip_min,
        vllm_importance_sampling_clip_max=grpo.vllm_importance_sampling_clip_max,
        disable_dropout=True,
    )


def shared_arguments(config: TrainConfig, output: Path) -> dict[str, Any]:
    """What TRL's synchronous and asynchronous trainers are told alike."""
    grpo, cuda = config.grpo, has_cuda()
    return {
        "output_dir": str(output),
        "max_steps": config.steps,
        "per_device_train_batch_size": grpo.rows,
        "gradient_accumulation_steps": grpo.completions // grpo.rows,
        "num_generations": grpo.num_generations,
        "max_completion_length": config.sampling.max_tokens,
        "temperature": config.sampling.temperature,
        "learning_rate": grpo.learning_rate,
        "lr_scheduler_type": grpo.lr_scheduler_type,
        "warmup_steps": int(grpo.warmup_ratio * config.steps),
        "epsilon": grpo.epsilon,
        "epsilon_high": _clip_above(grpo),
        "max_grad_norm": grpo.max_grad_norm,
        "weight_decay": grpo.weight_decay,
        "adam_beta2": grpo.adam_beta2,
        # One kernel for all tensors of the adapter, instead of a dozen calls for each.
        "optim": "adamw_torch_fused" if cuda and grpo.optim == "adamw_torch" else grpo.optim,
        "seed": config.seed,
        "ignore_data_skip": True,  # a resumed run knows its tasks from the step alone
        "save_strategy": "steps",
        "save_steps": config.save_every,
        "save_total_limit": 2,  # the newest may be torn by a kill, then the one before it is whole
        "logging_steps": 1,
        "report_to": list(config.trackers) or "none",
        "use_cpu": not cuda,
        "bf16": cuda,
        "gradient_checkpointing": cuda,
        "ddp_find_unused_parameters": False,  # each tensor of the adapter is used in every pass
        "disable_tqdm": True,
        "push_to_hub": False,
    }


def _clip_above(grpo: GrpoConfig) -> float | None:
    """TRL's own default for dapo, said outright: Unsloth would take None for the paper's 0.28."""
    if grpo.epsilon_high is None and grpo.loss_type == "dapo":
        return grpo.epsilon
    return grpo.epsilon_high


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
