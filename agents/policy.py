"""What a policy is: requests go in, completions come out, token for token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from taskgym.agents.adapter import Adapter

if TYPE_CHECKING:
    from taskgym.agents.episode import Episode
    from taskgym.agents.vision import Seen

Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn. The names and meanings are vLLM's.

    The order is temperature, then min_p, top_k and top_p; each keeps at least the most likely
    token.

    Attributes:
        max_tokens: Tokens of one completion at most.
        temperature: 0 is greedy.
        top_p: Nucleus; 1 is off.
        top_k: Most likely tokens kept; 0 is off.
        min_p: Smallest probability kept, relative to the most likely token's; 0 is off.
    """

    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        _check(self.max_tokens >= 1, "max_tokens must be at least 1", self.max_tokens)
        _check(self.temperature >= 0, "temperature must not be negative", self.temperature)
        _check(0 < self.top_p <= 1, "top_p must be in (0, 1]", self.top_p)
        _check(self.top_k >= 0, "top_k must not be negative", self.top_k)
        _check(0 <= self.min_p < 1, "min_p must be in [0, 1)", self.min_p)


@dataclass(frozen=True, slots=True)
class Request:
    """One completion asked for.

    Attributes:
        request_id: Unique in a rollout; completions come back under it, in any order.
        prompt_ids: The tokens to continue; empty for policies that read the episode instead.
        seed: Seed of this completion's sampling noise alone.
        sampling: How to draw.
        episode: The running episode, which scripted policies read.
        seen: The pictures that the prompt shows, if it shows any.
    """

    request_id: int
    prompt_ids: tuple[int, ...]
    seed: int
    sampling: Sampling
    episode: Episode
    seen: Seen | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What a policy said.

    Attributes:
        request_id: The request this answers.
        text: The action, without the stop token.
        ids: The sampled tokens, stop token included; never re-tokenised from the text.
        logprobs: Of each sampled token, under the distribution it was drawn from; as many as ids.
        finish: "stop" when the policy ended it, "length" when the token limit did.
        adapter_version: The adapter that wrote it.
    """

    request_id: int
    text: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
    adapter_version: int


class Policy(Protocol):
    """Turns requests into completions, in any order and at any time.

    `lockstep` says that `poll` answers everything submitted in one batch: the rollout then waits
    for running env steps first, so that the batch is full and the same every time.
    """

    lockstep: bool

    @property
    def version(self) -> int:
        """The version of the adapter that writes now."""

    def submit(self, request: Request) -> None:
        """Takes a request; returns at once."""

    def poll(self) -> list[Completion]:
        """Completions finished since the last call; works or waits a little if there are none."""

    def cancel(self) -> None:
        """Drops every request that is not answered yet."""

    def load_adapter(self, adapter: Adapter | None, version: int) -> None:
        """Writes with this adapter from now on.

        Args:
            adapter: None for a policy that shares the learner's own weights.
            version: What its completions carry; grows from one adapter to the next.
        """

    def close(self) -> None:
        """Gives back what the policy holds: engines, connections, processes."""


@runtime_checkable
class Apart(Protocol):
    """Weights apart from the learner's, which adapters have to be brought to."""

    @property
    def version(self) -> int:
        """The version of the adapter that writes now."""

    def load_adapter(self, adapter: Adapter | None, version: int) -> None:
        """Writes with this adapter from now on; without one, with the base model."""

    def score(self, ids: Sequence[int]) -> list[float]:
        """The log-probability of each token after the first, by the adapter that writes now.

        At temperature 1 and without truncation, whatever completions are drawn with.
        """


@runtime_checkable
class ApartPolicy(Policy, Apart, Protocol):
    """A policy with weights of its own."""


@runtime_checkable
class Replicated(Apart, Protocol):
    """Weights in several engines, which may go and come back while they write."""

    @property
    def up(self) -> list[str]:
        """The names of the engines that write now."""

    def scores(self, ids: Sequence[int]) -> dict[str, list[float]]:
        """As `score`, of every engine that writes, by its name."""

    def expect(self, ids: Sequence[int], logprobs: Sequence[float], tolerance: float) -> None:
        """Only an engine that scores `ids` so may come back while this adapter writes.

        Args:
            ids: A text.
            logprobs: The learner's, of each token after the first.
            tolerance: The largest gap, in nats a token.
        """


@runtime_checkable
class RestingPolicy(Policy, Protocol):
    """A policy that holds memory which only writing needs."""

    def rest(self) -> None:
        """Gives that memory up until something is asked of it again."""


@runtime_checkable
class OverlappingPolicy(Policy, Protocol):
    """A policy that computes in this process and can do so while a learner computes too."""

    def overlap(self) -> None:
        """Does so from now on; one thread at a time calls the policy, whichever it is."""


class LockstepPolicy(ABC):
    """A policy that collects requests and answers all of them in one batch."""

    lockstep = True

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._version = 0

    @property
    def version(self) -> int:
        """The version of the adapter that writes now."""
        return self._version

    def submit(self, request: Request) -> None:
        """Takes a request."""
        self._requests.append(request)

    def poll(self) -> list[Completion]:
        """Answers all requests, in the order they came."""
        requests, self._requests = self._requests, []
        return self._answer(requests) if requests else []

    def cancel(self) -> None:
        """Drops every request that is not answered yet."""
        self._requests.clear()

    def load_adapter(self, adapter: Adapter | None, version: int) -> None:
        """Keeps the version that completions carry; the weights are the learner's own."""
        self._version = version

    def close(self) -> None:
        """Drops what is left to do; nothing else is held."""
        self.cancel()

    @abstractmethod
    def _answer(self, requests: list[Request]) -> list[Completion]: ...


def mean_gap(some: Sequence[float], others: Sequence[float]) -> float:
    """The mean absolute difference of two scores of one text, in nats a token."""
    return sum(abs(a - b) for a, b in zip(some, others, strict=True)) / len(some)


def _check(fine: bool, wanted: str, came: object) -> None:
    if not fine:
        raise ValueError(f"{wanted}, got {came}")
