"""Where a process's memory was highest, by torch's allocator, and at which micro-batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from grpo_gpu_engine import GIB


class Peaks:
    """Notes the highest point while vLLM writes, in each loss, and from there to what comes next.

    Attributes:
        highest: `gib` allocated; `place` it was reached at; of the micro-batch `rows`, `tokens` and
            those of its `longest` row; `rest_gib` that were allocated before its forward pass.
        reserved: GiB at most.
    """

    def __init__(self) -> None:
        self._batch: dict[str, float] = {}
        self.highest: dict[str, Any] = {"gib": 0.0}
        self.reserved = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watches whatever engine and trainer this process uses meanwhile; needs CUDA."""
        import trl
        from vllm import LLMEngine

        step, compute = LLMEngine.step, trl.GRPOTrainer.compute_loss

        @wraps(step)
        def stepped(engine: Any) -> Any:
            self._between()
            found = step(engine)
            self.note("vLLM")
            return found

        @wraps(compute)  # Unsloth's is looked up by what is wrapped
        def computed(trainer: Any, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            self._between()
            self._begin(inputs)
            found = compute(trainer, model, inputs, *rest, **named)
            self.note("a forward pass")
            return found

        LLMEngine.step, trl.GRPOTrainer.compute_loss = stepped, computed
        try:
            yield
        finally:
            LLMEngine.step, trl.GRPOTrainer.compute_loss = step, compute

    def _between(self) -> None:
        self.note("a backward pass" if self._batch else "between steps")
        self._batch = {}

    def _begin(self, inputs: Any) -> None:
        """A micro-batch's turn; masks (B, P) and (B, T)."""
        import torch

        tokens_B = inputs["prompt_mask"].sum(1) + inputs["completion_mask"].sum(1)
        self._batch = {
            "rows": len(tokens_B),
            "tokens": int(tokens_B.sum()),
            "longest": int(tokens_B.max()),
            "rest_gib": torch.cuda.memory_allocated() / GIB,
        }

    def note(self, place: str) -> None:
        """What was highest since the last note was reached here."""
        import torch

        gib = torch.cuda.max_memory_allocated() / GIB
        self.reserved = max(self.reserved, torch.cuda.max_memory_reserved() / GIB)
        torch.cuda.reset_peak_memory_stats()
        if gib > self.highest["gib"]:
            self.highest = {"gib": gib, "place": place, **self._batch}
