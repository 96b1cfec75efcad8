"""Episodes in another process: what is lost when it dies (nothing), and what its caller hears."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from taskgym.agents.episode import Start, Trajectory
from taskgym.agents.worker import RolloutWorker, WorkerError
from worker_rollouts import hanging_rollout, slow_rollout

Opened = Callable[..., RolloutWorker]


@pytest.fixture
def opened() -> Iterator[Opened]:
    workers: list[RolloutWorker] = []

    def open_worker(open_rollout: Any, **options: Any) -> RolloutWorker:
        workers.append(RolloutWorker(open_rollout, **options))
        return workers[-1]

    yield open_worker
    for worker in workers:
        worker.close()
        assert gone(worker.pid), "the process outlived its worker"


def gone(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def starts(n: int, group: int = 0) -> list[Start]:
    return [Start(7, None, 100 + member, group, member) for member in range(n)]


def played(worker: RolloutWorker, n: int, seconds: float = 60.0) -> list[Trajectory]:
    """So many episodes, and those that come with them."""
    found: list[Trajectory] = []
    deadline = time.monotonic() + seconds
    while len(found) < n:
        assert time.monotonic() < deadline, f"{len(found)} of {n} episodes in {seconds} s"
        found += worker.receive(1.0)
    return found


def pids(trajectories: list[Trajectory]) -> set[str]:
    return {t.messages[-1]["content"].split()[1] for t in trajectories}  # type: ignore[union-attr]


def test_a_killed_process_loses_no_episode_and_plays_none_twice(opened: Opened) -> None:
    worker = opened(partial(slow_rollout, "Arithmetic-v0", 0.05))
    worker.load_adapter(None, 5)
    worker.start(starts(20))
    before = played(worker, 3)
    os.kill(worker.pid or 0, signal.SIGKILL)
    after = played(worker, 20 - len(before))
    assert Counter(t.start.member for t in before + after) == Counter(range(20))
    assert worker.restarts == 1 and len(pids(before + after)) == 2
    assert {v for t in before + after for v in t.versions} == {5}, "the adapter was forgotten"
    assert len({t.start_hash for t in before + after}) == 1, "equal starts were not equal tasks"
    asked = {t.start.member: t.messages[-1]["content"].split()[0] for t in before + after}  # type: ignore[union-attr]
    assert len(set(asked.values())) == 20
    assert worker.receive(0.3) == []


def test_an_answer_that_is_waited_for_comes_from_the_next_process(
    opened: Opened, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    worker = opened(partial(slow_rollout, "Arithmetic-v0", 0.2, order))
    worker.load_adapter(None, 3)
    order.write_text(str(int(signal.SIGKILL)))  # of which it dies when it is asked
    assert worker.score([1, 2, 3, 4]) == [3.0, 4.0]
    assert worker.restarts == 1


def test_a_process_that_fails_again_and_again_ends_with_its_own_words(
    opened: Opened, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    worker = opened(partial(slow_rollout, "Arithmetic-v0", 0.0, order))
    worker.start(starts(1))
    assert len(played(worker, 1)) == 1
    order.write_text("raise")
    worker.start(starts(1, group=1))
    with pytest.raises(WorkerError, match=r"died 4 times[\s\S]*the policy broke"):
        played(worker, 1)
    with pytest.raises(WorkerError, match="the policy broke"):
        worker.score([1])


@pytest.mark.slow
def test_a_process_that_hangs_is_replaced(opened: Opened, tmp_path: Path) -> None:
    worker = opened(partial(hanging_rollout, tmp_path / "order"), patience=4.0)
    worker.start(starts(2))
    assert len(played(worker, 2)) == 2
    assert worker.restarts == 1


def test_trouble_with_what_the_process_depends_on_reaches_the_caller(opened: Opened) -> None:
    def tend() -> None:
        raise RuntimeError("the server died for good")

    worker = opened(partial(slow_rollout, "Arithmetic-v0", 0.0), tend=tend)
    worker.start(starts(1))
    with pytest.raises(WorkerError, match="the server died for good"):
        while True:
            worker.receive(5.0)


def test_a_worker_that_is_closed_while_it_starts_leaves_no_process(opened: Opened) -> None:
    opened(partial(slow_rollout, "Arithmetic-v0", 0.0))
