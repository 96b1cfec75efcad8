"""Brings the learner's adapter to the sampler, and makes sure each time that it arrived."""

from __future__ import annotations

import time

from taskgym.agents.adapter import Adapter
from taskgym.agents.policy import Apart, Policy
from taskgym.training.canary import Canary
from taskgym.training.models import Loaded


class Sync:
    """Called before completions are asked for; only the LoRA tensors travel, never the base.

    A policy that shares the learner's weights is told the version and nothing else.
    """

    def __init__(self, policy: Policy | Apart, loaded: Loaded):
        self._policy = policy
        self._model = loaded.model
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
            `seconds/sync`, and for a sampler apart `seconds/canary` and `sampling/canary_gap`.

        Raises:
            SyncError: Sampler and learner do not agree on the canary's text.
        """
        began = time.perf_counter()
        if not isinstance(self._policy, Apart):
            self._policy.load_adapter(None, version)
            return {"seconds/sync": time.perf_counter() - began}
        self._policy.load_adapter(Adapter.of(self._model), version)
        synced = time.perf_counter()
        assert self._canary is not None
        gap = self._canary.check(self._policy)
        return {
            "seconds/sync": synced - began,
            "seconds/canary": time.perf_counter() - synced,
            "sampling/canary_gap": gap,
        }
