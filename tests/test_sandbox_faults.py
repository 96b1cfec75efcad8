"""A failure of our machinery is not the program's: it is tried again, then told, and cleared up."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from taskgym.sandbox import (
    Job,
    Limits,
    Result,
    Sandbox,
    SandboxUnavailable,
    Status,
    link,
    pool,
    shared_sandbox,
)

ONE = "def strategy(n): return n + 1"
SLOW = "def strategy(n):\n    for _ in range(10**7): pass\n    return n"
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PAUSES_S", (0, 0, 0))


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(workers=1) as box:
        box.run(ONE, args=[0])
        yield box


def supervisor(box: Sandbox) -> int:
    """The process that forks children: below its stand-in where there is a pid namespace."""
    (each,) = box._idle
    return children(each.process.pid)[0] if "pid" in each.layers else each.process.pid


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def family(pid: int) -> set[int]:
    found = {pid}
    for each in children(pid):
        found |= family(each)
    return found


def living(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


def gone(pids: set[int]) -> bool:
    deadline = time.monotonic() + 10
    while living(pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not living(pids)


# --- a supervisor that fails ---------------------------------------------------------------------


@needs_proc
def test_a_dead_supervisor_is_replaced(box: Sandbox) -> None:
    os.kill(supervisor(box), signal.SIGKILL)
    assert box.run(ONE, args=[1]).value == 2
    os.kill(box._idle[0].process.pid, signal.SIGKILL)
    assert box.run(ONE, args=[1]).value == 2


@needs_proc
def test_a_supervisor_killed_at_work_costs_no_result(box: Sandbox) -> None:
    victim = supervisor(box)
    threading.Timer(0.05, os.kill, (victim, signal.SIGKILL)).start()
    result = box.run(SLOW, args=[4], limits=Limits(cpu_s=20, wall_s=60))
    assert result.value == 4 and supervisor(box) != victim


@needs_proc
def test_jobs_of_a_batch_survive_their_supervisor() -> None:
    with Sandbox(workers=1, isolation="batch") as box:
        box.map([Job(ONE, args=(0,))])
        threading.Timer(0.1, os.kill, (supervisor(box), signal.SIGKILL)).start()
        jobs = [Job(SLOW, args=(n,), limits=Limits(cpu_s=20, wall_s=60)) for n in range(6)]
        assert [result.value for result in box.map(jobs)] == list(range(6))


NO_FORKS = """
import os, resource
def play(task, call):
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    return os.getuid()
"""


@needs_proc
def test_a_supervisor_that_may_not_fork_is_replaced(tmp_path: Path) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text(NO_FORKS)
    with Sandbox(workers=1, drivers=[driver]) as box:
        if box.run(ONE, driver=driver).value == 0:
            pytest.skip("root may always fork")
        victim = supervisor(box)
        assert [box.run(ONE, args=[n]).value for n in range(4)] == [1, 2, 3, 4]
        assert supervisor(box) != victim


FAULTS = {
    "dies": "import os\ndef play(task, call): os._exit(1)",
    "speaks nonsense": "import os\ndef play(task, call): os.write(0, b'\\0\\0\\0\\7rubbish')",
    "speaks too much": "import os\ndef play(task, call):\n    while True: os.write(0, b'\\0' * 4)",
    "promises more": "import os\ndef play(task, call): os.write(0, b'\\xff' * 9); os._exit(0)",
    "hangs": "import time\ndef play(task, call): time.sleep(60)",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_machinery_that_fails_every_time_says_so(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "GRACE_S", 0.3)
    driver = tmp_path / "driver.py"
    driver.write_text(FAULTS[fault])
    job = Job(ONE, driver=driver, task=None, limits=Limits(wall_s=0.2))
    with Sandbox(workers=2, drivers=[driver]) as box:
        failed, fine = box.map([job, Job(ONE, args=(1,))])
        assert (failed.status, failed.value) == (Status.INFRA, None)
        assert failed.error_type == "SandboxUnavailable" and failed.error_message
        assert fine.value == 2
        with pytest.raises(SandboxUnavailable, match=r"supervisor|connection"):
            box.run(ONE, driver=driver, task=None, limits=Limits(wall_s=0.2))


def test_a_driver_that_does_not_load_is_told_at_once(tmp_path: Path) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text("import no_such_module")
    told = pytest.raises(SandboxUnavailable, match="No module named 'no_such_module'")
    with Sandbox(workers=1, drivers=[driver]) as box, told:
        box.run(ONE, args=[1])


def test_an_interpreter_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_BOOTSTRAP", Path("nowhere.py"))
    with Sandbox(workers=1) as box, pytest.raises(SandboxUnavailable, match=r"nowhere\.py"):
        box.run(ONE, args=[1])
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Sandbox(workers=1) as box, pytest.raises(SandboxUnavailable, match="cannot start"):
        box.run(ONE, args=[1])


def test_a_driver_cannot_be_made_to_take_all_memory(tmp_path: Path) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text("def play(task, call): return len(bytes(call()))")
    with Sandbox(workers=1, drivers=[driver]) as box:
        result = box.run("def strategy(): return 2**33", driver=driver)
        assert (result.status, result.error_type) == (Status.ERROR, "DriverError")
        assert "MemoryError" in str(result.error_message)
        roomy = Limits(memory_mb=2000)
        assert box.run("def strategy(): return len(bytes(15 * 10**8))", limits=roomy).ok


@needs_proc
def test_a_layer_that_was_asked_for_and_is_missing_stops_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a machine that has none of Linux's layers, as a supervisor is made to believe here."""
    feign = "import os, runpy, sys; sys.platform = 'plan9'; del os.pidfd_open; "
    feign += "runpy.run_path(sys.argv.pop(1), run_name="
    spawn = subprocess.Popen

    def elsewhere(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return spawn([*command[:-1], "-c", f"{feign}'__main__')", command[-1]], **options)

    monkeypatch.setattr(link.subprocess, "Popen", elsewhere)
    lacking = pytest.raises(SandboxUnavailable, match=r"lacks layers .*: seccomp")
    with Sandbox(workers=1, layers="strict") as box, lacking:
        box.run(ONE, args=[1])
    with Sandbox(workers=1) as box:
        assert box.layers == ("policy", "process", "rlimits")
        assert box.run(ONE, args=[1]).value == 2
        assert box.run("def strategy(n): raise ValueError(n)", args=[1]).error_line == 1
        limits = Limits(wall_s=0.3)
        assert box.run("while True: pass", limits=limits).status is Status.TIMEOUT


def test_other_platforms_are_refused_unless_that_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxUnavailable, match="allow_weak_isolation=True"):
        Sandbox(workers=1)
    Sandbox(workers=1, allow_weak_isolation=True)
    monkeypatch.delattr(os, "fork")
    with pytest.raises(SandboxUnavailable, match="needs fork"):
        Sandbox(workers=1, allow_weak_isolation=True)


