"""How far sampler and learner are apart on what was sampled, and the loss's weight against it.

A sampler apart computes with other kernels, and maybe with an older adapter, so its completions
are drawn from a slightly different policy than the one that learns. The weight is learner over
sampler, truncated or masked (Yao et al., https://fengyao.notion.site/off-policy-rl), in TRL's terms
and with TRL's numbers. Axes: B rows, T completion tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from taskgym.agents.policy import Sampling
from taskgym.envs import TaskgymError
from torch import Tensor

DIFFERENCE = "sampling/sampling_logp_difference"
_RATIO = "sampling/importance_sampling_ratio"
# Nats a token, mean over a step. PPO's clip range lets a token move by 0.2; where the average token
# is further off than that, the completions are another policy's, whatever weight they are given.
_MOST = 0.25
# One optimiser step between them explains more: a third of a nat where the learning rate is high.
# At one nat the typical weight is e, and of whole completions next to none is left.
_MOST_STALE = 1.0
_TIMES_NOISE = 10.0  # mixtures of experts in bfloat16 part by 0.1 without any fault


class SamplerGapError(TaskgymError, RuntimeError):
    """Sampler and learner are too far apart on what was sampled for the step to teach anything."""


def most_gap(noise: float, sampling: Sampling, staleness: int) -> float | None:
    """The mean gap of a step at which a run stops, in nats a token; None: at none.

    Args:
        noise: What the two differ by with the same adapter, as the canary measured it.
        sampling: How completions are drawn. Where that leaves out unlikely tokens, the sampler's
            log-probabilities are by intention not the learner's, and no gap is a fault.
        staleness: Optimiser steps that may lie between them.
    """
    if sampling.top_p < 1 or sampling.top_k > 0 or sampling.min_p > 0:
        return None
    return max(_MOST_STALE if staleness else _MOST, _TIMES_NOISE * noise)


def check_gap(gap: float, most: float | None, step: int) -> None:
    """Stops a run whose sampler is not the learner's policy.

    Raises:
        SamplerGapError: The gap of this step is above the most there may be, or NaN.
    """
    if most is not None and not gap <= most:
        raise SamplerGapError(
            f"step {step}: sampler and learner differ by {gap:.3f} nats a token on what was just "
            f"sampled, at most {most:.3f} can be learned from; if the first step says so, they do "
            "not compute the same (another model, dtype, prompt or picture), later the adapter "
            "moved too far in one step: lower grpo.learning_rate"
        )


@dataclass
class SamplerGap:
    """Gathers the gap over the micro-batches of a step.

    Attributes:
        mode: TRL's `vllm_importance_sampling_mode`: `token_` or `sequence_`, `truncate` or `mask`.
        least: The smallest ratio that counts as it is; None: any.
        most: The largest.
    """

    mode: str
    least: float | None
    most: float | None
    _differences: list[Tensor] = field(default_factory=list)
    _ratios: list[Tensor] = field(default_factory=list)

    def weights(self, learned_BT: Tensor, sampled_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """The weight of each token, (B, T), or of each completion, (B, 1), in the loss.

        Args:
            learned_BT: The learner's log-probability of each token, detached.
            sampled_BT: The sampler's; NaN where it has none, which counts as no difference.
            mask_BT: 1 for tokens in the loss.
        """
        counted_BT = mask_BT.bool()
        difference_BT = learned_BT - sampled_BT
        self._differences.append(difference_BT[counted_BT & ~difference_BT.isnan()].abs())
        difference_BT = (difference_BT * mask_BT).nan_to_num(nan=0.0)
        whole = self.mode.startswith("sequence")
        ratio = (difference_BT.sum(1, keepdim=True) if whole else difference_BT).exp()
        ratio = self._bounded(ratio)
        self._ratios.append(ratio.flatten() if whole else ratio[counted_BT])
        return ratio

    def metrics(self, gather: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The step's gap in nats a token and its weights, under TRL's names; then forgets them.

        Args:
            gather: Puts the values of all processes into one tensor (accelerate's).
        """
        differences, ratios = torch.cat(self._differences), torch.cat(self._ratios)
        self._differences.clear()
        self._ratios.clear()
        none = torch.zeros(1, device=ratios.device)
        differences = differences if differences.numel() else none
        ratios = ratios if ratios.numel() else none
        return {
            f"{DIFFERENCE}/mean": gather(differences.mean()).mean().item(),
            f"{DIFFERENCE}/max": gather(differences.max()).max().item(),
            f"{_RATIO}/min": gather(ratios.min()).min().item(),
            f"{_RATIO}/mean": gather(ratios.mean()).mean().item(),
            f"{_RATIO}/max": gather(ratios.max()).max().item(),
        }

    def _bounded(self, ratio: Tensor) -> Tensor:
        if self.mode.endswith("truncate"):
            return ratio.clamp(self.least, self.most)
        least = -math.inf if self.least is None else self.least
        most = math.inf if self.most is None else self.most
        return ratio.masked_fill((ratio < least) | (ratio > most), 0.0)
