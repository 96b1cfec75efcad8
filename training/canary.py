"""The sync canary: one fixed text must be as likely to the sampler as to the learner."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from taskgym.agents.adapter import Adapter
from taskgym.agents.policy import Apart, Replicated, mean_gap
from taskgym.envs import TaskgymError

# Words, digits, symbols and code, so that every kind of token a policy writes is looked at.
TEXT = (
    "The answer is 42, because 6 x 7 = 42. First, let x be the number of apples; then 3x + 5 = 20 "
    "and so x = 5.\n\n```python\ndef strategy(board):\n    return 'W' if board[0][0] else 'A'\n"
    "```\nHence the result is \\boxed{\\frac{1}{2}}. Thank you, and good luck!"
)
_MOST_TOKENS = 96
_SLACK = 4.0  # how many times the noise measured at the start a later gap may be
# Nats a token. Float32 kernels differ by about 1e-5, bfloat16 by 1e-2, and experts by 1e-1 where a
# router's choice between two of them is close.
_LEAST_NOISE = 5e-4
_LOUD = 0.25  # nats a token by which the trial adapter shall change the text, and ...
_SEEN = 8.0  # ... how many times the noise, so that one that does not arrive is seen
_MOST_DOUBLINGS = 12  # a very small model may never change that much


class SyncError(TaskgymError, RuntimeError):
    """The sampler does not hold what the learner learned: what it writes is another policy's."""


@dataclass(frozen=True)
class _Said:
    """What one engine of a sampler makes of the text."""

    by: str
    logprobs: list[float]


class Canary:
    """Compares the log-probabilities of a fixed text in learner and sampler.

    The gap is the mean absolute difference in nats a token. Its tolerance is measured at the start
    with a trial adapter that changes the text a lot: that also shows at once, and not after a
    hundred steps, when adapters do not reach the sampler or are scaled otherwise there.

    Args:
        model: The learner's peft model, adapter "default" active.
        tokenizer: Its tokenizer.

    Attributes:
        noise: The gap with the same adapter on both sides, as `calibrate` measured it.
    """

    def __init__(self, model: Any, tokenizer: Any):
        self._model = model
        self._ids: list[int] = tokenizer.encode(TEXT, add_special_tokens=False)[:_MOST_TOKENS]
        self._before: list[float] | None = None
        self.noise = _LEAST_NOISE

    @property
    def tolerance(self) -> float:
        """The largest gap that is no fault, in nats a token."""
        return _SLACK * self.noise

    def calibrate(self, policy: Apart) -> None:
        """Measures the tolerance with a trial adapter; the learner's own is put back after.

        Raises:
            SyncError: The sampler does not answer as the learner does with the same adapter.
        """
        base = self._plain()
        policy.load_adapter(None, policy.version)
        plain, _ = self._worst(policy, base)
        noise = max(_LEAST_NOISE, plain)
        with _trial_adapter(self._model) as louder:
            learned = self._loud(louder, base, noise)
            policy.load_adapter(Adapter.of(self._model), policy.version)
        gap, worst = self._worst(policy, learned)
        effect = mean_gap(learned, base)
        most = effect / (_SEEN / 2)
        if not (plain <= most and gap <= most):  # NaN too
            raise SyncError(
                f"{worst.by} and learner part before training: {plain:.4f} nats a token without an "
                f"adapter, {gap:.4f} with a trial adapter that changes the text by {effect:.4f}; "
                + self._cause(worst, base)
            )
        policy.load_adapter(None, policy.version)
        self.noise = max(noise, gap)

    def check(self, policy: Apart) -> float:
        """The gap now, after a sync.

        Raises:
            SyncError: It is above the tolerance; the message names the likely cause.
        """
        learned = self._learned()
        gap, worst = self._worst(policy, learned)
        if not gap <= self.tolerance:  # NaN too
            raise SyncError(
                f"{worst.by} and learner have parted: {gap:.4f} nats a token, tolerance "
                f"{self.tolerance:.4f}; {self._cause(worst, self._plain())}"
            )
        self._before = learned
        if isinstance(policy, Replicated):
            policy.expect(self._ids, learned, self.tolerance)
        return gap

    def _worst(self, policy: Apart, learned: list[float]) -> tuple[float, _Said]:
        """What the engine of a policy says that is farthest from the learner, and how far."""
        if isinstance(policy, Replicated):
            every = [_Said(f"sampler {name}", s) for name, s in policy.scores(self._ids).items()]
        else:
            every = [_Said("sampler", policy.score(self._ids))]
        gaps = [(mean_gap(said.logprobs, learned), said) for said in every]
        return max(gaps, key=lambda each: math.inf if math.isnan(each[0]) else each[0])

    def _learned(self) -> list[float]:
        return _logprobs(self._model, self._ids)

    def _plain(self) -> list[float]:
        with self._model.disable_adapter():
            return self._learned()

    def _loud(self, louder: Callable[[], None], base: list[float], noise: float) -> list[float]:
        """What the learner makes of the text once the trial adapter is strong enough to be seen."""
        learned = self._learned()
        for _ in range(_MOST_DOUBLINGS):
            if mean_gap(learned, base) >= max(_LOUD, _SEEN * noise):
                break
            louder()
            learned = self._learned()
        if mean_gap(learned, base) < _SEEN * _LEAST_NOISE:
            raise SyncError("the learner's adapter changes nothing, however large: is it active?")
        return learned

    def _cause(self, worst: _Said, base: list[float]) -> str:
        """What the sampler's answer is closest to, in words."""
        said, before = worst.logprobs, self._before
        if mean_gap(said, base) <= self.tolerance:
            return "the sampler answers as the base model: the adapter is not applied"
        if before is not None and mean_gap(said, before) <= self.tolerance:
            return "the sampler answers as it did at the last check: the adapter was not replaced"
        return (
            "its base weights are others (dropped by a sleep, or another model), or its adapter is "
            "one of before"
        )


def _logprobs(model: Any, ids: Sequence[int]) -> list[float]:
    """The log-probability of each token after the first, at temperature 1."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            inputs = torch.tensor([list(ids)], device=model.device)
            logits_TV = model(input_ids=inputs, use_cache=False).logits[0, :-1].float()
    finally:
        model.train(training)
    logprobs_TV = logits_TV.log_softmax(-1)
    found: list[float] = logprobs_TV.gather(1, inputs[0, 1:, None])[:, 0].tolist()
    return found


@contextmanager
def _trial_adapter(model: Any) -> Iterator[Callable[[], None]]:
    """Fills the adapter's B matrices with seeded noise; each call of what it yields doubles it."""
    import torch

    weights = [p for name, p in model.named_parameters() if "lora_B.default" in name]
    kept = [weight.detach().clone() for weight in weights]
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in weights:
            weight.copy_(torch.randn(weight.shape, generator=noise) * 1e-3)

    def louder() -> None:
        for weight in weights:
            weight.data.mul_(2)

    try:
        yield louder
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, kept, strict=True):
                weight.copy_(value)
