"""How GRPO learns: the flags `--grpo.*`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from taskgym.training.config_fields import at_least

_MICRO_BATCH = 16  # where no memory of a GPU says more or less


@dataclass(frozen=True)
class GrpoConfig:
    """GRPO, by TRL's own names; the defaults are TRL's unless a line says why not."""

    learning_rate: float = 1e-5
    """TRL's 1e-6 is for full weights; adapters learn at about ten times that."""
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    """Shape of the learning rate."""
    warmup_ratio: float = 0.0
    """Share of the steps in which the learning rate rises."""
    num_generations: int = 8
    """G, completions of one task that are compared."""
    groups_per_step: int = 4
    """P, tasks of one optimiser step."""
    loss_type: Literal["grpo", "dapo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = (
        "dapo"
    )
    """The loss variant."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What advantages are divided by the deviation of."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """sequence is GSPO."""
    beta: float = 0.0
    """Weight of the KL to the reference; 0 needs no reference."""
    epsilon: float = 0.2
    """Clip range below, and above unless epsilon_high says."""
    epsilon_high: float | None = None
    """Clip range above."""
    mask_truncated_completions: bool = True
    """Leave truncated episodes out of the loss. TRL's False would punish being cut off."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    weight_decay: float = 0.0
    """Of AdamW."""
    adam_beta2: float = 0.999
    """Of AdamW."""
    optim: Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit"] = "adamw_torch"
    """The optimiser; the 8-bit ones need bitsandbytes."""
    micro_batch: int = 0
    """Completions of one forward and backward pass; groups are accumulated over these. 0: as many
    as the GPU's memory has room for; without a GPU 16 at most."""
    vllm_importance_sampling_correction: bool = True
    """Weigh the loss by how likely learner and sampler hold what was sampled, when they are apart
    (policy vllm and server)."""
    vllm_importance_sampling_mode: Literal[
        "sequence_mask", "sequence_truncate", "token_mask", "token_truncate"
    ] = "sequence_mask"
    """Ratio of a whole completion or of each token; too large a one is left out or cut."""
    vllm_importance_sampling_clip_max: float = 3.0
    """The largest ratio that counts as it is."""
    vllm_importance_sampling_clip_min: float | None = None
    """The smallest ratio that counts as it is; None: any."""
    max_staleness: int = 0
    """How many optimiser steps older than the learner's the adapter may be that wrote what is
    learned from. 0: learner and sampler take turns. 1: the next step is written while the learner
    computes (policy vllm and server). From 2 on: a process of its own writes so many steps ahead,
    and TRL's asynchronous trainer learns (policy server; see docs/async.md)."""
    max_fresh_groups: int = 0
    """Groups without signal replaced in one step at most, shared out over its positions; each
    costs one more generation."""

    def __post_init__(self) -> None:
        if self.num_generations < 2:
            raise ValueError(
                "grpo.num_generations must be at least 2 to compare completions, "
                f"got {self.num_generations}"
            )
        at_least("grpo.groups_per_step", self.groups_per_step, 1)
        at_least("grpo.max_fresh_groups", self.max_fresh_groups, 0)
        at_least("grpo.max_staleness", self.max_staleness, 0)
        if self.max_staleness and not self.vllm_importance_sampling_correction:
            raise ValueError(
                f"grpo.max_staleness={self.max_staleness} learns from an older policy, which needs "
                "grpo.vllm_importance_sampling_correction"
            )
        at_least("grpo.micro_batch", self.micro_batch, 0)
        if self.completions % self.rows:
            raise ValueError(
                f"grpo.micro_batch must divide the {self.completions} completions of a step "
                f"(num_generations x groups_per_step), got {self.micro_batch}"
            )

    @property
    def asynchronous(self) -> bool:
        """Whether a process of its own writes ahead of the learner."""
        return self.max_staleness > 1

    @property
    def completions(self) -> int:
        """Of one step."""
        return self.num_generations * self.groups_per_step

    @property
    def rows(self) -> int:
        """Completions of one pass."""
        if self.micro_batch:
            return min(self.micro_batch, self.completions)
        return max(n for n in range(1, _MICRO_BATCH + 1) if self.completions % n == 0)
