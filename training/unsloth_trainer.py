"""Unsloth's `GRPOTrainer` as we use it, which is TRL's once Unsloth was imported."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from taskgym.training.micro_batches import Batch, evened, row_tokens
from taskgym.training.watched_trainer import WatchedTrainer
from trl import GRPOTrainer


class UnslothTrainer(WatchedTrainer):
    """Unsloth's trainer, which packs its rows and has a way of its own from them to the loss."""

    vllm_importance_sampling_correction: bool  # TRL's
    _buffered_inputs: list[Batch]  # TRL's
    _one_pass = False  # whether its loss finds the learner's log-probabilities by itself

    def correct_for_the_sampler(self, most_gap: float | None) -> None:
        """Weighs the loss by learner over sampler, as beside the engine of Unsloth's own loop."""
        self.most_gap = most_gap
        self.apart = self.use_vllm = True
        self.vllm_generation = _Synced()
        self._last_loaded_step = -1
        self._one_pass = take_new_for_old(inspect.unwrap(GRPOTrainer.compute_loss).__globals__)

    def _generate_and_score_completions(self, inputs: Any) -> Batch:
        """TRL's, but for one more look at all rows, which with Unsloth can cost more than learning.

        It finds the learner's log-probabilities to hold against the sampler's, and compares its
        packed rows with rows one by one whenever they are more or longer than before. The loss
        finds the same log-probabilities; see `take_new_for_old`.
        """
        corrected = self.vllm_importance_sampling_correction
        self.vllm_importance_sampling_correction = corrected and not self._one_pass
        try:
            batch: Batch = super()._generate_and_score_completions(inputs)
            return batch
        finally:
            self.vllm_importance_sampling_correction = corrected

    def _prepare_inputs(self, generation_batch: Any) -> Batch:
        """Its own micro-batches, dealt out anew where their loss does not depend on who is in them.

        What pictures take of the memory does not show in the tokens: their rows stay where they
        are, and the micro-batch with the longest comes first.
        """
        inputs: Batch = super()._prepare_inputs(generation_batch)
        if self._step % self.args.steps_per_generation:
            return inputs
        if self.loss_type == "bnpo" or "pixel_values" in inputs:
            self._buffered_inputs.sort(key=_longest, reverse=True)
        else:
            self._buffered_inputs = evened(self._buffered_inputs)
        first: Batch = self._buffered_inputs[0]
        return first


def take_new_for_old(names: dict[str, Any]) -> bool:
    """Lets Unsloth's loss do without log-probabilities from before the step: they are the new ones.

    So they are where a generation is learned from in one step. Its loss knows that for PPO's ratio,
    and not for the ratio to the sampler.

    Args:
        names: Of the module that Unsloth has written, in which its loss is looked up.

    Returns:
        Whether it does: False if the loss is not there by the name that is known.
    """
    usual = names.get("grpo_compute_loss")
    if usual is None or getattr(usual, "takes_new_for_old", False):
        return usual is not None

    @functools.wraps(usual)  # Unsloth reads its source
    def loss(ref: Any, new: Any, old: Any, *rest: Any, **options: Any) -> Any:
        return usual(ref, new, new.detach() if old is None else old, *rest, **options)

    names["grpo_compute_loss"] = loss
    vars(loss)["takes_new_for_old"] = True
    return True


class _Synced:
    """Stands where TRL keeps its own vLLM and brings it the weights; ours were brought already."""

    def sync_weights(self) -> None:
        """Nothing is left to do."""


def _longest(batch: Batch) -> int:
    """The most tokens that a row of a micro-batch has."""
    return int(row_tokens(batch).max())
