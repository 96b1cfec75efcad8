"""TRL's `AsyncGRPOTrainer` as we use it: on a model that is loaded, beside a worker of ours.

What is relied on of TRL 1.15 and 1.16, beside its documented `rollout_worker` and `weight_transfer`
(pinned by `tests/test_async_trainer.py`): where it looks up `create_model_from_path` and
`add_fused_lm_head`; that `_sync_weight` is called before the worker starts and after every
optimiser step; that a batch says in `global_n_tokens` what its loss is divided by.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasets import Dataset
from taskgym.training import tree_attention
from taskgym.training.devices import has_cuda
from taskgym.training.models import Loaded
from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer, async_grpo_trainer

_CALLBACKS = logging.getLogger("transformers.trainer_callback")
UNLEARNED = "unlearned.json"  # in a checkpoint: what was being played when it was written


class AsyncTrainer(AsyncGRPOTrainer):  # type: ignore[misc]  # TRL ships no types
    """Learns from what a worker of ours hands out, which brings the adapter to the sampler too."""

    def __init__(
        self,
        loaded: Loaded,
        worker: Any,
        args: AsyncGRPOConfig,
        loss_type: str,
        callbacks: list[Any],
    ):
        self._worker = worker
        self._loss_type = loss_type
        self._tokens: Any = 1
        with _given_model(loaded.model):
            super().__init__(
                model=loaded.name,
                args=args,
                train_dataset=Dataset.from_dict({"prompt": [""]}),  # read by TRL's own worker alone
                processing_class=loaded.tokenizer,
                callbacks=callbacks,
                rollout_worker=worker,
                weight_transfer=_NoTransfer(),
            )

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The micro-batches of a step; notes what the loss of each is to be divided by.

        For `dapo` (Yu et al. 2025, equation 8) the tokens of the step, shared out evenly; for
        `dr_grpo` (Liu et al. 2025, section 3.2) as many tokens as there could have been.
        """
        batches, items = super().get_batch_samples(*args, **kwargs)
        if self._loss_type == "dr_grpo":
            self._tokens = self.args.per_device_train_batch_size * self.args.max_completion_length
        elif batches:
            self._tokens = sum(batch["global_n_tokens"][0] for batch in batches) / len(batches)
        return batches, items

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """TRL's loss, which it divides by the tokens of the micro-batch, divided as it should be.

        As TRL has it, a token counts the more the fewer there are in its micro-batch.
        """
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        return loss * (inputs["global_n_tokens"][0] / self._tokens)

    def _sync_weight(self) -> None:
        self.model_version = self.state.global_step
        self._worker.update_model_version(self.model_version)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / UNLEARNED).write_text(json.dumps(self._worker.unlearned(self.state.global_step)))
        super()._save_checkpoint(model, trial)


class _NoTransfer:
    """Stands where TRL streams full weights to vLLM; our worker brings the adapter instead."""

    def init_weight_transfer(self) -> None:
        """Nothing to set up."""

    def destroy(self) -> None:
        """Nothing to give back."""


@contextmanager
def _given_model(model: Any) -> Iterator[None]:
    """Lets TRL, which only loads models by their name, take this one, and start without a GPU.

    The head that computes log-probabilities is put on the model inside the adapter, where TRL puts
    it on a model before it wraps that. Without CUDA, TRL asks in vain how fast the GPU is.
    """
    add_head = async_grpo_trainer.add_fused_lm_head
    others: dict[str, Any] = {
        "create_model_from_path": lambda *args, **kwargs: model,
        "add_fused_lm_head": lambda model, **kwargs: add_head(model.get_base_model(), **kwargs),
    }
    if not has_cuda():
        others["get_peak_flops_per_device"] = lambda *args: None
    kept = {name: getattr(async_grpo_trainer, name) for name in others}
    vars(async_grpo_trainer).update(others)
    heard = _CALLBACKS.level
    _CALLBACKS.setLevel(logging.ERROR)  # TRL adds two of a kind, of which transformers warns
    try:
        yield
    finally:
        vars(async_grpo_trainer).update(kept)
        _CALLBACKS.setLevel(heard)


@contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """Lets a model attend to samples that are packed into one row, as TRL's collator packs them.

    TRL 1.15 lays them side by side, which every attention of transformers tells apart by their
    positions. TRL 1.16 folds them into a tree.
    """
    base = model.get_base_model()
    kept = base.config._attn_implementation
    if hasattr(async_grpo_trainer, "TREE_ATTENTION"):
        tree_attention.register()
        base.set_attn_implementation(tree_attention.NAME)
    try:
        yield
    finally:
        base.set_attn_implementation(kept)


@contextmanager
def plain_head(model: Any) -> Iterator[None]:
    """Takes TRL's head off again, so that the model is as it was."""
    base = model.get_base_model()
    try:
        yield
    finally:
        vars(base).pop("forward", None)
