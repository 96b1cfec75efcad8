"""What a learner does when the GPU's memory is full: it takes micro-batches in parts, once."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from taskgym.envs import TaskgymError
from taskgym.training.micro_batches import Batch

logger = logging.getLogger(__name__)


class MemoryFullError(TaskgymError, RuntimeError):
    """The GPU's memory is full, and it is too late, or no use, to take smaller micro-batches."""


def halving(trainer: type[Any]) -> type[Any]:
    """A class of `GRPOTrainer`'s that survives an out-of-memory in the first step it takes.

    The longest rows come first, so that this is where it happens. No weight has moved by then: the
    gradients are dropped, and the step begins again from the rows that were generated, each
    micro-batch in parts. The gradients of the step are the same up to rounding. Later, or when it
    happens again, the run is stopped.
    """

    class Halving(trainer):  # type: ignore[misc]  # TRL ships no types
        _parts = 1  # passes of a micro-batch
        _first_step: int | None = None
        _ready = False  # whether the rows of the micro-batch in work were generated
        _again = False  # whether they are handed out once more

        def training_step(self, model: Any, *args: Any, **options: Any) -> torch.Tensor:
            """TRL's, taken again in parts if the memory is full.

            Raises:
                MemoryFullError: That does not help.
            """
            if self._first_step is None:
                self._first_step = self.state.global_step
            self._ready = False
            try:
                loss: torch.Tensor = super().training_step(model, *args, **options)
                return loss
            except torch.OutOfMemoryError as error:
                self._give_up_unless_first(error)
            rows = self.args.per_device_train_batch_size
            self._parts = next(n for n in range(2, rows + 1) if rows % n == 0)
            # Not in the handler: there the error would still hold the tensors of its frames.
            logger.warning(
                "the GPU's memory is full: micro-batches of %d completions are taken in %d parts "
                "from now on",
                rows,
                self._parts,
            )
            return self._from_the_start(model, *args, **options)

        def compute_loss(self, model: Any, inputs: Batch, *args: Any, **options: Any) -> Any:
            """The loss of a micro-batch; of all parts but the last the gradients are taken here."""
            if self._parts == 1:
                return super().compute_loss(model, inputs, *args, **options)
            before = 0.0
            with self._accumulating():
                *parts, last = self.in_parts(inputs, self._parts)
                for part in parts:
                    with self._in_mid_step():
                        loss = super().compute_loss(model, part, *args, **options)
                    self.accelerator.backward(loss)
                    before = before + loss.detach()
                return super().compute_loss(model, last, *args, **options) + before

        def _prepare_inputs(self, generation_batch: Any) -> Batch:
            if self._again:
                kept: Batch = self._buffered_inputs[self._place]
                return kept
            inputs: Batch = super()._prepare_inputs(generation_batch)
            self._ready = True
            return inputs

        @property
        def _place(self) -> int:
            """Of the micro-batch in its step."""
            return int(self._step % self.args.steps_per_generation)

        def _give_up_unless_first(self, error: torch.OutOfMemoryError) -> None:
            step, rows = self.state.global_step + 1, self.args.per_device_train_batch_size
            what = f"step {step}: the GPU's memory is full ({str(error).splitlines()[0]})"
            if self.accelerator.num_processes > 1:
                raise MemoryFullError(
                    f"{what}; parts are taken by one process alone, several would wait for each "
                    "other: a smaller grpo.micro_batch needs less"
                ) from error
            if not self._ready:
                raise MemoryFullError(
                    f"{what} while completions were written; a smaller decode_rows or "
                    "gpu_memory_utilization needs less"
                ) from error
            if self._parts > 1 or rows == 1:
                raise MemoryFullError(
                    f"{what} with {rows // self._parts} completions in a pass; a shorter "
                    "max_model_len or load_in_4bit needs less: see train_agent --plan"
                ) from error
            if self.state.global_step != self._first_step:
                raise MemoryFullError(
                    f"{what} with {rows} completions in a pass; a resumed run takes them in parts "
                    "if it happens again"
                ) from error

        def _from_the_start(self, model: Any, *args: Any, **options: Any) -> torch.Tensor:
            model.zero_grad(set_to_none=True)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            place = self._place
            self._step -= place
            self._again = True
            try:
                for _ in range(place):
                    with self._in_mid_step():
                        super().training_step(model, *args, **options)
                loss: torch.Tensor = super().training_step(model, *args, **options)
                return loss
            except torch.OutOfMemoryError as error:
                self._give_up_unless_first(error)
                raise
            finally:
                self._again = False

        @contextmanager
        def _accumulating(self) -> Iterator[None]:
            """TRL divides each loss by the passes of a step, which are more now."""
            self.current_gradient_accumulation_steps *= self._parts
            self.args.steps_per_generation *= self._parts
            try:
                yield
            finally:
                self.current_gradient_accumulation_steps //= self._parts
                self.args.steps_per_generation //= self._parts

        @contextmanager
        def _in_mid_step(self) -> Iterator[None]:
            """What is logged or checked at the end of a step waits for its last part."""
            state = self.accelerator.gradient_state
            at_end = state.sync_gradients
            state._set_sync_gradients(False)
            try:
                yield
            finally:
                state._set_sync_gradients(at_end)

    return Halving
