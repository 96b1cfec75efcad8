"""The worker processes: hard limits, crashes, threads, forks and alarms."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from taskgym.envs import answer_pool
from taskgym.envs.answers import Verdict, compare

HANG = ("10^{10^{10}}", "10^{10^{9}}+1")
HARD = ("\\sum_{k=1}^{n} k", "\\frac{n(n+1)}{2}")  # beyond the exact rules


@pytest.fixture(autouse=True, scope="module")
def _warm():
    """Start one worker first, so that no test measures the import of sympy."""
    assert compare(*HARD, timeout=60) is Verdict.EQUAL


@pytest.fixture
def fresh_pool(monkeypatch):
    pool = answer_pool.Pool(1)
    monkeypatch.setattr(answer_pool, "_pool", pool)
    yield pool
    pool.close()


def fake_worker(monkeypatch, code):
    monkeypatch.setattr(answer_pool, "_COMMAND", [sys.executable, "-S", "-c", code])


def gone(pid: int) -> bool:
    for _ in range(400):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_an_overrun_is_killed_within_its_limit():
    start = time.monotonic()
    assert compare(*HANG, timeout=0.5) is Verdict.TIMEOUT
    assert time.monotonic() - start < 1.0
    assert compare(*HARD, timeout=60) is Verdict.EQUAL


def test_a_worker_start_is_not_charged_to_the_answer(fresh_pool):
    assert compare("\\int_0^1 x dx", "\\frac{1}{2}+0", timeout=5) is Verdict.EQUAL


def test_a_timeout_is_not_cached(monkeypatch):
    assert compare(*HANG, timeout=0.2) is Verdict.TIMEOUT
    monkeypatch.setattr(answer_pool.Pool, "ask", lambda *_: "different")
    assert compare(*HANG, timeout=0.2) is Verdict.DIFFERENT


def test_a_crashed_worker_is_retried_once(fresh_pool, monkeypatch, tmp_path):
    crashed = tmp_path / "crashed"
    fake_worker(
        monkeypatch,
        f"import os, sys; print('ready', flush=True); sys.stdin.readline(); p = {str(crashed)!r}\n"
        "if not os.path.exists(p): open(p, 'w').close(); os._exit(3)\n"
        "print('equal', flush=True); sys.stdin.readline()",
    )
    assert compare(*HARD) is Verdict.EQUAL
    assert crashed.exists()


def test_a_worker_that_always_crashes_is_an_error(fresh_pool, monkeypatch, tmp_path):
    starts = tmp_path / "starts"
    fake_worker(monkeypatch, f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(1)")
    assert compare(*HARD) is Verdict.ERROR
    assert starts.read_text() == "xx"
    assert not fresh_pool.workers


def test_a_worker_killed_between_answers_goes_unnoticed(fresh_pool):
    assert compare("\\int_0^2 x dx", "2", timeout=60) is Verdict.EQUAL
    next(iter(fresh_pool.workers)).process.kill()
    assert compare("\\int_0^4 x dx", "8", timeout=60) is Verdict.EQUAL


@pytest.mark.slow
def test_an_answer_that_eats_memory_is_an_answer_verdict():
    verdict = compare("7", "\\sum_{k=1}^{5} 10^{10^{k+7}}", timeout=1.0)
    assert verdict in (Verdict.DIFFERENT, Verdict.UNPARSED, Verdict.TIMEOUT)


def test_every_thread_may_ask():
    verdicts = {}

    def ask(i: int) -> None:
        verdicts[i] = compare(f"\\int_0^{i} 2x dx", str(i * i), timeout=60)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert set(verdicts.values()) == {Verdict.EQUAL} and len(verdicts) == 8


def test_an_outer_alarm_survives():
    rung = []
    old = signal.signal(signal.SIGALRM, lambda *_: rung.append(time.monotonic()))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        assert compare(*HANG, timeout=0.6) is Verdict.TIMEOUT
        assert len(rung) == 1
        signal.setitimer(signal.ITIMER_REAL, 50)
        assert compare("\\int_0^1 4x dx", "2", timeout=60) is Verdict.EQUAL
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_an_alarm_that_raises_leaves_no_stale_reply(fresh_pool):
    def ring(*_):
        raise LookupError("outer limit")

    assert compare("\\int_0^1 6x dx", "3", timeout=60) is Verdict.EQUAL
    old = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(LookupError, match="outer limit"):
            compare(*HANG, timeout=5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert compare("\\int_0^1 8x dx", "4", timeout=60) is Verdict.EQUAL


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_daemonic_process_may_ask(method):
    with multiprocessing.get_context(method).Pool(1) as daemons:  # a Pool's workers are daemonic
        asked = daemons.apply_async(compare, HARD, {"timeout": 60})
        assert asked.get(timeout=120) is Verdict.EQUAL


def test_a_forked_child_has_its_own_pool_and_leaves_ours_alone():
    workers = set(answer_pool.shared().workers)
    pid = os.fork()
    if pid == 0:
        good = not any(w in answer_pool.shared().workers for w in workers)
        good = good and compare(*HARD, timeout=60) is Verdict.EQUAL
        os._exit(0 if good else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert compare("\\int_0^1 10x dx", "5", timeout=60) is Verdict.EQUAL


PARENT = """
import os, sys, threading
from taskgym.envs import answer_pool
from taskgym.envs.answers import compare
compare("\\\\int_0^1 x dx", "1/3", timeout=60)
print(*(w.process.pid for w in answer_pool.shared().workers), flush=True)
{end}
"""


@pytest.mark.parametrize(
    "end",
    [
        "sys.exit(0)",
        pytest.param("os.kill(os.getpid(), 9)", marks=pytest.mark.slow),
        # a process forked off must not keep the pipes to the workers open
        pytest.param(
            "os.fork() or (__import__('time').sleep(8), os._exit(0)); os._exit(0)",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_workers_end_with_their_parent(end):
    code = PARENT.format(end=end)
    # a pipe that is read to its end would wait for the forked process, so only its first line is
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        process.wait(60)
    assert pids and all(map(gone, pids))


@pytest.mark.slow
def test_a_hung_worker_ends_soon_after_its_parent_died():
    code = PARENT.format(
        end=f"threading.Timer(0.3, os._exit, (0,)).start(); compare(*{HANG!r}, timeout=1)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=False
    ).stdout
    assert all(gone(int(word)) for word in output.split())