@pytest.mark.parametrize(
    "wrong", [{"workers": 0}, {"isolation": "none"}, {"layers": "all"}, {"layers": ("selinux",)}]
)
def test_a_sandbox_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Sandbox(**wrong)


# --- the trainer's own ways ----------------------------------------------------------------------


@needs_proc
def test_close_leaves_no_process_and_no_descriptor() -> None:
    descriptors = set(os.listdir("/proc/self/fd"))
    box = Sandbox(workers=2)
    box.map([Job(ONE, args=(n,)) for n in range(8)])
    pids = {pid for each in box._idle for pid in family(each.process.pid)}
    assert pids
    box.close()
    assert gone(pids)
    assert set(os.listdir("/proc/self/fd")) == descriptors
    with pytest.raises(SandboxUnavailable, match="closed"):
        box.run(ONE, args=[1])


def test_close_answers_those_who_wait() -> None:
    box = Sandbox(workers=1)
    box.run(ONE, args=[1])
    threading.Timer(0.2, box.close).start()
    began = time.monotonic()
    limits = Limits(cpu_s=50, wall_s=50)
    results = box.map([Job("while True: pass", limits=limits), Job(ONE, args=(1,))] * 2)
    assert {result.status for result in results} == {Status.INFRA}
    assert time.monotonic() - began < 20


@needs_proc
def test_a_forgotten_sandbox_leaves_no_process() -> None:
    box = Sandbox(workers=1)
    box.run(ONE, args=[1])
    pids = family(box._idle[0].process.pid)
    del box
    assert gone(pids)


BUSY = {
    "with a program": """limits=Limits(cpu_s=60, wall_s=60)""",
    "with a driver": """driver=DRIVER""",
}


@needs_proc
@pytest.mark.parametrize("busy", BUSY)
def test_nothing_outlives_a_trainer_that_is_killed(busy: str, tmp_path: Path) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text("def play(task, call):\n    while True: pass")
    source = "while True: pass" if "program" in busy else ONE
    script = f"""
    from taskgym.sandbox import Sandbox, Limits
    DRIVER = {str(driver)!r}
    box = Sandbox(workers=1, drivers=[DRIVER])
    box.run({ONE!r}, args=[1])
    print(box._idle[0].process.pid, flush=True)
    box.run({source!r}, {BUSY[busy]})
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout
        first = int(trainer.stdout.readline())
        time.sleep(0.2)
        pids = family(first)
        trainer.kill()
    assert len(pids) > 1 and gone(pids)


@needs_proc
def test_a_forked_process_starts_its_own_supervisors(box: Sandbox) -> None:
    shared_sandbox().run(ONE, args=[1])
    before = family(box._idle[0].process.pid)
    pid = os.fork()
    if pid == 0:
        try:
            values = [each.run(ONE, args=[1]).value for each in (box, shared_sandbox())]
            box.close()
        finally:
            os._exit(0 if values == [2, 2] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert box._idle and living(before) == before
    assert box.run(ONE, args=[1]).value == 2


class Squares(gym.Env[int, int]):
    """A stand-in for an environment that runs programs."""

    observation_space = action_space = gym.spaces.Discrete(1000)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        result = shared_sandbox().run("def strategy(n): return n * n", args=[int(action)])
        return 0, float(result.value), True, False, {}


@needs_proc
def test_async_vector_envs_share_nothing_with_the_trainer() -> None:
    shared_sandbox().run(ONE, args=[1])
    envs = gym.vector.AsyncVectorEnv([Squares, Squares], context="fork")
    try:
        envs.reset()
        assert envs.step([3, 4])[1].tolist() == [9, 16]
    finally:
        envs.close()
    assert shared_sandbox().run(ONE, args=[1]).value == 2


@needs_proc
def test_an_interrupted_wait_does_not_mix_up_answers(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: link.Link) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(link.Link, "_receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            box.run(ONE, args=[100])
    assert box.run(ONE, args=[1]).value == 2


@needs_proc
def test_signals_that_the_trainer_ignores_or_blocks_do_not_matter() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGTERM])
    try:
        with Sandbox(workers=1) as box:
            results: list[Result] = [box.run(ONE, args=[n]) for n in range(3)]
    finally:
        signal.signal(signal.SIGCHLD, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert [result.value for result in results] == [1, 2, 3]
