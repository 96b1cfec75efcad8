"""Slow proofs: a real model learns, a killed run resumes, real rows train end to end."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from taskgym.training.folder import RunFolder
from taskgym.training.metrics import MetricsFile

pytestmark = pytest.mark.slow
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "math"
TRAIN = [sys.executable, "-m", "taskgym.training.commands.train_agent"]


def train(*flags: str, cwd: Path, seconds: int = 1500) -> RunFolder:
    done = subprocess.run(
        [*TRAIN, *flags], cwd=cwd, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    (config,) = cwd.glob("runs/*/config.yaml")
    return RunFolder(config.parent)


def test_a_real_model_learns_arithmetic(smollm2: Path, tmp_path: Path) -> None:
    folder = train("--env", "Arithmetic-v0", "--seed", "0", cwd=tmp_path)
    scores = json.loads(folder.evaluation.read_text())
    before, after = scores["before"], scores["after"]
    assert after["tasks"] >= 200
    sampled = [s["sampled"]["accuracy"]["mean"] for s in (before, after)]
    value = [s["greedy"]["components"]["value"]["mean"] for s in (before, after)]
    assert sampled[1] - sampled[0] >= 0.40, sampled
    assert value[1] - value[0] >= 0.10, value


def small_run(model: Path) -> list[str]:
    """A short run with every stage: warm-up, evaluation, GRPO with checkpoints."""
    flags = (
        "--env Arithmetic-v0 --steps 8 --save-every 2 --evaluation.tasks 8 --evaluation.samples 2"
    )
    sizes = "--grpo.groups-per-step 4 --grpo.num-generations 4 --grpo.micro-batch 16"
    return [*flags.split(), *sizes.split(), "--model", str(model)]


def tokens(folder: RunFolder) -> list[Any]:
    lines = folder.episodes.read_text().splitlines()
    return [json.loads(line)["completion_ids"] for line in lines]


@pytest.mark.parametrize("stage", ["config.yaml", "metrics.jsonl"])
def test_a_killed_run_ends_with_the_tokens_of_an_unbroken_one(
    stage: str, smollm2: Path, tmp_path: Path
) -> None:
    whole_dir, killed_dir = tmp_path / "whole", tmp_path / "killed"
    whole_dir.mkdir()
    killed_dir.mkdir()
    flags = small_run(smollm2)
    whole = train(*flags, cwd=whole_dir)
    process = subprocess.Popen([*TRAIN, *flags], cwd=killed_dir, stderr=subprocess.DEVNULL)
    while not list(killed_dir.glob(f"runs/*/{stage}")):
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.1)
    moment = random.SystemRandom().uniform(0, 6)
    time.sleep(moment)
    assert process.poll() is None, "ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = train("--resume", cwd=killed_dir)
    assert [s["step"] for s in MetricsFile(resumed.metrics).read().steps] == list(range(1, 9))
    assert tokens(resumed) == tokens(whole), f"killed {moment:.1f} s after {stage} was there"
    assert json.loads(resumed.evaluation.read_text()).keys() == {"before", "after"}


def test_ctrl_c_saves_and_says_how_to_resume(smollm2: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*TRAIN, *small_run(smollm2)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    while not list(tmp_path.glob("runs/*/metrics.jsonl")):
        assert process.poll() is None
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "Go on with: train_agent --resume runs/" in said
    (report,) = tmp_path.glob("runs/*/report.html")
    folder = RunFolder(report.parent)
    assert folder.checkpoint() is not None and folder.adapter.exists() and not folder.finished


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("env", "data"),
    [("Math-GSM8K-v0", "gsm8k_train.jsonl"), ("Math-DAPO-v0", "dapo_math_17k.parquet")],
)
def test_real_rows_train_end_to_end(env: str, data: str, smollm2: Path, tmp_path: Path) -> None:
    flags = ["--env", env, "--data", str(SHARED / data), "--steps", "2"]
    folder = train(*flags, "--sampling.max-tokens", "64", cwd=tmp_path)
    assert len(MetricsFile(folder.metrics).read().steps) == 2


def test_a_dataset_env_without_data_trains_on_its_sample_rows(
    smollm2: Path, tmp_path: Path
) -> None:
    folder = train(
        "--env", "Math-DAPO-v0", "--steps", "2", "--sampling.max-tokens", "64", cwd=tmp_path
    )
    assert folder.finished
