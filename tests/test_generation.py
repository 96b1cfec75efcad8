"""A step written ahead of its learning: which adapter writes it, and how it ends."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import pytest
from taskgym.agents.episode import Start
from taskgym.agents.policy import Completion, Request, Sampling
from taskgym.agents.rollout import Rollout
from taskgym.agents.scripted import ScriptedPolicy
from taskgym.envs import Rubric, SingleTurnEnv, Task
from taskgym.training.generation import Generation, InTurn, OneAhead


class Said(SingleTurnEnv):
    rubric = Rubric({"said": (lambda completion, task: 1.0, 1.0)})

    def load(self) -> list[dict[str, str]]:
        return [{"question": "Say yes.", "answer": "yes"}]

    def prompt(self, task: Task) -> Any:
        return [{"role": "user", "content": task.question}]


gym.register("Test-Said-v0", Said)


class Slow(ScriptedPolicy):
    """Answers one request at a time once it may; knows which threads have called it."""

    lockstep = False

    def __init__(self) -> None:
        super().__init__(lambda request: "yes")
        self.may = threading.Event()
        self.asked = threading.Event()
        self.at_once: set[int] = set()

    def poll(self) -> list[Completion]:
        self.asked.set()
        self.at_once.add(threading.get_ident())
        if not self.may.wait(0.01):
            return []
        requests, self._requests = self._requests[:1], self._requests[1:]
        return self._answer(requests)


class Steps:
    """Plays one episode a position and syncs by telling the policy the version."""

    def __init__(self, policy: ScriptedPolicy, script: Callable[[Request], str] | None = None):
        self.policy = policy
        self.rollout = Rollout(policy, lambda: gym.make("Test-Said-v0"), Sampling())
        self.log: list[str] = []

    def sync(self, version: int) -> dict[str, float]:
        self.log.append(f"sync {version}")
        self.policy.load_adapter(None, version)
        return {"seconds/sync": 1.0}

    def play(self, step: int, positions: Sequence[int]) -> Generation:
        self.log.append(f"play {step} with {self.policy.version}")
        self.rollout.start(Start(1, 0, 2, position, 0) for position in positions)
        versions = [t.versions for t in self.rollout.finished()]
        return Generation(versions, {}, 0)  # type: ignore[arg-type]

    def ahead(self, steps: int) -> OneAhead:
        return OneAhead(self.play, self.sync, self.rollout, steps)  # type: ignore[arg-type]


@pytest.fixture
def slow() -> Slow:
    return Slow()


def test_a_step_is_written_by_the_adapter_of_the_step_before_and_none_beyond_the_last(
    slow: Slow,
) -> None:
    slow.may.set()
    steps = Steps(slow)
    turns = steps.ahead(3)
    written = [turns.next(step, [0, 1])[0].groups for step in range(3)]
    assert written == [[[0], [0]], [[0], [0]], [[1], [1]]]
    turns.close()
    assert sorted(steps.log) == [
        "play 0 with 0",
        "play 1 with 0",
        "play 2 with 1",
        "sync 0",
        "sync 1",
    ]


def test_in_turn_every_step_is_written_by_the_learner_s_own_adapter(slow: Slow) -> None:
    slow.may.set()
    steps = Steps(slow)
    turns = InTurn(steps.play, steps.sync)  # type: ignore[arg-type]
    assert [turns.next(step, [0])[0].groups for step in range(2)] == [[[0]], [[1]]]


def test_what_is_ahead_is_written_while_the_learner_works_and_by_one_thread(slow: Slow) -> None:
    slow.may.set()
    steps = Steps(slow)
    turns = steps.ahead(9)
    turns.next(0, [0])
    deadline = time.monotonic() + 5
    while "play 1 with 0" not in steps.log and time.monotonic() < deadline:
        time.sleep(0.01)  # the learner's work
    assert "play 1 with 0" in steps.log
    generation, metrics = turns.next(1, [0])
    assert generation.groups == [[0]] and metrics["seconds/wait"] < 1
    turns.close()
    assert threading.get_ident() not in slow.at_once


def test_what_ends_the_thread_is_raised_by_the_step_that_waits_for_it(slow: Slow) -> None:
    slow.may.set()
    steps = Steps(slow)
    turns = steps.ahead(3)
    turns.next(0, [0])
    play = steps.play
    turns._play = lambda step, positions: play(1 // 0, positions)
    turns.next(1, [0])  # was begun before
    with pytest.raises(ZeroDivisionError):
        turns.next(2, [0])
    turns.close()


def test_closing_ends_the_thread_in_the_middle_and_leaves_nothing_asked(slow: Slow) -> None:
    steps = Steps(slow)
    turns = steps.ahead(9)
    turns._begun(0, [0, 1, 2])
    assert slow.asked.wait(5)
    began = time.monotonic()
    turns.close()
    assert time.monotonic() - began < 2
    assert not slow._requests and not [t for t in threading.enumerate() if "step" in t.name]
    slow.may.set()  # and all can be played again, by the envs that there are
    assert len(steps.play(0, [0, 1, 2]).groups) == 3 and len(steps.rollout._envs) == 3


def test_a_step_that_is_done_again_drops_what_was_ahead_of_it(slow: Slow) -> None:
    slow.may.set()
    steps = Steps(slow)
    turns = steps.ahead(9)
    turns.next(0, [0])
    assert turns._task is not None
    turns._task.join()  # whether it has ended by itself ...
    assert turns.next(0, [0])[0].groups == [[0]]
    turns._task.join()  # one thread plays at a time
    slow.may.clear()
    assert turns._begun(1, [0, 1]).is_alive()  # ... or not
    slow.may.set()
    assert turns.next(0, [0])[0].groups == [[0]]
    assert turns.next(1, [0])[0].groups == [[0]]
    turns.close()


def test_a_second_ctrl_c_reaches_a_learner_that_waits(slow: Slow) -> None:
    """`join` in the main thread is ended by a signal, so that nobody hangs on a sampler."""
    import signal

    steps = Steps(slow)
    turns = steps.ahead(9)
    main = threading.get_ident()
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        turns.next(0, [0])
    turns.close()
