"""The processes that train one run together, and the few words that they exchange."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from taskgym.envs import TaskgymError
from taskgym.training.config import TrainConfig
from taskgym.training.devices import has_cuda
from taskgym.training.errors import USAGE, ConfigError

T = TypeVar("T")
_PATIENCE = timedelta(minutes=30)  # for the slowest of them; one that is gone is noticed at once


class RankLostError(TaskgymError, RuntimeError):
    """Another process of the run has ended, or does not answer any more."""


class Ranks:
    """The processes of a run, as one of them sees them. Alone, nothing waits and nothing travels.

    Objects travel through a group of their own on the CPU, so that they neither take memory of the
    GPU nor get between the learner's gradients. All processes must make the same calls in the same
    order.

    Attributes:
        rank: This process's number.
        size: How many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1, group: Any = None):
        self.rank = rank
        self.size = size
        self._group = group

    @property
    def first(self) -> bool:
        """Whether this one writes the run folder and speaks."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The values of all, in the order of their ranks.

        Raises:
            RankLostError: One of them is gone.
        """
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        self._talk(lambda: dist.all_gather_object(values, value, group=self._group))
        return values

    def bring(self, value: T) -> list[T] | None:
        """The values of all, in the order of their ranks, for the first; None for the others.

        Raises:
            RankLostError: One of them is gone.
        """
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] | None = [None] * self.size if self.first else None
        self._talk(lambda: dist.gather_object(value, values, dst=0, group=self._group))
        return values

    def share(self, work: Callable[[], T]) -> T:
        """What the first finds or makes, which the others then have too.

        Raises:
            RankLostError: One of them is gone.
        """
        if self.size == 1:
            return work()
        import torch.distributed as dist

        box: list[Any] = [work() if self.first else None]
        self._talk(lambda: dist.broadcast_object_list(box, src=0, group=self._group))
        found: T = box[0]
        return found

    def meet(self) -> None:
        """Waits until all have come this far.

        Raises:
            RankLostError: One of them is gone.
        """
        self.gather(None)

    @contextmanager
    def spared(self) -> Iterator[None]:
        """The launcher's SIGTERM ends nothing meanwhile: for what is over before it kills."""
        if self.size == 1:
            yield
            return
        usual = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, usual)

    def part(self) -> None:
        """Ends what the processes talk through, once none has anything left to say."""
        import torch.distributed as dist

        if dist.is_initialized():  # an engine of vLLM that was shut down has done it
            dist.destroy_process_group()
        self._group = None
        gc.collect()  # gloo's threads end with the last reference; alive, one may abort the exit

    def _talk(self, words: Callable[[], object]) -> None:
        try:
            words()
        except RuntimeError as error:  # torch's, by the name of the transport
            raise RankLostError(
                "another process of this run has ended, or was silent for half an hour; "
                "its own words say why"
            ) from error


def world_size() -> int:
    """How many processes the launcher started (`accelerate launch`, `torchrun`)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def share_of(config: TrainConfig, size: int) -> TrainConfig:
    """What each of so many processes does of a step: whole groups, and rows of the warm-up.

    Raises:
        ConfigError: They do not go round.
    """
    groups = _share("grpo.groups_per_step", config.grpo.groups_per_step, size)
    warmup = config.warmup
    if warmup.data:
        warmup = replace(warmup, batch=_share("warmup.batch", warmup.batch, size))
    try:
        grpo = replace(config.grpo, groups_per_step=groups)
    except ValueError as error:
        raise ConfigError(f"each of {size} processes: {error}") from error
    return replace(config, grpo=grpo, warmup=warmup)


def _share(name: str, value: int, size: int) -> int:
    if value % size:
        raise ConfigError(
            f"{name}={value} cannot be dealt out evenly to {size} processes; make it "
            f"{value + -value % size}, or start a number of processes that divides it"
        )
    return value // size


@contextmanager
def joined() -> Iterator[Ranks]:
    """Joins the processes that were launched together, each with a device of its own.

    One that fails says why and ends; the others then end too, and leave the words to it.
    """
    if world_size() == 1:
        yield Ranks()
        return
    import torch.distributed as dist
    from accelerate import PartialState

    if not has_cuda():  # else accelerate counts CPUs, and torch.load knows no "cpu:0"
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")
    # Imported later, it would hold the group for ever: as the default of its functions' arguments.
    importlib.import_module("torch.distributed.nn.functional")
    state = PartialState(cpu=not has_cuda(), timeout=_PATIENCE)
    ranks = Ranks(
        state.process_index,
        state.num_processes,
        dist.new_group(backend="gloo", timeout=_PATIENCE),
    )
    usual = signal.signal(signal.SIGTERM, _end)
    try:
        yield ranks
    except RankLostError:
        if state.is_main_process:
            raise
        sys.exit(USAGE)
    finally:
        signal.signal(signal.SIGTERM, usual)
    ranks.part()


def _end(number: int, frame: Any) -> None:
    """The launcher ends the others when one has failed: what is open is closed, a report written.

    Raises:
        RankLostError: Always.
    """
    raise RankLostError("the launcher ended this run: a process failed, or it was told to")
