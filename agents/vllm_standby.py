"""A vLLM engine that gives its GPU memory to the learner while it has nothing to write."""

from __future__ import annotations

from collections.abc import Sequence

from taskgym.agents.adapter import Adapter
from taskgym.agents.policy import Request
from taskgym.agents.vllm_policy import VllmPolicy

# vLLM's sleep level: the cache is dropped, the weights are moved to main memory. Where they are the
# learner's too (Unsloth), they stay as they are.
_KEEP_WEIGHTS = 1


class StandbyPolicy(VllmPolicy):
    """Wakes its engine when something is asked of it and lets it sleep when told to.

    An engine that was started without sleep mode never sleeps, and this is a `VllmPolicy`.
    """

    def submit(self, request: Request) -> None:
        """Wakes the engine and takes a request."""
        self._wake()
        super().submit(request)

    def load_adapter(self, adapter: Adapter | None, version: int) -> None:
        """Wakes the engine and writes with this adapter from now on."""
        self._wake()
        super().load_adapter(adapter, version)

    def score(self, ids: Sequence[int]) -> list[float]:
        """Wakes the engine and scores."""
        self._wake()
        return super().score(ids)

    def rest(self) -> None:
        """Frees the cache, and weights of its own, until the next request."""
        if self._engine.model_config.enable_sleep_mode:
            self._engine.sleep(_KEEP_WEIGHTS)

    def _wake(self) -> None:
        if self._engine.model_config.enable_sleep_mode and self._engine.is_sleeping():
            import torch

            torch.cuda.empty_cache()  # what the learner has freed: the engine asks the driver
            self._engine.wake_up()
