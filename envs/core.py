"""The env contract: chat observations in, text actions out, rewards by named component."""

from __future__ import annotations

import json
import threading
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
from taskgym.envs.rows import Row, Tasks, to_tasks
from taskgym.envs.rubric import Rubric, Task, check_names, finite, weighted_sum
from taskgym.envs.spaces import Action, Chat, Messages

Info = dict[str, Any]
Step = tuple[Messages, float, bool, bool, Info]


class Stop(StrEnum):
    """Why an episode ended."""

    RUNNING = "running"  # it has not
    DONE = "done"  # the task ended: answered, won or lost
    STUCK = "stuck"  # the task ended: too many actions in a row that changed nothing
    INVALID_MOVE = "invalid_move"  # the task ended: an action that is no move of the game
    TURN_LIMIT = "turn_limit"  # the env's own limit on turns
    TIME_LIMIT = "time_limit"  # the env's own limit on seconds
    LENGTH = "length"  # a completion hit its token limit (set by the agent)
    ERROR = "error"  # our machinery failed: no score (set by the agent)


class ChatEnv(gym.Env[Messages, str]):
    """What every taskgym env is: a `gymnasium.Env` whose observations are chat messages.

    On `reset` the observation is the whole prompt, on `step` only what is new (an empty list when
    nothing is). `info` always carries `rewards` (every component, unweighted), `stop` (a `Stop`)
    and `success` (whether the task was solved; what "accuracy" counts). The reward is the sum of
    weight x component. All chance comes from `self.np_random`, so one seed is one episode.

    Subclass `SingleTurnEnv` or `MultiTurnEnv`, not this.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own spelling)
    system_prompt: str | None = None
    source: ClassVar[str] = "its own rules"  # where its tasks come from, for `list_envs`
    needs: ClassVar[str] = "nothing more"  # what it asks of the machine, likewise

    def __init__(self) -> None:
        self.observation_space = Chat()
        self.action_space = Action()

    @property
    def evaluation_only(self) -> bool:
        """Whether the tasks are a published measure, so that training on them warns."""
        return False

    @property
    @abstractmethod
    def max_reward(self) -> float:
        """The reward of a perfect episode; the env's gold answers reach it."""

    @abstractmethod
    def gold_action(self) -> str:
        """The best action now; played to the end it earns `max_reward`."""

    def _messages(self, user: str | Sequence[Mapping[str, Any]]) -> Messages:
        content = user if isinstance(user, str) else [dict(part) for part in user]
        messages: Messages = [{"role": "user", "content": content}]
        if self.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        return messages


class SingleTurnEnv(ChatEnv):
    """One question, one answer, scored by a rubric.

    A whole env of a user's own:

        class ReverseText(SingleTurnEnv):
            rubric = Rubric({"correct": (correct, 1.0), "tagged": (tagged, 0.1)})

            def load(self):
                return [{"question": f"Reverse '{w}'.", "answer": w[::-1]} for w in WORDS]

        gym.register("Reverse-Text-v0", "reverse_text:ReverseText")

    `reset(options={"index": i})` picks task `i` (its position after duplicates were dropped);
    without it `self.np_random` draws one. `weights=` replaces weights of the rubric by name.
    """

    rubric: Rubric

    def __init__(self, *, weights: Mapping[str, float] | None = None):
        super().__init__()
        self.rubric = self.rubric.reweighted(weights or {})
        self._tasks: Tasks | None = None
        self._task: Task | None = None

    @abstractmethod
    def load(self) -> Sequence[Row]:
        """The rows: mappings with `question` and `answer`. Called once per process and kwargs."""

    def load_tasks(self) -> Tasks:
        """The rows as tasks; override to name their columns or to filter."""
        return to_tasks(self.load(), str(self))

    def data_version(self) -> str:
        """What decides the rows beside class and kwargs, such as the age of a file."""
        return ""

    def prompt(self, task: Task) -> Messages:
        """The messages that open the episode: the system prompt, if any, and the question."""
        return self._messages(task.question)

    def gold(self, task: Task) -> str:
        """A completion that earns `max_reward`; override where the bare answer does not."""
        return task.answer

    def gold_action(self) -> str:
        """The gold completion of the running task."""
        return self.gold(self.task)

    def solved(self, completion: str, task: Task, rewards: Mapping[str, float]) -> bool:
        """Whether the task counts as solved: by default, when nothing of the reward is missing."""
        return self.rubric.total(rewards) >= self.max_reward - 1e-9

    def kept_for_evaluation(self, task: Task) -> bool:
        """Whether a task must never be trained on, such as those of a public test set.

        An env that says so of any task is evaluated on those; otherwise some are held out.
        """
        return False

    @property
    def max_reward(self) -> float:
        """The rubric's maximum; override where components are not in [0, 1]."""
        return self.rubric.maximum

    @property
    def tasks(self) -> Tasks:
        """All tasks, loaded at first use and shared by the copies of this env in the process."""
        if self._tasks is None:
            self._tasks = _shared_tasks(self)
        return self._tasks

    @property
    def task(self) -> Task:
        """The task of the running episode."""
        if self._task is None:
            raise gym.error.ResetNeeded("call reset() before step(): there is no task yet")
        return self._task

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Messages, Info]:
        """Draws a task, or takes the one at `options["index"]`, and asks it."""
        super().reset(seed=seed)
        self._task = self.tasks[self._pick(options or {})]
        return self.prompt(self._task), self._info(self.rubric.zeros(), Stop.RUNNING, False)

    def step(self, action: str) -> Step:
        """Scores the answer; the episode is over."""
        completion = _text(action)
        rewards = self.rubric.score(completion, self.task)
        success = self.solved(completion, self.task, rewards)
        info = self._info(rewards, Stop.DONE, success)
        return [], self.rubric.total(rewards), True, False, info

    def _info(self, rewards: dict[str, float], stop: Stop, success: bool) -> Info:
        return {
            "rewards": rewards,
            "stop": stop,
            "success": success,
            "task_id": self.task.task_id,
        }

    def _pick(self, options: dict[str, Any]) -> int:
        check_names(options, {"index": None}, "reset option")
        index = options.get("index")
        if index is None:
            return int(self.np_random.integers(len(self.tasks)))
        if not 0 <= index < len(self.tasks):
            raise IndexError(f"index {index} is outside the {len(self.tasks)} tasks of this env")
        return int(index)


