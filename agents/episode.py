"""One episode: an env and the conversation with it, turn by turn, and the trajectory it leaves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from taskgym.agents.chat import Renderer
from taskgym.agents.policy import Completion, Request, Sampling
from taskgym.agents.seeds import derive_seed
from taskgym.agents.vision import Seen
from taskgym.envs import ChatEnv, MachineryError, Messages, Stop

TextEnv = gym.Env[Messages, str]

_TURN_BITS = 20  # a request id is the episode's number and, in its low bits, the turn


@dataclass(frozen=True, slots=True)
class Start:
    """Where an episode starts: equal starts are equal tasks.

    Attributes:
        seed: For `reset(seed=)`.
        index: For `reset(options={"index": i})`; None lets the seed choose.
        sample_seed: From which the sampling seeds of the episode's turns are derived.
        group: The group it belongs to.
        member: Its place in the group.
    """

    seed: int
    index: int | None
    sample_seed: int
    group: int = 0
    member: int = 0


@dataclass(slots=True)
class Trajectory:
    """One episode as data.

    Attributes:
        start: How to replay it.
        start_hash: Of the first observation: equal across a group.
        messages: Everything said, the policy's turns as assistant messages.
        prompt_ids: The first prompt.
        seen: The pictures of the first prompt, None if it has none.
        completion_ids: All that followed: sampled tokens and, between turns, the env's.
        mask: 1 where the policy sampled the token, 0 where the env gave it; as long as
            completion_ids.
        logprobs: The sampler's; 0.0 under mask 0; as long as completion_ids.
        versions: The adapter version of each turn.
        rewards: Components, summed over the steps.
        reward: What GRPO sees.
        stop: Why it ended.
        success: Whether the task was solved; never true of a truncated completion.
        truncated: Whether a limit ended it.
        error: What failed of ours, if anything did; the trajectory then has no reward.
        info: What else the env's last info says (task_id, verdict, ...).
    """

    start: Start
    start_hash: str = ""
    messages: Messages = field(default_factory=list)
    prompt_ids: tuple[int, ...] = ()
    seen: Seen | None = None
    completion_ids: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    rewards: dict[str, float] = field(default_factory=dict)
    reward: float = 0.0
    stop: Stop = Stop.RUNNING
    success: bool = False
    truncated: bool = False
    error: str | None = None
    info: dict[str, Any] = field(default_factory=dict)


class Episode:
    """Drives one env through one episode; knows tokens, not where completions come from."""

    def __init__(
        self,
        number: int,
        env: TextEnv,
        start: Start,
        sampling: Sampling,
        renderer: Renderer | None = None,
    ):
        self.env = env
        self._number = number
        self.trajectory = Trajectory(start)
        self._sampling = sampling
        self._renderer = renderer

    @property
    def chat_env(self) -> ChatEnv:
        """The env without Gymnasium's wrappers."""
        env = self.env.unwrapped
        assert isinstance(env, ChatEnv)
        return env

    def begin(self) -> Request | None:
        """Resets the env and asks for the first completion; None if our machinery failed."""
        start, t = self.trajectory.start, self.trajectory
        options = {} if start.index is None else {"index": start.index}
        try:
            observation, _ = self.env.reset(seed=start.seed, options=options)
        except MachineryError as failure:
            self._fail(failure)
            return None
        t.start_hash, t.messages = _hash(observation), list(observation)
        if self._renderer is not None:
            t.prompt_ids = self._renderer.opening(observation)
            t.seen = self._renderer.seen(observation)
        return self._request()

    def advance(self, completion: Completion) -> Request | None:
        """Gives a completion to the env; the next request, or None when the episode is over.

        A `MachineryError` ends the episode without a reward; any other exception is a bug of the
        env and is raised.
        """
        self._record(completion)
        try:
            observation, reward, terminated, truncated, info = self.env.step(completion.text)
        except MachineryError as failure:
            self._fail(failure)
            return None
        self._score(float(reward), info)
        if not (terminated or truncated) and completion.finish == "stop":
            self._hear(observation, completion)
            return self._request()
        self._end(info, truncated, cut=completion.finish == "length")
        return None

    def _request(self) -> Request:
        t = self.trajectory
        turn = len(t.versions)
        seed = derive_seed(t.start.sample_seed, turn)
        prompt = (*t.prompt_ids, *t.completion_ids)
        number = self._number << _TURN_BITS | turn
        return Request(number, prompt, seed, self._sampling, self, t.seen)

    def _record(self, completion: Completion) -> None:
        t = self.trajectory
        t.messages.append({"role": "assistant", "content": completion.text})
        t.completion_ids += completion.ids
        t.logprobs += completion.logprobs
        t.mask += [1] * len(completion.ids)
        t.versions.append(completion.adapter_version)

    def _hear(self, observation: Messages, completion: Completion) -> None:
        t = self.trajectory
        t.messages += observation
        if self._renderer is not None:
            ids = self._renderer.continuation(observation, completion.ids)
            t.completion_ids += ids
            t.logprobs += [0.0] * len(ids)
            t.mask += [0] * len(ids)

    def _score(self, reward: float, info: dict[str, Any]) -> None:
        t = self.trajectory
        t.rewards = _added(t.rewards, info["rewards"])
        t.reward += reward

    def _end(self, info: dict[str, Any], truncated: bool, cut: bool) -> None:
        t = self.trajectory
        t.truncated = truncated or cut
        t.stop = Stop.LENGTH if cut else Stop(info["stop"])
        t.success = bool(info["success"]) and not t.truncated
        t.info = {k: v for k, v in info.items() if k not in ("rewards", "stop", "success")}

    def _fail(self, failure: MachineryError) -> None:
        self.trajectory.stop = Stop.ERROR
        self.trajectory.error = f"{type(failure).__name__}: {failure}"


def _added(total: dict[str, float], new: dict[str, float]) -> dict[str, float]:
    return total | {name: total.get(name, 0.0) + value for name, value in new.items()}


def _hash(observation: Messages) -> str:
    """Equal for equal observations; images count by their pixels, not by their address."""
    digest = hashlib.blake2b(digest_size=8)
    for message in observation:
        content = message["content"]
        for part in content if isinstance(content, list) else [content]:
            pixels = part["image"].tobytes() if isinstance(part, dict) and "image" in part else b""
            shown = part if not pixels else part["type"]
            digest.update(repr((message["role"], shown)).encode("utf-8", "surrogatepass") + pixels)
    return digest.hexdigest()
