"""How a run shares a GPU's memory: micro-batch, vLLM's share and sleep, or that it cannot fit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from taskgym.training.memory.sizes import Sizes

GIB = 2**30
CONTEXT = 0.7 * GIB  # CUDA's own, the kernels of torch, and cuBLAS's room to work in
SLACK = 0.05  # what torch's allocator reserves over what is in use, since not every gap is filled
SPARE = 0.05  # of the card, for what the plan does not know
ENGINE = 2.0 * GIB  # vLLM's activations, its logits and its CUDA graphs
ASLEEP = 1.0 * GIB  # of those, what a sleeping engine keeps
# Tokens of a micro-batch: more take memory and make no pass faster, since the GPU has enough to do.
# What it has to do for a token goes by the weights: a model of 100M needs four times as many.
ENOUGH_TOKENS, MOST_TOKENS = 16_384, 65_536
ENOUGH_WORK = ENOUGH_TOKENS * GIB  # tokens x bytes of the weights
MOST_ROWS = 256  # that the learner's own model decodes together
CHOOSING = 6 * 4  # bytes an entry of the vocabulary takes while a row's token is chosen

Parts = dict[str, float]
VLLM_WEIGHTS, VLLM_WORK, VLLM_CACHE = "vLLM's weights", "vLLM's activations, graphs", "vLLM's cache"


@dataclass(frozen=True)
class Demand:
    """What a run asks of the memory; 0 and None where the plan may choose.

    Attributes:
        completions: Of one step.
        prompt: Tokens of the longest prompt.
        completion: Tokens of the longest completion.
        context: Tokens that vLLM must have room for at once, or it does not start.
        engine: Where vLLM's weights on this card are: its own, the learner's (`shared`, Unsloth),
            or `none`; then `decodes` says whether the learner's own model writes.
        decodes: See there.
        decode_rows: Completions that it writes together, as stated.
        eight_bit: Whether the optimiser keeps 8-bit states.
        reference: Whether a second adapter is kept for the KL term.
        micro_batch: As stated.
        share: Of the card for vLLM, as stated.
        standby: As stated.
    """

    completions: int
    prompt: int
    completion: int
    context: int
    engine: Literal["none", "own", "shared"] = "none"
    decodes: bool = False
    decode_rows: int = 0
    eight_bit: bool = False
    reference: bool = False
    micro_batch: int = 0
    share: float = 0.0
    standby: bool | None = None

    @property
    def length(self) -> int:
        """Tokens of a prompt and its completion."""
        return self.prompt + self.completion

    @property
    def rows(self) -> tuple[int, ...]:
        """The micro-batches that come into question, the largest first."""
        if self.micro_batch:
            return (min(self.micro_batch, self.completions),)
        return tuple(
            n for n in divisors(self.completions) if n == 1 or n * self.length <= MOST_TOKENS
        )

    def worth(self, sizes: Sizes) -> list[int]:
        """Those whose passes are not larger than it takes to keep the GPU busy."""
        enough = max(ENOUGH_TOKENS, ENOUGH_WORK / sizes.weights)
        small = [n for n in self.rows if n == 1 or n * self.length <= enough]
        return [n for n in small or self.rows if n in sizes.peaks]


@dataclass(frozen=True)
class Plan:
    """One way to share a card. All sizes are bytes.

    Attributes:
        sizes: Of the model.
        demand: Of the run.
        card: Memory of the card.
        micro_batch: Completions of one pass.
        standby: Whether vLLM sleeps while the learner computes.
        spare: Share of the card that stays free.
    """

    sizes: Sizes
    demand: Demand
    card: float
    micro_batch: int
    standby: bool
    spare: float = 0.0

    @property
    def room(self) -> float:
        """What may be taken of the card."""
        return self.card * (1 - self.spare)

    @cached_property
    def resting(self) -> Parts:
        """What the learner holds all the time."""
        sizes, demand = self.sizes, self.demand
        state = 1.0 if demand.eight_bit else sizes.adapter / sizes.trained
        return {
            "CUDA and kernels": CONTEXT,
            "weights": 0.0 if demand.engine == "shared" else sizes.weights,
            "adapter": sizes.adapter * (2 if demand.reference else 1),
            "optimiser": 2 * state * sizes.trained,
        }

    @cached_property
    def learning(self) -> Parts:
        """What it holds when it takes most."""
        peak = float(max(self.sizes.peaks[self.micro_batch][0], self.sizes.warmup))
        parts = {**self.resting, "gradients": self.sizes.adapter, "activations": peak}
        return {**parts, "allocator's gaps": SLACK * (sum(parts.values()) - CONTEXT)}

    @cached_property
    def while_learning(self) -> Parts:
        """All that is on the card when the learner takes most."""
        if self.demand.engine == "none":
            return self.learning
        if not self.standby:
            return {**self.learning, **self._engine}
        kept = self.sizes.weights if self.demand.engine == "shared" else 0.0
        return {**self.learning, VLLM_WEIGHTS: kept, VLLM_WORK: ASLEEP}

    @cached_property
    def while_writing(self) -> Parts:
        """All that is on the card when completions are written."""
        if self.demand.engine != "none":
            return {**self.resting, **self._engine}
        if not self.demand.decodes:
            return self.resting
        merged = {"weights with the adapter in": self.sizes.merged}
        return {**self.resting, **merged, "cache and choice": self.decode_rows * self._row}

    @property
    def decode_rows(self) -> int:
        """Completions that the learner's own model writes together."""
        if self.demand.decode_rows:
            return self.demand.decode_rows
        left = self.room - sum(self.resting.values()) - self.sizes.merged
        return min(MOST_ROWS, self.demand.completions, int(left / self._row))

    @property
    def cache(self) -> float:
        """Of vLLM: as stated, or for all completions of a step at their full length at most."""
        used = self.sizes.weights + ENGINE
        if self.demand.share:
            return self.demand.share * self.card - used
        learner = self.resting if self.standby else self.learning
        most = max(self.demand.completions * self.demand.length, self.demand.context)
        return min(self.room - sum(learner.values()) - used, most * self.sizes.token)

    @property
    def share(self) -> float:
        """Of the card for vLLM; 0 without."""
        if self.demand.engine == "none":
            return 0.0
        return self.demand.share or sum(self._engine.values()) / self.card

    def fits(self, completions: int = 0) -> bool:
        """Whether the card is never too small.

        Args:
            completions: So many shall fit whole into vLLM's cache, instead of what it starts with.
        """
        sums = sum(self.while_learning.values()), sum(self.while_writing.values())
        if max(sums) > self.room + 1:  # a byte, for rounding
            return False
        if self.demand.engine == "none":
            return not self.demand.decodes or self.decode_rows > 0
        tokens = max(completions * self.demand.length, self.demand.context)
        return self.cache + 1 >= tokens * self.sizes.token

    @property
    def _engine(self) -> Parts:
        return {VLLM_WEIGHTS: self.sizes.weights, VLLM_WORK: ENGINE, VLLM_CACHE: self.cache}

    @property
    def _row(self) -> float:
        return self.demand.length * self.sizes.token + self.sizes.vocabulary * CHOOSING


def choose(sizes: Sizes, demand: Demand, card: float, spare: float = SPARE) -> Plan | None:
    """The plan that a run shall take, None if it cannot fit.

    vLLM stays awake if the learner leaves it a cache for all completions of a step; it sleeps if
    that makes room for them; and only then writes fewer at a time. In each case the micro-batch is
    the largest that fits.
    """
    sleeps = [False, True] if demand.standby is None else [demand.standby]
    if demand.engine == "none":
        sleeps = [False]
    for completions in (demand.completions, 0):
        for standby in sleeps:
            for rows in demand.worth(sizes):
                plan = Plan(sizes, demand, card, rows, standby, spare)
                if plan.fits(completions):
                    return plan
    return None


def divisors(number: int) -> list[int]:
    """The largest first."""
    return [n for n in range(number, 0, -1) if number % n == 0]
