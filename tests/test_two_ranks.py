"""Two processes train one run on a CPU, through gloo: what one would have done, and how it ends."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from taskgym.training.folder import RunFolder
from taskgym.training.metrics import MetricsFile

pytest.importorskip("torch")

# Envs as a user would write them, in a file of the working directory.
ENVS = """
import os
import signal
import time

import gymnasium as gym
from taskgym.envs import Rubric, SingleTurnEnv


def letters(completion, task):
    return float(completion.strip().isalpha())


class Letters(SingleTurnEnv):
    rubric = Rubric({"letters": (letters, 1.0)})

    def load(self):
        return [{"question": f"Spell {n}.", "answer": "x"} for n in range(20)]


class Uneven(Letters):
    def load(self):
        return [{"question": f"Spell {n}. " * (1 + n * n % 23), "answer": "x"} for n in range(20)]


class Slow(Letters):
    def step(self, action):
        time.sleep(0.3)
        return super().step(action)


class Killed(Letters):
    def step(self, action):
        if os.environ["RANK"] == os.environ["KILL"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


gym.register("Letters-v0", Letters)
gym.register("Uneven-v0", Uneven)
gym.register("Slow-v0", Slow)
gym.register("Killed-v0", Killed)
"""
# A command whose first process is slow to write its report, for others to end meanwhile.
SLOW_REPORT = """
import sys
import time
from pathlib import Path

from taskgym.training import train
from taskgym.training.commands.train_agent import main

write = train.write_report


def write_slowly(path):
    time.sleep(2)
    return write(path)


train.write_report = write_slowly
main()
assert [*Path("runs").glob("*/report.html")], "one left before the other was done"
left = [p.read_text() for p in Path("/proc/self/task").glob("*/comm")]
assert left and not any("gloo" in name for name in left), left
print("all was written, and no thread is left", file=sys.stderr)
"""
SIZES = "--grpo.num-generations 4 --grpo.groups-per-step 4 --grpo.micro-batch 4 --lora.rank 4"
LEARN = "--grpo.learning-rate 1e-2 --grpo.no-mask-truncated-completions --save-every 2"
WARM = "--warmup.data gold --warmup.max-rows 8 --warmup.steps 3 --warmup.learning-rate 1e-2"
SCORE = "--evaluation.tasks 3 --evaluation.samples 2"
# Two tokens are letters or not in the whole group now and then, so some groups are replaced.
FLAGS = [*f"{SIZES} {LEARN} {WARM} {SCORE} --sampling.max-tokens 2".split()]
FRESH = ["--grpo.max-fresh-groups", "3"]


def launcher(size: int) -> list[str]:
    if size == 1:
        return [sys.executable]
    several = ["--standalone", f"--nproc-per-node={size}"]
    return [sys.executable, "-m", "torch.distributed.run", *several]


def command(size: int, *flags: str) -> list[str]:
    return [*launcher(size), "-m", "taskgym.training.commands.train_agent", *flags]


def flags(model: Path, env: str = "Letters-v0", steps: int = 3) -> list[str]:
    return ["--env", f"ranks_env:{env}", "--model", str(model), "--steps", str(steps), *FLAGS]


def run(size: int, *flags: str, cwd: Path) -> RunFolder:
    cwd.mkdir(exist_ok=True)
    (cwd / "ranks_env.py").write_text(ENVS)
    done = subprocess.run(
        command(size, *flags), cwd=cwd, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    (path,) = cwd.glob("runs/*/config.yaml")  # and no second folder
    assert done.stdout.count("run folder:") == done.stdout.count("report:") == 1
    return RunFolder(path.parent)


def episodes(folder: RunFolder) -> dict[Any, Any]:
    """Where each episode started -> what was said and what it earned."""
    records = [json.loads(line) for line in folder.episodes.read_text().splitlines()]
    return {
        tuple(r[name] for name in ("step", "group", "member", "seed", "index", "sample_seed")): (
            r["completion_ids"],
            r["reward"],
        )
        for r in records
    }


def metrics(folder: RunFolder) -> list[dict[str, float]]:
    """All that does not depend on a clock."""
    clock = ("seconds", "step_time", "tokens_per_second", "sampling/")
    steps: list[Any] = MetricsFile(folder.metrics).read().steps
    return [{k: v for k, v in step.items() if not k.startswith(clock)} for step in steps]


def check_same_metrics(one: RunFolder, two: RunFolder) -> None:
    for alone, together in zip(metrics(one), metrics(two), strict=True):
        # Adam makes much of a gradient that is nearly 0, and so of how it was rounded.
        assert together.pop("grad_norm") == pytest.approx(alone.pop("grad_norm"), rel=0.1)
        assert together == pytest.approx(alone, rel=1e-2, abs=1e-4)


def check_same(one: RunFolder, two: RunFolder, atol: float) -> None:
    import torch
    from safetensors.torch import load_file

    assert episodes(one) == episodes(two) and len(episodes(one)) >= 48
    check_same_metrics(one, two)
    for name in ("warmup", "adapter"):
        tensors = load_file(one.path / name / "adapter_model.safetensors")
        others = load_file(two.path / name / "adapter_model.safetensors")
        assert max(t.abs().max() for n, t in tensors.items() if "lora_B" in n) > 1e-2
        for key, tensor in tensors.items():
            torch.testing.assert_close(others[key], tensor, rtol=0, atol=atol)
    scores = [json.loads(f.evaluation.read_text()) for f in (one, two)]
    for when in ("before", "after"):
        for way in ("sampled", "greedy"):
            alone, together = (s[when][way]["reward"] for s in scores)
            assert together == pytest.approx(alone, abs=1e-6)


@pytest.mark.slow
def test_two_processes_do_what_one_does(tiny_model: Path, tmp_path: Path) -> None:
    wanted = [*flags(tiny_model), *FRESH]
    one, two = (run(size, *wanted, cwd=tmp_path / str(size)) for size in (1, 2))
    assert sum(step["groups/replaced"] for step in metrics(one)) > 0
    check_same(one, two, atol=1e-3)
    assert two.finished and (two.path / "report.html").exists()


@pytest.mark.slow
def test_processes_end_together_and_leave_no_thread_of_their_transport(
    tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "ranks_env.py").write_text(ENVS)
    process = start_with_slow_report(*flags(tiny_model), cwd=tmp_path)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-4000:]
    assert errors.count("all was written, and no thread is left") == 2


@pytest.mark.slow
def test_processes_with_rows_of_unlike_length_look_at_equally_many_at_a_time(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_DEBUG_MODE", "1")  # tensors that are gathered have one shape
    wanted = [
        *flags(tiny_model, "Uneven-v0"),
        *["--grpo.groups-per-step", "8", "--grpo.micro-batch", "2"],
    ]
    one, two = (run(size, *wanted, cwd=tmp_path / str(size)) for size in (1, 2))
    check_same(one, two, atol=1e-3)


@pytest.mark.vllm
def test_two_engines_of_vllm_do_what_one_does(small_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    wanted = [*flags(small_model), "--policy", "vllm", "--max-model-len", "256"]
    one, two = (run(size, *wanted, cwd=tmp_path / str(size)) for size in (1, 2))
    check_same(one, two, atol=1e-3)


@pytest.mark.slow
def test_an_interrupt_of_the_launcher_saves_once_and_any_number_goes_on(
    tiny_model: Path, tmp_path: Path
) -> None:
    whole = run(1, *flags(tiny_model, steps=4), cwd=tmp_path / "whole")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "ranks_env.py").write_text(ENVS)
    process = start(command(2, *flags(tiny_model, "Slow-v0", steps=4)), broken)
    wait_for(broken, "runs/*/metrics.jsonl")
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert said.count("stopped and saved. Go on with: train_agent --resume") == 1
    assert errors.count("ending this step, then saving") == 1
    (path,) = broken.glob("runs/*/config.yaml")
    assert RunFolder(path.parent).checkpoint() is not None
    resumed = run(1, "--resume", cwd=broken)
    check_same_metrics(whole, resumed)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_all_at_once(
    rank: int, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILL", str(rank))
    (tmp_path / "ranks_env.py").write_text(ENVS)
    process = start_with_slow_report(*flags(tiny_model, "Killed-v0"), cwd=tmp_path)
    wait_for(tmp_path, "runs/*/config.yaml")
    began = time.monotonic()
    said, errors = process.communicate(timeout=120)
    assert process.returncode != 0 and time.monotonic() - began < 45
    if rank == 1:  # the first is left to say it
        assert "error in process 0 of 2: " in errors and "Go on with: train_agent" in errors
        assert said.count("report:") == 1


def start(command: list[str], cwd: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, stdout=pipe, stderr=pipe, text=True)


def start_with_slow_report(*flags: str, cwd: Path) -> subprocess.Popen[str]:
    (cwd / "slow_report.py").write_text(SLOW_REPORT)
    return start([*launcher(2), "slow_report.py", *flags], cwd)


def wait_for(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern} in two minutes"
        time.sleep(0.1)
