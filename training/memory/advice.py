"""What could be changed about a run that does not fit, so that it does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import combinations

from taskgym.training.config import TrainConfig
from taskgym.training.memory.plan import Demand, Plan, choose
from taskgym.training.memory.sizes import Sizes
from taskgym.training.recipes import sisters

_SHORTER = 256  # tokens by which a length is shortened at a time
_MICRO, _SHARE, _STANDBY = "--grpo.micro-batch", "--gpu-memory-utilization", "--standby"
_WARMUP, _CONTEXT, _FOUR_BIT = "--warmup.batch", "--max-model-len", "--load-in-4bit"


def what_fits(config: TrainConfig, sizes: Sizes, demand: Demand, card: float) -> str:
    """The flags of the fewest changes with which it fits, or what else there is to do.

    Args:
        config: The run's.
        sizes: Of the model, for the micro-batches that may be advised too.
        demand: Of the run.
        card: Its memory in bytes.
    """
    if config.recipe and (smaller := sisters(config.recipe, card / 2**30)):
        return f"--recipe {smaller[0]}"
    for whole in range(demand.length, demand.prompt, -_SHORTER):
        for changes in _changes(config, sizes, demand):
            plan = choose(*_changed(config, sizes, demand, changes, whole), card)
            if plan is not None:
                return " ".join(_flags(plan, demand, changes))
    return "a smaller --model"


def _changes(config: TrainConfig, sizes: Sizes, demand: Demand) -> Iterator[tuple[str, ...]]:
    """None, each alone, each two, ..."""
    stated = {
        _MICRO: demand.micro_batch > 0,
        _SHARE: demand.share > 0,
        _WARMUP: sizes.warmup > 0 and config.warmup.batch > 1,
        _STANDBY: config.standby is False and demand.standby is False,
        _CONTEXT: demand.engine != "none" and demand.context > demand.length,
        _FOUR_BIT: not config.load_in_4bit,
    }
    possible = [flag for flag, there in stated.items() if there]
    for number in range(len(possible) + 1):
        yield from combinations(possible, number)


def _changed(
    config: TrainConfig, sizes: Sizes, demand: Demand, changes: tuple[str, ...], whole: int
) -> tuple[Sizes, Demand]:
    """Activations are in proportion to the tokens."""
    part = whole / demand.length
    peaks = {n: (int(peak * part), logits) for n, (peak, logits) in sizes.peaks.items()}
    sizes = dataclasses.replace(sizes, peaks=peaks)
    if _WARMUP in changes:
        sizes = dataclasses.replace(sizes, warmup=sizes.warmup // config.warmup.batch)
    if _FOUR_BIT in changes:
        sizes = dataclasses.replace(sizes, weights=sizes.four_bit, merged=0.0)
    demand = dataclasses.replace(
        demand,
        completion=whole - demand.prompt,
        context=whole if _CONTEXT in changes or part < 1 else demand.context,
        micro_batch=0 if _MICRO in changes else demand.micro_batch,
        share=0.0 if _SHARE in changes else demand.share,
        standby=True if _STANDBY in changes else demand.standby,
    )
    return sizes, demand


def _flags(plan: Plan, demand: Demand, changes: tuple[str, ...]) -> Iterator[str]:
    values = {
        _MICRO: f" {plan.micro_batch}",
        _SHARE: f" {int(100 * plan.share) / 100}",
        _WARMUP: " 1",
        _CONTEXT: f" {plan.demand.context}",
    }
    yield from (flag + values.get(flag, "") for flag in changes)
    if plan.demand.completion < demand.completion:
        yield from () if _CONTEXT in changes else (f"{_CONTEXT} {plan.demand.context}",)
        yield f"--sampling.max-tokens {plan.demand.completion}"
