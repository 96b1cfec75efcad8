"""TRL's `GRPOTrainer` as we use it: beside a sampler of ours, and no more work than needed."""

from __future__ import annotations

import os
from typing import Any

import torch
import trl.trainer.utils
from taskgym.training.micro_batches import (
    Batch,
    chosen,
    longest_first,
    loss_mask,
    narrowed,
    packed,
    row_lengths,
    taken,
)
from taskgym.training.sampler_gap import SamplerGap
from taskgym.training.unsloth_trainer import UnslothTrainer
from taskgym.training.watched_trainer import WatchedTrainer
from trl import GRPOTrainer
from trl.trainer.utils import (
    shuffle_sequence_dict,
    split_pixel_values_by_grid,
    split_tensor_dict,
    unsplit_pixel_values_by_grid,
)

# Losses that are divided by the tokens of the whole step, whoever is in a micro-batch.
_OVER_TOKENS = {"cispo", "dapo", "vespo"}


class TrimmedTrainer(WatchedTrainer):
    """TRL's trainer with rows in the order of their length, and one forward pass for each.

    TRL pads every row to the longest of the step, takes equally many of them in each pass, and
    looks at all of them once more to find how likely the learner holds what was sampled. A
    generation of ours is learned from in one step, so the loss's own forward pass knows that.

    Rows without an advantage, those of a group whose rewards are all the same, have a gradient of
    zero. They are read for the log, and no backward pass is made through them.
    """

    _buffered_inputs: list[Batch | None]
    _read = 0  # places before the first micro-batch that is learned from
    _gap: SamplerGap | None = None
    _inputs: Batch | None = None  # of the loss that is being computed

    def correct_for_the_sampler(self, most_gap: float | None) -> None:
        """Weighs the loss by learner over sampler."""
        self.apart, self.most_gap = True, most_gap
        self._gap = SamplerGap(
            self.vllm_importance_sampling_mode,
            self.vllm_importance_sampling_clip_min,
            self.vllm_importance_sampling_clip_max,
        )

    def training_step(self, model: Any, inputs: Any, *args: Any, **options: Any) -> torch.Tensor:
        """TRL's, of the next micro-batch; nothing while there are fewer than TRL counts on."""
        if self._place == 0:
            model.train()
            self._buffered_inputs = self._micro_batches(
                self._generate_and_score_completions(inputs)
            )
        if self._buffered_inputs[self._place] is None:
            self._step += 1
            return torch.zeros((), device=self.accelerator.device)
        loss: torch.Tensor = super().training_step(model, inputs, *args, **options)
        return loss

    def _prepare_inputs(self, generation_batch: Any) -> Batch:
        """The next micro-batch."""
        inputs = self._buffered_inputs[self._place]
        assert inputs is not None  # see `training_step`
        return inputs

    @property
    def _place(self) -> int:
        """Of the micro-batch in its step."""
        return int(self._step % self.args.steps_per_generation)

    def _micro_batches(self, batch: Batch) -> list[Batch | None]:
        """As many as TRL counts on; those that are not needed are None and come first."""
        places, self._read = self.args.steps_per_generation, 0
        if self.loss_type == "bnpo":
            # Its loss is a mean over the tokens of a micro-batch, so it matters who is in it.
            return _split(shuffle_sequence_dict(split_pixel_values_by_grid(batch)), places)
        rows = longest_first(split_pixel_values_by_grid(batch))
        if "pixel_values" in rows:  # what they take of the memory does not show in the tokens
            return _split(rows, places)
        idle_B = self._idle(rows)
        read = self._packed(chosen(rows, idle_B.nonzero()[:, 0])) if idle_B.any() else []
        learned = self._packed(chosen(rows, (~idle_B).nonzero()[:, 0]))
        self._read = places - len(learned)
        return [*[None] * (self._read - len(read)), *read, *learned]

    def _idle(self, rows: Batch) -> torch.Tensor:
        """Which rows are only read, (B,): whole micro-batches, equally many in all processes.

        None in the first step, so that a memory that is too small shows there; nor where every row
        has a gradient, of a KL or of a router's balance. The last micro-batch is always learned
        from: it is where processes share their gradients and the optimiser finds them.
        """
        micro = self.args.per_device_train_batch_size
        idle_B: torch.Tensor = rows["advantages"] == 0
        if self.state.global_step == 0 or self.beta or self.aux_loss_enabled:
            return torch.zeros_like(idle_B)
        everywhere = int(self.accelerator.gather(idle_B.sum()[None]).min())
        most = min(everywhere, len(idle_B) - micro) // micro * micro
        return idle_B & (idle_B.cumsum(0) <= most)

    def _packed(self, rows: Batch) -> list[Batch]:
        """The same in all processes: in each micro-batch they gather a value of each of its rows.

        Each packs by the longest row that any of them has at a place.
        """
        lengths_2B = self.accelerator.gather(row_lengths(rows)[None]).amax(0)
        most = self.args.per_device_train_batch_size
        parts = packed(lengths_2B, most, self.max_completion_length)
        return [narrowed(taken(rows, part)) for part in parts]

    def _compute_loss(self, model: Any, inputs: Batch) -> torch.Tensor:
        if self._place < self._read:
            with torch.no_grad():
                loss = self._weighed_loss(model, inputs)
            return loss.requires_grad_()  # a backward pass from here ends here
        return self._weighed_loss(model, inputs) * self._share(inputs)

    def _share(self, inputs: Batch) -> float:
        """What a mean over rows counts, of micro-batches that TRL takes to be of equal size."""
        if self.loss_type in _OVER_TOKENS:
            return 1.0
        micro_batches: int = self.current_gradient_accumulation_steps
        whole: int = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return len(inputs["completion_ids"]) * micro_batches / whole

    def _weighed_loss(self, model: Any, inputs: Batch) -> torch.Tensor:
        if self._gap is None:
            plain: torch.Tensor = super()._compute_loss(model, inputs)
            return plain
        self._inputs, self.use_vllm = inputs, True  # TRL then multiplies by the ratio in `inputs`
        try:
            loss: torch.Tensor = super()._compute_loss(model, inputs)
        finally:
            self._inputs, self.use_vllm = None, False  # and does not look for an engine of its own
        if self.accelerator.sync_gradients:
            for name, value in self._gap.metrics(self.accelerator.gather).items():
                self._metrics["train"][name].append(value)
        return loss

    def _get_per_token_logps_and_entropies(self, *args: Any, **options: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*args, **options)
        if self._inputs is not None and self._gap is not None:
            sampled, mask = self._inputs["sampling_per_token_logps"], loss_mask(self._inputs)
            ratio = self._gap.weights(found[0].detach(), sampled, mask)
            self._inputs["importance_sampling_ratio"] = ratio
        return found


def _split(rows: Batch, parts: int) -> list[Batch | None]:
    """Equal parts, each picture with the row that shows it."""
    return [narrowed(unsplit_pixel_values_by_grid(p)) for p in split_tensor_dict(rows, parts)]


def trainer_class() -> type[TrimmedTrainer] | type[UnslothTrainer]:
    """The one for the trainer that TRL has here: its own, or Unsloth's in its place."""
    unsloth = GRPOTrainer.__name__.startswith("Unsloth")
    return UnslothTrainer if unsloth else TrimmedTrainer


def prepare_trl() -> None:
    """Says nothing of experimental features, and projects only completion tokens on a CPU too.

    The features are known, and pinned by tests. Without Triton TRL 1.16 projects prompt tokens onto
    the vocabulary as well and masks them afterwards, which for a prompt of 20 tokens and an answer
    of 3 is seven times the work of the largest matrix product. The numbers are the same. The name
    is read in `trl.trainer.utils` for this choice alone; the kernels have their own.
    """
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    if hasattr(trl.trainer.utils, "_use_triton"):
        trl.trainer.utils._use_triton = lambda device: True
