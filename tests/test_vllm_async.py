"""Whole asynchronous runs beside vLLM's own server, as a person starts, kills and resumes them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from taskgym.training.folder import RunFolder
from taskgym.training.metrics import MetricsFile

pytest.importorskip("vllm")
pytestmark = pytest.mark.vllm

P, G, K = 2, 4, 3
TESTS = Path(__file__).resolve().parent
RUN = (
    f"--env letters:Letters-v0 --policy server --grpo.max-staleness {K} --steps 12 "
    f"--grpo.groups-per-step {P} --grpo.num-generations {G} --grpo.micro-batch 4 "
    "--grpo.no-mask-truncated-completions --grpo.learning-rate 1e-3 --sampling.max-tokens 8 "
    "--max-model-len 256 --evaluation.tasks 0 --save-every 3"
).split()


def start(*flags: str, cwd: Path) -> "subprocess.Popen[str]":
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "taskgym.training.commands.train_agent", *flags],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(run: "subprocess.Popen[str]", code: int) -> str:
    said, _ = run.communicate(timeout=900)
    assert run.returncode == code, said[-6000:]
    return said


def until(true: Callable[[], object], run: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 900
    while not true():
        assert run.poll() is None, ended(run, 0)
        assert time.monotonic() < deadline
        time.sleep(0.1)


def children(parent: int, part: str) -> list[int]:
    told = subprocess.run(["ps", "-wweo", "pid=,ppid=,args="], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in told.stdout.splitlines()]
    return [int(pid) for pid, ppid, args in rows if ppid == str(parent) and part in args]


def steps(folder: Path) -> list[Any]:
    found = list(folder.glob("runs/*/metrics.jsonl"))
    return MetricsFile(found[0]).read().steps if found else []


def test_a_run_survives_its_worker_its_server_and_an_interrupt(
    small_model: Path, tmp_path: Path
) -> None:
    run = start(*RUN, "--model", str(small_model), cwd=tmp_path)
    try:
        until(lambda: len(steps(tmp_path)) >= 2, run)
        (worker,) = children(run.pid, "spawn_main")
        os.kill(worker, signal.SIGKILL)
        until(lambda: len(steps(tmp_path)) >= 5, run)
        (server,) = children(run.pid, "vllm.entrypoints")
        os.killpg(server, signal.SIGKILL)
        until(lambda: len(steps(tmp_path)) >= 7, run)
        run.send_signal(signal.SIGINT)
        said = ended(run, 130)
    finally:
        run.kill()
    assert said.count("the rollout worker died") == 1 and "server died" in said
    assert not children(1, "spawn_main"), "a worker outlived its run"
    stopped = len(steps(tmp_path))
    (config,) = tmp_path.glob("runs/*/config.yaml")
    resumed = start("--resume", str(config.parent), cwd=tmp_path)
    ended(resumed, 0)
    assert sum(step["sampling/restarts"] for step in steps(tmp_path)) == 1
    assert 7 <= stopped < 12
    look_at(RunFolder(config.parent))


def look_at(folder: RunFolder) -> None:
    """Every step learned from what it should: whole groups, none twice, none too old."""
    assert folder.finished and folder.adapter.exists() and not (folder.path / "worker").exists()
    told = MetricsFile(folder.metrics).read().steps
    assert [step["step"] for step in told] == list(range(1, 13))
    assert all(step["sampling/canary_gap"] < 1e-3 for step in told)
    assert max(step["sampling/staleness_max"] for step in told) <= K
    episodes = [json.loads(line) for line in folder.episodes.read_text().splitlines()]
    gaps = [e["step"] - 1 - v for e in episodes for v in e["adapter_versions"]]
    assert 0 < max(gaps) <= K and min(gaps) >= 0
    assert Counter(e["step"] for e in episodes) == dict.fromkeys(range(1, 13), P * G)
    members = Counter((e["group"], e["member"]) for e in episodes)
    assert members == dict.fromkeys(((n, m) for n in range(12 * P) for m in range(G)), 1)
    for step in told:  # what the learner thinks of the tokens is what the sampler said of them
        assert step["reward"] > 0 and step["grad_norm"] > 0
        assert abs(step["ratio"] - 1) < 0.2
