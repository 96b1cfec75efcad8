"""TRL's `GRPOTrainer` as we use it: beside a sampler of ours, and no more work than needed."""

from __future__ import annotations

import trl.trainer.utils
from trl import GRPOTrainer


class _Synced:
    """Stands where TRL keeps its own vLLM and brings it the weights; ours were brought already."""

    def sync_weights(self) -> None:
        """Nothing is left to do."""


def correct_for_the_sampler(trainer: GRPOTrainer) -> None:
    """Lets TRL weigh its loss by learner over sampler, as it does beside its own vLLM.

    TRL reads the log-probabilities that `rollout_func` returns only if it believes in that engine;
    nothing else in its learning depends on it. It then logs `sampling/...` too.
    """
    trainer.use_vllm = True
    trainer.vllm_generation = _Synced()
    trainer._last_loaded_step = -1


def score_completions_only() -> None:
    """Lets TRL 1.16 project only completion tokens onto the vocabulary on a CPU too.

    Without Triton it projects prompt tokens as well and masks them afterwards, which for a prompt
    of 20 tokens and an answer of 3 is seven times the work of the largest matrix product. The
    numbers are the same. The name is read in `trl.trainer.utils` for this choice alone; the kernels
    have their own.
    """
    if hasattr(trl.trainer.utils, "_use_triton"):
        trl.trainer.utils._use_triton = lambda device: True
