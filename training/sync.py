"""Brings the learner's adapter to the sampler, and makes sure again and again that it arrived."""

from __future__ import annotations

import time

from taskgym.agents.adapter import Adapter
from taskgym.agents.policy import Apart, Policy, Replicated
from taskgym.training.canary import Canary, SyncError
from taskgym.training.models import Loaded
from taskgym.training.ranks import Ranks

_EVERY = 8  # syncs from one canary to the next, beside an engine of this process
_EQUAL = 1e-3  # of the norm of a tensor; averaged gradients keep all processes alike to the bit


class Sync:
    """Called before completions are asked for; only the LoRA tensors travel, never the base.

    A policy that shares the learner's weights is told the version and nothing else.
    """

    def __init__(self, policy: Policy | Apart, loaded: Loaded, ranks: Ranks | None = None):
        self._policy = policy
        self._ranks = ranks or Ranks()
        self._model = loaded.model
        self._syncs = 0
        self._canary: Canary | None = None
        if isinstance(policy, Apart):
            self._canary = Canary(loaded.model, loaded.tokenizer)
            self._canary.calibrate(policy)

    @property
    def noise(self) -> float:
        """What a sampler apart differs by with the same adapter, in nats a token."""
        return self._canary.noise if self._canary else 0.0

    def __call__(self, version: int) -> dict[str, float]:
        """The sampler writes with the learner's adapter as it is now.

        Args:
            version: What its completions carry: the optimiser steps that the adapter has seen.

        Returns:
            `seconds/sync`, where the canary was looked at `seconds/canary` and
            `sampling/canary_gap`, and for a sampler of servers `sampling/servers`, how many hold
            the adapter.

        Raises:
            SyncError: Sampler and learner do not agree on the canary's text, or learners on the
                adapter.
        """
        began = time.perf_counter()
        apart = isinstance(self._policy, Apart)
        adapter = Adapter.of(self._model) if apart or self._ranks.size > 1 else None
        if adapter is not None and self._ranks.size > 1:
            check_equal(adapter, self._ranks)
        if not isinstance(self._policy, Apart):
            self._policy.load_adapter(None, version)
            return {"seconds/sync": time.perf_counter() - began}
        self._policy.load_adapter(adapter, version)
        metrics = {"seconds/sync": time.perf_counter() - began}
        # A server may have been started anew since; an engine of this process was not.
        if isinstance(self._policy, Replicated) or self._syncs % _EVERY == 0:
            metrics |= self._checked(self._policy)
        self._syncs += 1
        if isinstance(self._policy, Replicated):
            metrics["sampling/servers"] = float(len(self._policy.up))
        return metrics

    def _checked(self, policy: Apart) -> dict[str, float]:
        assert self._canary is not None
        began = time.perf_counter()
        gap = self._canary.check(policy)
        return {"seconds/canary": time.perf_counter() - began, "sampling/canary_gap": gap}


def check_equal(adapter: Adapter, ranks: Ranks) -> None:
    """Whether all processes of a run hold the same adapter, by the norms of its tensors.

    Raises:
        SyncError: They do not: their gradients were not averaged, or one has started elsewhere.
    """
    import torch

    norms = ranks.gather(torch.stack([t.float().norm() for t in adapter.tensors.values()]).cpu())
    for rank, other in enumerate(norms):
        if not torch.allclose(other, norms[0], rtol=_EQUAL, atol=_EQUAL, equal_nan=True):
            raise SyncError(
                f"the adapter of process {rank} is not that of process 0: tensors differ by up to "
                f"{(other - norms[0]).abs().max():.2e} in norm"
            )
