"""What happens when the GPU's memory is full: a first step begins again with half the rows."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from taskgym.envs import TaskgymError
from transformers import TrainerCallback

logger = logging.getLogger(__name__)

_REF = "ref"  # TRL's name for the frozen copy of the adapter that each trainer with a KL makes


class MemoryFullError(TaskgymError, RuntimeError):
    """The GPU's memory is full, and it is too late, or no use, to take fewer rows at a time."""


class WrittenOnce(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """TRL's `rollout_func`: completions of a step are written once, also if it begins again.

    It is to be among the trainer's callbacks as well, to see when weights begin to move.

    Attributes:
        writing: Whether completions are being written; still so after an error in it.
        moved: Whether a weight may have moved.
    """

    def __init__(self, rollout_func: Callable[[Any, Any], dict[str, list[Any]]]):
        self.writing = self.moved = False
        self._rollout_func = rollout_func
        self._step: int | None = None
        self._written: dict[str, list[Any]] = {}

    def __call__(self, prompts: Any, trainer: Any) -> dict[str, list[Any]]:
        """The completions of the trainer's step."""
        if trainer.state.global_step != self._step:
            self.writing = True
            self._written = self._rollout_func(prompts, trainer)
            self._step = trainer.state.global_step
            self.writing = False
        return dict(self._written)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An optimiser begins to move weights."""
        self.moved = True


def train_within_memory(
    trainer_of: Callable[[int], Any], rows: int, written: WrittenOnce, checkpoint: Path | None
) -> Any:
    """Trains to the end; by a second trainer, with half the rows, if the first step is too large.

    The longest rows come first, so that this is where it shows. No weight has moved by then: the
    gradients are dropped, and the step begins again from the same completions. Its gradients are
    the same up to rounding, but for losses that are a mean over a micro-batch (bnpo). Later, or
    when it happens again, training is stopped.

    Args:
        trainer_of: Makes a trainer with so many rows in a micro-batch; all share one model.
        rows: Of a micro-batch.
        written: The trainers' `rollout_func`, and one of their callbacks.
        checkpoint: A whole checkpoint to continue from, or None.

    Returns:
        The trainer that came to the end.

    Raises:
        MemoryFullError: It is full too late, or again.
    """
    most, resume = rows, str(checkpoint) if checkpoint else None
    while True:
        trainer = trainer_of(rows)
        try:
            trainer.train(resume_from_checkpoint=resume)
            return trainer
        except torch.OutOfMemoryError as error:
            if why := _no_use(trainer, rows, written, again=rows < most):
                raise MemoryFullError(f"{_said(error, trainer)} {why}") from error
            said, model = _said(error, trainer), trainer.model
        # Not in the handler: there the error would still hold the tensors of its frames.
        rows = _half(rows)
        logger.warning("%s; it begins again with micro-batches of %d completions", said, rows)
        del trainer
        _free(model)


def _said(error: torch.OutOfMemoryError, trainer: Any) -> str:
    step = trainer.state.global_step + 1
    return f"step {step}: the GPU's memory is full ({str(error).splitlines()[0]})"


def _no_use(trainer: Any, rows: int, written: WrittenOnce, again: bool) -> str:
    """Why a step cannot begin again, and what needs less; empty if it can."""
    if trainer.accelerator.num_processes > 1:
        return (
            "in one of several processes, which cannot begin a step again alone; a smaller "
            "grpo.micro_batch needs less"
        )
    if written.writing:
        return (
            "while completions were written; a smaller decode_rows or gpu_memory_utilization "
            "needs less"
        )
    if again or rows == 1:
        return (
            f"with {rows} completions in a pass; a shorter max_model_len or load_in_4bit needs "
            "less: see train_agent --plan"
        )
    if written.moved:
        return (
            f"with {rows} completions in a pass; a resumed run takes fewer if its first step is "
            "too large"
        )
    return ""


def _half(rows: int) -> int:
    """Or, of an odd number, the most that divide it."""
    return next(rows // n for n in range(2, rows + 1) if rows % n == 0)


def _free(model: Any) -> None:
    """Drops what a trainer has left in a model and on the GPU."""
    model.zero_grad(set_to_none=True)
    if _REF in model.peft_config:
        model.delete_adapter(_REF)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
