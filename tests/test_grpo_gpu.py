"""What `benchmarks/grpo_gpu.py` computes without a GPU: its work, its table, its profile."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

gpu_profile = pytest.importorskip("gpu_profile", reason="the benchmarks lie in a checkout alone")
grpo_gpu_table = pytest.importorskip("grpo_gpu_table")
grpo_gpu_work = pytest.importorskip("grpo_gpu_work")


def result(contender: str, walls: list[float], **phases: float) -> dict[str, Any]:
    measured = [{"wall": wall, **phases} for wall in walls]
    work = {"completions": 32, "tokens": 6400, "device": "cpu", "shape": "tiny", "layers": 0}
    work |= {"micro": 8, "engine": "graphs", "cache": 1.0}
    return {"contender": contender, "measured": measured, **work}


@pytest.mark.parametrize("completions", [32, 256])
def test_every_size_has_one_skewed_distribution_of_lengths(completions):
    tokens = sorted(grpo_gpu_work.lengths(completions))
    mean = sum(tokens) / completions
    assert mean == pytest.approx(199, rel=0.02)
    assert tokens[completions // 2] < mean
    assert tokens[0] >= grpo_gpu_work.LEAST
    assert 0 < tokens.count(grpo_gpu_work.MOST) / completions < 0.1


def test_a_group_of_different_texts_never_has_equal_rewards():
    rewards = {grpo_gpu_work.fraction(f"{i} pencils") for i in range(256)}
    assert len(rewards) == 256
    assert all(0 <= reward < 1 for reward in rewards)


def test_what_no_phase_counts_is_learning():
    phases = grpo_gpu_table.phases_of(result("ours", [6.0, 5.0, 9.0], generate=3.0, sync=0.5))
    assert phases["learn"] == pytest.approx(2.5)


def test_the_bound_is_what_the_on_policy_run_could_overlap():
    on_policy = result("ours", [6.5], generate=3.5, score=0.5, sync=0.5)  # and 2 s of learning
    stale = result("ours-stale", [6.5 / 1.2], generate=4.0, learn=2.0)
    assert grpo_gpu_table.bound_of(on_policy) == pytest.approx(1.5)
    text = grpo_gpu_table.table([on_policy, stale])
    assert "1.20x its on-policy run; bound 1.50x; 80%" in text


def test_ratios_are_to_the_peer_of_the_same_size_and_failures_are_left_out():
    failed = {"contender": "unsloth", "completions": 32, "why": "out of memory"}
    rows = [result("trl", [6.0], generate=3.0), result("ours", [4.0], generate=3.0), failed]
    lines = grpo_gpu_table.table(rows).splitlines()
    assert next(line for line in lines if line.split()[0] == "ours").split()[2] == "1.50"
    assert "unsloth" not in "".join(lines)
    assert "out of memory" in grpo_gpu_table.line(failed)


def test_overlapping_kernels_count_once_as_busy():
    events = [("a", True, 0, 4), ("b", True, 2, 4), ("c", True, 8, 2), ("op", False, 0, 9)]
    assert gpu_profile.covered((start, start + took) for _, gpu, start, took in events if gpu) == 8
    seconds = [(name, gpu, start * 10**9, took * 10**9) for name, gpu, start, took in events]
    assert gpu_profile.summary(seconds, 16.0).startswith("GPU busy 8.00 s of 16.00 s (50%)")
