"""Which tasks a run trains on and which it keeps for evaluation, all derived from seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from taskgym.agents.chat import Renderer
from taskgym.agents.episode import Start, TextEnv
from taskgym.agents.seeds import derive_seed
from taskgym.envs import ChatEnv, DataError, SingleTurnEnv
from taskgym.training.errors import ConfigError

_HELD_OUT = 20_250_101  # one fixed choice, so that runs with other seeds are scored on equal tasks


class TaskPlan:
    """The tasks of a run.

    Envs with a list of tasks are visited row by row, each epoch in a new order, and some rows are
    held out: of those that the env says are for evaluation alone, or of all. Other envs draw their
    tasks from the seed, and evaluation has seeds of its own.
    """

    def __init__(self, make_env: Callable[[], TextEnv], seed: int, held_out: int):
        self.make_env = make_env
        self.seed = seed
        self.held_out = held_out
        env = _chat_env(make_env())
        self.env = env
        self._indices = range(len(env.tasks)) if isinstance(env, SingleTurnEnv) else None
        self._train, self._evaluation = self._split()
        if self._indices is not None:
            self.held_out = min(held_out, len(self._evaluation))
        self._order = lru_cache(maxsize=2)(self._shuffled)

    @property
    def trains(self) -> bool:
        """Whether there is anything to train on."""
        return self._indices is None or bool(self._train)

    @property
    def pictures(self) -> int:
        """How many pictures the first observation shows; as many as every one does."""
        if isinstance(self.env, SingleTurnEnv):
            messages = self.env.prompt(self.env.tasks[0])
        else:
            messages, _ = self.env.reset(seed=0)
        contents = [m["content"] for m in messages if isinstance(m["content"], list)]
        return sum(part["type"] == "image" for content in contents for part in content)

    def keep_short(self, renderer: Renderer, quantile: float) -> None:
        """Leaves out the training tasks whose prompt is longer than this quantile of all prompts.

        The bound is `int(np.quantile(lengths, quantile))` tokens, as in the Qwen3-4B notebook.
        """
        if quantile == 1.0 or not isinstance(self.env, SingleTurnEnv):
            return
        tasks = self.env.tasks
        lengths = {i: len(renderer.opening(self.env.prompt(tasks[i]))) for i in self._train}
        longest = int(np.quantile(list(lengths.values()), quantile))
        self._train = [i for i in self._train if lengths[i] <= longest]

    def held_out_questions(self) -> set[str]:
        """What the held-out tasks ask, so that nothing else trains on them either."""
        if not isinstance(self.env, SingleTurnEnv):
            return set()
        return {self.env.tasks[index].question for index in self._evaluation}

    def training_order(self) -> list[int]:
        """The indices of the training tasks, in the order of the first epoch."""
        return [self._train[i] for i in self._order(0)]

    def training_start(self, groups: int, step: int, group: int, attempt: int) -> tuple[int, Any]:
        """Seed and task index of a group.

        Args:
            groups: Groups of one step.
            step: The step, counted from 0.
            group: Its position in the step.
            attempt: 0 for the first group at this position, then its replacements.
        """
        seed = derive_seed(self.seed, "train", step, group, attempt)
        if self._indices is None:
            return seed, None
        epoch, place = divmod(step * groups + group, len(self._train))
        if attempt > 0:  # another task than the one it replaces, unless there is only one
            place = (place + 1 + seed % max(len(self._train) - 1, 1)) % len(self._train)
        return seed, self._train[self._order(epoch)[place]]

    def evaluation_starts(self, samples: int) -> list[Start]:
        """The held-out tasks, each `samples` times, task by task."""
        seeds = [derive_seed("held-out", i) for i in range(self.held_out)]
        return [
            Start(seeds[i], self._evaluation[i], derive_seed(self.seed, "evaluate", i, k), i, k)
            for i in range(self.held_out)
            for k in range(samples)
        ]

    def _split(self) -> tuple[list[int], Sequence[Any]]:
        if self._indices is None:
            return [], [None] * self.held_out
        assert isinstance(self.env, SingleTurnEnv)
        order = np.random.default_rng(_HELD_OUT).permutation(len(self._indices)).tolist()
        apart = {i for i, task in enumerate(self.env.tasks) if self.env.kept_for_evaluation(task)}
        if apart:
            wanted = [i for i in order if i in apart][: self.held_out]
            return [i for i in self._indices if i not in apart], wanted
        return sorted(order[self.held_out :]), order[: self.held_out]

    def _shuffled(self, epoch: int) -> list[int]:
        rng = np.random.default_rng(derive_seed(self.seed, "epoch", epoch))
        return list(rng.permutation(len(self._train)).tolist())


def env_factory(env_id: str, kwargs: dict[str, Any]) -> Callable[[], TextEnv]:
    """Makes the env again and again; a first call shows whether the id and kwargs fit.

    Raises:
        ConfigError: The kwargs do not fit the env.
        gymnasium.error.Error: No such env; the message names the nearest.
    """

    def make() -> TextEnv:
        try:
            env: TextEnv = gym.make(env_id, disable_env_checker=True, **kwargs)
        except DataError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{env_id} does not take these arguments: {error}") from error
        except ModuleNotFoundError as error:
            raise ConfigError(f"cannot import the env's module: {error}") from error
        return env

    return make


def _chat_env(env: TextEnv) -> ChatEnv:
    if not isinstance(env.unwrapped, ChatEnv):
        raise ConfigError(
            f"{env.spec.id if env.spec else env} is no chat env: its class must derive from "
            "taskgym.envs.SingleTurnEnv or MultiTurnEnv"
        )
    return env.unwrapped