class Reply(NamedTuple):
    """What a multi-turn env answers to one action.

    Attributes:
        message: The next user message; not shown once `done`.
        rewards: Components earned by this action, unweighted; those left out are 0.
        done: Whether the task ended with this action.
        success: Whether it ended solved.
        stop: Why the task ended, if it did.
    """

    message: str
    rewards: Mapping[str, float]
    done: bool = False
    success: bool = False
    stop: Stop = Stop.DONE


class MultiTurnEnv(ChatEnv):
    """A conversation: `begin` asks, `respond` answers each action until something ends it.

    The rewards of an episode are the sums over its steps. Limits truncate: `max_turns` actions,
    and `max_seconds` of wall time between `reset` and an action (None: no limit).
    """

    weights: Mapping[str, float]
    max_turns: int = 10
    max_seconds: float | None = None

    def __init__(self, *, weights: Mapping[str, float] | None = None):
        super().__init__()
        check_names(weights or {}, self.weights, "reward component")
        self.weights = {**self.weights, **(weights or {})}
        self._turn: int | None = None

    @abstractmethod
    def begin(self) -> str:
        """Starts an episode, with chance from `self.np_random`, and returns the first message."""

    @abstractmethod
    def respond(self, action: str) -> Reply:
        """Plays one action."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Messages, Info]:
        """Starts a new episode."""
        super().reset(seed=seed)
        check_names(options or {}, {}, "reset option")
        self._turn, self._began = 0, time.monotonic()
        return self._messages(self.begin()), self._info({}, Stop.RUNNING, False)

    def step(self, action: str) -> Step:
        """Plays one action; truncates at the env's own limits."""
        if self._turn is None:
            raise gym.error.ResetNeeded("call reset() before step(): no episode is running")
        reply = self.respond(_text(action))
        check_names(reply.rewards, self.weights, "reward component")
        self._turn += 1
        stop = reply.stop if reply.done else self._limit()
        info = self._info(reply.rewards, stop, reply.success)
        over = stop is not Stop.RUNNING
        new: Messages = [] if over else [{"role": "user", "content": reply.message}]
        reward = weighted_sum(self.weights, info["rewards"])
        return new, reward, reply.done, over and not reply.done, info

    def _limit(self) -> Stop:
        assert self._turn is not None
        if self._turn >= self.max_turns:
            return Stop.TURN_LIMIT
        if self.max_seconds is not None and time.monotonic() - self._began >= self.max_seconds:
            return Stop.TIME_LIMIT
        return Stop.RUNNING

    def _info(self, rewards: Mapping[str, float], stop: Stop, success: bool) -> Info:
        every = {name: finite(name, rewards.get(name, 0.0)) for name in self.weights}
        return {"rewards": every, "stop": stop, "success": success}


def _text(action: str | None) -> str:
    if action is None:  # a chat message without content: the model said nothing
        return ""
    if not isinstance(action, str):
        raise TypeError(f"an action is the text of a completion, got {type(action).__name__}")
    return action


_shared: dict[tuple[type, str, str], Tasks] = {}
_shared_lock = threading.Lock()


def _shared_tasks(env: SingleTurnEnv) -> Tasks:
    """Loads an env's tasks once per class and make() kwargs; other instances load their own."""
    try:
        kwargs = json.dumps(env.spec.kwargs, sort_keys=True) if env.spec else None
    except TypeError:  # kwargs that JSON cannot name, such as a DataFrame
        kwargs = None
    if kwargs is None:
        return env.load_tasks()
    key = (type(env), kwargs, env.data_version())
    with _shared_lock:
        if key not in _shared:
            _shared[key] = env.load_tasks()
        return _shared[key]
