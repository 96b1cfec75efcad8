"""TRL's `GRPOTrainer` with an eye on the sampler: it stops where the two are not one policy.

Imported after Unsloth, if that is used, has put its own trainer in the place of TRL's.
"""

from __future__ import annotations

from typing import Any

import torch
from taskgym.training.micro_batches import Batch
from taskgym.training.sampler_gap import DIFFERENCE, check_gap
from trl import GRPOTrainer


class WatchedTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL ships no types
    """Whatever trainer TRL has, stopped when sampler and learner are too far apart.

    Attributes:
        apart: Whether the sampler has weights of its own.
        most_gap: The largest mean gap of a step, in nats a token; None: any.
    """

    apart = False
    most_gap: float | None = None

    def compute_loss(self, model: Any, inputs: Batch, *args: Any, **options: Any) -> torch.Tensor:
        """TRL's loss of a micro-batch.

        Raises:
            SamplerGapError: It was the step's last, and the gap is too large to learn from.
        """
        loss: torch.Tensor = super().compute_loss(model, inputs, *args, **options)
        if self.apart and self.accelerator.sync_gradients:
            self._check_gap()
        return loss

    def _check_gap(self) -> None:
        gaps = self._metrics["train"].get(f"{DIFFERENCE}/mean", [])
        check_gap(sum(gaps) / max(1, len(gaps)), self.most_gap, self.state.global_step + 1)
