"""GRPO while the next episodes are being played, by TRL's asynchronous trainer."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskgym.agents.ahead import GroupsAhead
from taskgym.agents.groups import fresh_share
from taskgym.agents.server_policy import ServerPolicy
from taskgym.agents.worker import RolloutWorker
from taskgym.training.async_sampler import AsyncSampler
from taskgym.training.async_trainer import UNLEARNED, AsyncTrainer, packed_attention, plain_head
from taskgym.training.callbacks import RunCallback
from taskgym.training.config import TrainConfig
from taskgym.training.folder import RunFolder, checkpoint_step
from taskgym.training.grpo_trainer import prepare_trl
from taskgym.training.learner import OnStep, shared_arguments
from taskgym.training.models import Loaded
from taskgym.training.ranks import Ranks
from taskgym.training.sync import Sync
from taskgym.training.tasks import TaskPlan
from taskgym.training.worker_rollout import OpenRollout
from transformers import PrinterCallback, ProgressCallback
from trl.experimental.async_grpo import AsyncGRPOConfig


def learn_asynchronously(
    config: TrainConfig,
    loaded: Loaded,
    policy: ServerPolicy,
    plan: TaskPlan,
    folder: RunFolder,
    checkpoint: Path | None,
    on_step: OnStep,
) -> bool:
    """Trains until the last step, a Ctrl-C or an error; the model is changed in place.

    Args:
        config: The run's config.
        loaded: The model to train.
        policy: Asks the server that the worker shall ask too.
        plan: Which tasks to train on.
        folder: Where metrics, episodes and checkpoints go.
        checkpoint: A whole checkpoint to continue from, or None.
        on_step: Told the metrics of each step.

    Returns:
        Whether the last step was reached.
    """
    prepare_trl()
    with _worker(config, loaded, policy, folder) as worker:
        sync = Sync(worker, loaded)
        groups = groups_ahead(config, plan, worker, checkpoint)
        pad = loaded.tokenizer.pad_token_id
        sampler = AsyncSampler(config, worker, groups, sync, folder, pad)
        callback = RunCallback(folder, sampler, checkpoint, on_step, Ranks())
        with packed_attention(loaded.model), plain_head(loaded.model):
            arguments = async_arguments(config, folder.checkpoints)
            trainer = AsyncTrainer(loaded, sampler, arguments, config.grpo.loss_type, [callback])
            for theirs in (PrinterCallback, ProgressCallback):
                trainer.remove_callback(theirs)
            with callback.stop_on_interrupt():
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return bool(trainer.state.global_step >= config.steps)


def groups_ahead(
    config: TrainConfig, plan: TaskPlan, worker: RolloutWorker, checkpoint: Path | None
) -> GroupsAhead:
    """The groups of a run, from its beginning or from a checkpoint.

    Group n has the task that the synchronous learner plays at position n % P of step n // P.
    """
    grpo, done = config.grpo, checkpoint_step(checkpoint) if checkpoint else 0
    left = {} if checkpoint is None else json.loads((checkpoint / UNLEARNED).read_text())

    def draw(number: int, attempt: int) -> tuple[int, int | None]:
        step, position = divmod(number, grpo.groups_per_step)
        return plan.training_start(grpo.groups_per_step, step, position, attempt)

    def max_fresh(number: int) -> int:
        step, position = divmod(number, grpo.groups_per_step)
        return fresh_share(grpo.max_fresh_groups, grpo.groups_per_step, step, position)

    return GroupsAhead(
        worker,
        draw,
        size=grpo.num_generations,
        per_step=grpo.groups_per_step,
        steps=range(done, config.steps),
        max_staleness=grpo.max_staleness,
        max_fresh=max_fresh,
        mask_truncated=grpo.mask_truncated_completions,
        **left,
    )


def async_arguments(config: TrainConfig, output: Path) -> AsyncGRPOConfig:
    """A config in the terms of TRL's asynchronous trainer."""
    return AsyncGRPOConfig(
        **shared_arguments(config, output),
        max_staleness=config.grpo.max_staleness,
        token_budget=0,  # micro-batches are a number of samples, so that a step is one too
    )


@contextmanager
def _worker(
    config: TrainConfig, loaded: Loaded, policy: ServerPolicy, folder: RunFolder
) -> Iterator[RolloutWorker]:
    servers, adapters = policy.clients, folder.path / "worker"
    reachable = dataclasses.replace(config, server_url=tuple(server.url for server in servers))
    base = loaded.base(config.lora.rank)

    def tend() -> None:
        for server in servers:
            server.on_lost()

    worker = RolloutWorker(OpenRollout(reachable, base, adapters, servers[0].key), tend)
    try:
        yield worker
    finally:
        worker.close()
        shutil.rmtree(adapters, ignore_errors=True)  # those of processes that were killed
