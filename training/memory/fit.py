"""Settles what a config leaves to the memory of the GPU, or says what would fit instead."""

from __future__ import annotations

import dataclasses
import logging
import os
from itertools import count

from taskgym.envs import SingleTurnEnv
from taskgym.training.config import TrainConfig
from taskgym.training.devices import card_of, gpu_memory, has_cuda
from taskgym.training.environment import SERVER_GPU
from taskgym.training.errors import ModelError
from taskgym.training.memory.advice import what_fits
from taskgym.training.memory.plan import GIB, Demand, Plan, choose
from taskgym.training.memory.sizes import Asked, UnforeseenError, measure
from taskgym.training.memory.table import as_line, as_table
from taskgym.training.models import has_unsloth
from taskgym.training.ranks import share_of, world_size
from taskgym.training.readers import find_model
from taskgym.training.tasks import TaskPlan

logger = logging.getLogger(__name__)

# Tokens, where max_model_len does not say: of a prompt, and of an episode of several turns.
_PROMPT, _EPISODE = 1024, 4096
_FIRST_TURN = 256  # tokens of an episode before its first reply
_BLIND_SHARE = 0.4  # of the card for vLLM, where nothing can be foreseen


def settled(config: TrainConfig, tasks: TaskPlan) -> TrainConfig:
    """The config with what it leaves open chosen for this GPU; without a GPU, as it is.

    What a person has stated stays.

    Raises:
        ModelError: It cannot fit; the message names what does.
    """
    if not has_cuda():
        return config
    try:
        plan = plan_for(share_of(config, world_size()), tasks, gpu_memory())
    except UnforeseenError as error:
        logger.warning("the memory of this run cannot be foreseen: %s", error)
        share = config.gpu_memory_utilization or _BLIND_SHARE
        return dataclasses.replace(config, gpu_memory_utilization=share)
    print(as_line(plan))
    return dataclasses.replace(
        config,
        grpo=dataclasses.replace(config.grpo, micro_batch=plan.micro_batch),
        gpu_memory_utilization=round(plan.share, 4),
        standby=plan.standby,
        decode_rows=plan.decode_rows,
    )


def table(config: TrainConfig, tasks: TaskPlan) -> str:
    """What `--plan` prints.

    Raises:
        ConfigError: No GPU is here, and no card was named.
        ModelError: It cannot fit; the message names what does.
    """
    text = as_table(plan_for(config, tasks, card_of(config.plan)))
    if config.max_model_len:
        return text
    tokens = sum(_lengths(config, tasks))
    return f"{text}\nassumed: {tokens:,} tokens of a prompt and its completion; say --max-model-len"


def plan_for(config: TrainConfig, tasks: TaskPlan, memory: float) -> Plan:
    """How a run shares a card.

    Args:
        config: The run's.
        tasks: Of its env.
        memory: GiB of the card.

    Raises:
        ModelError: It cannot fit, or the model is not to be had.
        UnforeseenError: Nothing is known of this model's memory.
    """
    demand = _demand(config, tasks)
    asked = _asked(config, tasks.pictures > 0, demand)
    sizes = measure(asked)
    demand = dataclasses.replace(demand, context=demand.context or sizes.context)
    if plan := choose(sizes, demand, memory * GIB):
        return plan
    if plan := choose(sizes, demand, memory * GIB, spare=0.0):
        logger.warning("this run takes all of the GPU's memory, if not more: %s", as_line(plan))
        return plan
    others = dataclasses.replace(demand, micro_batch=0).rows
    sizes = measure(dataclasses.replace(asked, rows=tuple({*asked.rows, *others})))
    needed = next(g for g in count(int(memory) + 1) if choose(sizes, demand, g * GIB))
    raise ModelError(
        f"{config.model or 'the default model'} does not fit into this GPU: as asked the run takes "
        f"a card of {needed} GiB, and this one has {memory:.1f}; what fits: "
        f"{what_fits(config, sizes, demand, memory * GIB)}"
    )


def _asked(config: TrainConfig, sees: bool, demand: Demand) -> Asked:
    return Asked(
        model=find_model(config.model, sees),
        lora=config.lora,
        sees=sees,
        four_bit=config.load_in_4bit,
        prompt=demand.prompt,
        completion=demand.completion,
        rows=demand.rows,
        warmup=(config.warmup.batch, config.warmup.max_tokens) if config.warmup.data else (0, 0),
    )


def _demand(config: TrainConfig, tasks: TaskPlan) -> Demand:
    prompt, completion = _lengths(config, tasks)
    alone = world_size() == 1
    unsloth = config.loader == "unsloth" or (config.loader == "auto" and has_unsloth() and alone)
    beside = not config.server_url and SERVER_GPU not in os.environ
    own = config.policy == "vllm" or (config.policy == "server" and beside)
    shared = config.policy == "vllm" and unsloth
    return Demand(
        completions=config.grpo.completions,
        prompt=prompt,
        completion=completion,
        context=config.max_model_len,
        engine="shared" if shared else "own" if own else "none",
        decodes=config.policy == "transformers",
        decode_rows=config.decode_rows,
        eight_bit="8bit" in config.grpo.optim,
        reference=config.grpo.beta > 0,
        micro_batch=config.grpo.micro_batch,
        share=config.gpu_memory_utilization if own else 0.0,
        standby=config.standby if _may_sleep(config) else False,
    )


def _may_sleep(config: TrainConfig) -> bool:
    """A server cannot, nor an engine that writes while the learner computes."""
    return config.policy == "vllm" and not config.grpo.max_staleness


def _lengths(config: TrainConfig, tasks: TaskPlan) -> tuple[int, int]:
    """Tokens of the longest prompt and of what follows it."""
    if not isinstance(tasks.env, SingleTurnEnv):
        whole = config.max_model_len or _EPISODE
        return min(_FIRST_TURN, whole - 1), max(whole - _FIRST_TURN, 1)
    whole = config.max_model_len or config.sampling.max_tokens + _PROMPT
    completion = min(config.sampling.max_tokens, whole - 1)
    return whole - completion, completion
